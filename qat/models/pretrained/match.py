"""The map between a checkpoint's tensors and the parameters of `qat.models.bert`."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

MODULES = {
    "embeddings/word": "embeddings.word_embeddings",
    "embeddings/position": "embeddings.position_embeddings",
    "embeddings/token_type": "embeddings.token_type_embeddings",
    "embeddings/norm": "embeddings.LayerNorm",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
    "pooler": "pooler.dense",
}
LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
LAYER = re.compile(r"layer_(\d+)/")
OLD = {".gamma": ".weight", ".beta": ".bias"}  # of LayerNorm, in the first checkpoints
HEADS = ("cls.", "classifier.", "qa_outputs.", "pooler.")
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
FLOATS = ("F16", "BF16", "F32", "F64")
MOST_LISTED = 20

type Shape = tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """Names of tensors by the path of their parameter; tensors that are left out; parameters that stay random."""

    names: Mapping[str, str]
    left_out: tuple[str, ...]
    random: tuple[str, ...]


def checkpoint_name(path: str) -> str | None:
    """The Hugging Face name of the parameter at a path (`encoder/layer_0/output/kernel`); None of the classifier's."""
    module, _, leaf = path.removeprefix("encoder/").rpartition("/")
    if module == "classifier":
        return None
    layer = LAYER.match(module)
    prefix = f"encoder.layer.{layer[1]}." if layer else ""
    return f"{prefix}{MODULES[LAYER.sub('', module)]}.{LEAVES[leaf]}"


def stored_shape(path: str, shape: Shape) -> Shape:
    """The shape that a parameter has in a checkpoint: kernels are transposed, heads are joined."""
    if path.endswith("/kernel"):
        return (math.prod(shape[1:]), shape[0])
    return shape if path.endswith("/embedding") else (math.prod(shape),)


def match(parameters: Mapping[str, Shape], tensors: Mapping[str, tuple[Shape, str]]) -> Match:
    """The tensors, given by shape and dtype, that are the parameters, given by shape.

    Raises `ValueError` that lists all tensors that are missing, unexpected or misshapen.
    """
    plain = {_plain(name): name for name in tensors}
    wanted = {path: name for path in parameters if (name := checkpoint_name(path)) is not None}
    rest = [name for name in plain if name not in wanted.values()]
    left_out = [name for name in rest if name in BUFFERS or name.startswith(HEADS)]
    both = {path: name for path, name in wanted.items() if name in plain}
    problems = {
        "missing": [name for name in wanted.values() if name not in plain],
        "unexpected": [plain[name] for name in rest if name not in left_out],
        "misshapen": [
            f"{plain[name]} is {dtype}{list(found)}, expected {list(shape)}"
            for path, name in both.items()
            for (found, dtype), shape in [(tensors[plain[name]], stored_shape(path, parameters[path]))]
            if found != shape or dtype not in FLOATS
        ],
    }
    lines = [f"{kind} ({len(names)}): {_listed(names)}" for kind, names in problems.items() if names]
    if any(name.startswith("pooler.") for name in problems["missing"]):
        lines.append("A checkpoint without a pooler fits a bert with pooling='mean'.")
    if lines:
        raise ValueError("\n".join(lines))
    return Match(
        names={path: plain[name] for path, name in wanted.items()},
        left_out=tuple(sorted(plain[name] for name in left_out)),
        random=tuple(sorted(path for path in parameters if path not in wanted)),
    )


def _plain(name: str) -> str:
    """A tensor's name without the model's, and as it is called today."""
    name = name.removeprefix("bert.")
    for old, new in OLD.items():
        name = name.removesuffix(old) + new if name.endswith(f"LayerNorm{old}") else name
    return name


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more

"""The numbers that make one BERT another's like: of a checkpoint's `config.json`, and of a model's variables."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from qat.fileio import parse_json, read_bytes
from qat.models.bert import EPSILON, SIZES, Size

NUMBERS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
}
SUPPORTED: dict[str, tuple[Any, ...]] = {  # the first is what a missing field means
    "model_type": ("bert",),
    "hidden_act": ("gelu", "gelu_python"),
    "position_embedding_type": ("absolute",),
    "layer_norm_eps": (EPSILON,),
    "is_decoder": (False,),
}


@dataclass(frozen=True)
class Dimensions:
    """The dimensions that decide the shapes of a BERT's tensors, and how its heads cut them."""

    layers: int
    width: int
    heads: int
    hidden: int
    vocabulary: int
    positions: int

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name)}" for field in fields(self))

    @property
    def model(self) -> str:
        """The model's text in a config, by the preset of its size where there is one."""
        own = Size(self.layers, self.width, self.heads, self.hidden)
        name = next((name for name, size in SIZES.items() if size == own), None)
        options = {"size": name} if name else own._asdict()
        usual = {"vocabulary": 30522, "positions": 512}
        options |= {key: getattr(self, key) for key, number in usual.items() if getattr(self, key) != number}
        return f"bert({', '.join(f'{key}={value!r}' for key, value in options.items())})"


def of_config(path: Path) -> Dimensions:
    """The dimensions in a `config.json`. Raises `ValueError` with all that makes it another architecture than BERT."""
    try:
        config = parse_json(read_bytes(path, "settings"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}. Fetch the checkpoint again.") from None
    if not isinstance(config, dict):
        raise ValueError(f"{str(path)!r} must hold an object, got {type(config).__name__}. Fetch the checkpoint again.")
    wrong = [
        f"{field} must be {' or '.join(map(repr, allowed))}, got {config[field]!r}"
        for field, allowed in SUPPORTED.items()
        if config.get(field, allowed[0]) not in allowed
    ]
    numbers: dict[str, Any] = {name: config.get(field) for name, field in NUMBERS.items()}
    wrong += [
        f"{NUMBERS[name]} must be a whole number of at least 1, got {number!r}"
        for name, number in numbers.items()
        if isinstance(number, bool) or not isinstance(number, int) or number < 1
    ]
    if wrong:
        raise ValueError(f"{str(path)!r} is of no BERT that `bert` can be: {'; '.join(wrong)}.")
    return Dimensions(**numbers)


def of_shapes(shapes: dict[str, tuple[int, ...]]) -> Dimensions:
    """The dimensions of the model with parameters of these paths and shapes; of another model `ValueError`."""
    try:
        query = shapes["encoder/layer_0/attention/query/kernel"]
        return Dimensions(
            layers=len({path.split("/")[1] for path in shapes if path.startswith("encoder/layer_")}),
            width=query[0],
            heads=query[1],
            hidden=shapes["encoder/layer_0/intermediate/kernel"][1],
            vocabulary=shapes["encoder/embeddings/word/embedding"][0],
            positions=shapes["encoder/embeddings/position/embedding"][0],
        )
    except KeyError:
        parts = ", ".join(sorted({path.split("/")[0] for path in shapes}))
        raise ValueError(
            f"`init` with 'hf:' starts a model of kind bert, such as 'bert(size=\"minilm\")'; this one has the "
            f"parameters {parts}. Name a bert as the model, or leave `init` out."
        ) from None

"""The files of a checkpoint: in a folder that is here, or fetched by its id where there is a network."""

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZERS = ("tokenizer.json", "vocab.txt")
FETCHED = [CONFIG, WEIGHTS, *TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json"]
ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Files:
    """A checkpoint's folder. Each property raises `ValueError` where its file is missing."""

    folder: Path

    @property
    def config(self) -> Path:
        """`config.json`."""
        return self._one_of((CONFIG,), "Is it the folder of a model, as `save_pretrained` writes it?")

    @property
    def weights(self) -> Path:
        """`model.safetensors`; a pickle does not do."""
        remedy = (
            "A pickle such as pytorch_model.bin can run any code and is never read: load the model where it comes from "
            "and write it with `save_pretrained(folder, safe_serialization=True)`."
        )
        return self._one_of((WEIGHTS,), remedy)

    @property
    def tokenizer(self) -> Path:
        """`tokenizer.json`, or else `vocab.txt`."""
        return self._one_of(TOKENIZERS, "Put the tokenizer that the checkpoint was trained with beside it.")

    def _one_of(self, names: tuple[str, ...], remedy: str) -> Path:
        found = [self.folder / name for name in names if (self.folder / name).is_file()]
        if not found:
            raise ValueError(f"checkpoint {str(self.folder)!r} has no {' or '.join(names)}. {remedy}")
        return found[0]


def files(path_or_id: str) -> Files:
    """The checkpoint in a folder or, where there is none of that name, with that id on Hugging Face's hub.

    `hf:` may stand before it. Raises `ValueError` where neither is there or it cannot be fetched.
    """
    text = path_or_id.removeprefix("hf:").strip()
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return Files(folder)
    if not ID.fullmatch(text):
        raise ValueError(
            f"checkpoint {text!r} is no folder here, and no id such as 'sentence-transformers/all-MiniLM-L6-v2'. "
            "Give the folder with config.json and model.safetensors."
        )
    return Files(_fetched(text))


def fingerprint(path_or_id: str) -> str:
    """A digest of a checkpoint's config and weights, 16 hexadecimal digits. Raises `ValueError` as `files` does."""
    found = files(path_or_id)
    return _digest(*((path, path.stat().st_mtime_ns) for path in (found.config, found.weights)))


@functools.lru_cache(maxsize=16)
def _digest(*written: tuple[Path, int]) -> str:
    """The digest of the content of files, read again where they were written again."""
    total = hashlib.sha256()
    for path, _ in written:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def _fetched(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(
            f"checkpoint {name!r} is no folder here, and fetching it by id needs huggingface_hub: "
            "`pip install 'jax-qat[hf]'`, or give the folder."
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=FETCHED))
    except (OSError, ValueError) as error:  # its own errors are kinds of these: no network, no such id, a gated one
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"checkpoint {name!r} is no folder here, and it could not be fetched from Hugging Face's hub: {reason}. "
            "Where there is no network, copy its files here and give the folder."
        ) from error

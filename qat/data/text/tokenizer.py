"""From text to token numbers, by the tokenizer that comes with a checkpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qat.data.problems import held
from qat.data.source import fingerprint
from qat.fileio import parse_json, read_bytes

if TYPE_CHECKING:
    import tokenizers

CHECKPOINT = "hf:sentence-transformers/all-MiniLM-L6-v2"
FILES = ("tokenizer.json", "vocab.txt")
SPECIAL = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}
SHORTEST = 3  # [CLS], a token, [SEP]
SPARSEST, GAP = 4, 1000  # most numbers for each token, and more
REMEDY = "Pass a folder that holds one of them, such as that of a checkpoint, or 'hf:' and a checkpoint's name."

type Text = str | tuple[str, str]
"""A text, or two that belong together."""


class Tokens(NamedTuple):
    """`tokens` int32[texts, length], [PAD] beyond a text; `mask` bool[texts, length], true on it; how many were cut."""

    tokens: np.ndarray
    mask: np.ndarray
    cut: int


@dataclass(frozen=True)
class Tokenizer:
    """`vocabulary` is how many numbers there are for tokens; `content` a digest of what decides them."""

    core: "tokenizers.Tokenizer"
    vocabulary: int
    content: str

    def encode(self, texts: Sequence[Text], length: int) -> Tokens:
        """Tokens of the texts between [CLS] and [SEP], of two texts with a [SEP] between; longer ones are cut."""
        from tokenizers import Tokenizer as Core

        core = Core.from_str(self.core.to_str())
        core.no_padding()
        core.enable_truncation(length)
        encoded = core.encode_batch(list(texts))
        tokens = np.full((len(texts), length), core.token_to_id("[PAD]"), np.int32)
        mask = np.zeros((len(texts), length), bool)
        for row, one in enumerate(encoded):
            tokens[row, : len(one.ids)], mask[row, : len(one.ids)] = one.ids, True
        return Tokens(tokens, mask, sum(bool(one.overflowing) for one in encoded))


def open_tokenizer(place: str) -> Tokenizer:
    """The tokenizer in a folder or a file (`tokenizer.json`, or a BERT's `vocab.txt` with a token per line), or that of
    a checkpoint, `hf:PATH_OR_ID`.

    With `vocab.txt`, `tokenizer_config.json` beside it says whether text is put in lower case, as it is by default.
    Raises `ValueError` for what is no tokenizer or lacks one of `SPECIAL`.
    """
    path = _file(place)
    try:
        raw = read_bytes(path, "tokenizer")
        options = _options(path.parent) if path.suffix == ".txt" else {}
        core = _from_vocabulary(_numbers(raw.decode("utf-8")), options) if path.suffix == ".txt" else _from_json(raw)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"`tokenizer` must name a readable one, but {str(path)!r} is not: {error}") from error
    return _checked(core, str(path), fingerprint(raw, json.dumps(options, sort_keys=True)))


def word_pieces(vocabulary: Sequence[str]) -> Tokenizer:
    """A WordPiece tokenizer (Devlin et al. 2019, arXiv 1810.04805) in lower case, of tokens in the order of their
    numbers."""
    core = _from_vocabulary({token: number for number, token in enumerate(vocabulary)}, {})
    return _checked(core, "the vocabulary", fingerprint("\n".join(vocabulary)))


def check_length(length: int) -> None:
    """Raise `ValueError` for a number of tokens in which no text fits."""
    if length < SHORTEST:
        raise ValueError(f"`length` must be at least {SHORTEST} tokens, [CLS] and [SEP] among them, got {length}.")


def _file(place: str) -> Path:
    if place.startswith("hf:"):
        from qat.models import pretrained

        return pretrained.files(place.removeprefix("hf:")).tokenizer
    path = Path(place).expanduser()
    if path.is_file() and path.suffix in (".json", ".txt"):
        return path
    found = next((path / name for name in FILES if (path / name).is_file()), None)
    if found is None:
        raise ValueError(f"`tokenizer` must hold {' or '.join(FILES)}, got {place!r}: {held(path)}. {REMEDY}")
    return found


def _numbers(text: str) -> dict[str, int]:
    """Each token's number, the line it is on."""
    tokens = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    numbers = {token: number for number, token in enumerate(tokens)}
    if len(numbers) < len(tokens):
        twice = next(token for number, token in enumerate(tokens) if numbers[token] != number)
        raise ValueError(f"token {twice!r} is on more than one line.")
    return numbers


def _options(folder: Path) -> dict[str, Any]:
    """Read the options on the text's form from `tokenizer_config.json`."""
    path = folder / "tokenizer_config.json"
    said = parse_json(read_bytes(path, "settings")) if path.is_file() else {}
    if not isinstance(said, dict):
        raise ValueError(f"{path.name} must hold an object.")
    return {name: said[name] for name in ("do_lower_case", "tokenize_chinese_chars", "strip_accents") if name in said}


def _from_vocabulary(numbers: Mapping[str, int], options: Mapping[str, Any]) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Core
    from tokenizers import models, normalizers, pre_tokenizers, processors

    core = Core(models.WordPiece(dict(numbers), unk_token="[UNK]"))
    core.add_special_tokens(sorted({*SPECIAL, "[MASK]"} & set(numbers)))
    core.normalizer = normalizers.BertNormalizer(
        lowercase=options.get("do_lower_case", True),
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
        strip_accents=options.get("strip_accents"),
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if numbers.keys() >= SPECIAL:
        first, last = ((token, numbers[token]) for token in ("[CLS]", "[SEP]"))
        core.post_processor = processors.BertProcessing(last, first)
    return core


def _from_json(raw: bytes) -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer as Core

    text = raw.decode("utf-8")
    _check_numbers(parse_json(text))
    try:
        return Core.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{error}.") from error


def _check_numbers(found: Any) -> None:
    """Raise `ValueError` for a token's number far beyond the count of tokens: the library makes room for all below."""
    model = found.get("model") if isinstance(found, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    added = found.get("added_tokens") if isinstance(found, dict) else None
    numbers = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    numbers += [token.get("id") for token in added or () if isinstance(token, dict)]
    count = len(vocabulary or ()) + len(added or ())
    wrong = [number for number in numbers if isinstance(number, int) and not 0 <= number < SPARSEST * count + GAP]
    if wrong:
        raise ValueError(f"a token has the number {wrong[0]}, but there are {count} tokens.")


def _checked(core: "tokenizers.Tokenizer", name: str, content: str) -> Tokenizer:
    missing = sorted(token for token in SPECIAL if core.token_to_id(token) is None)
    if missing:
        raise ValueError(f"`tokenizer` must know {', '.join(sorted(SPECIAL))}, but {name} lacks {', '.join(missing)}.")
    vocabulary = 1 + max(core.get_vocab(with_added_tokens=True).values())
    return Tokenizer(core, vocabulary, content)

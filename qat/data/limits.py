"""What a user's file may be at most: one that is not what it is taken for costs an error, not hours and memory."""

import json
from pathlib import Path
from typing import Any

MEGA = 1 << 20
MOST_BYTES = {"texts": 4096 * MEGA, "annotations": 4096 * MEGA, "tokenizer": 256 * MEGA, "settings": 16 * MEGA}
MOST_SIGNS = 1_000_000  # of one text
MOST_CLASSES = 10_000
MOST_PIXELS = 100_000_000  # of one image
MOST_IMAGE_BYTES = 1024 * MEGA
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # of images; none calls another program


def read_bytes(path: Path, kind: str) -> bytes:
    """The content of a file of a kind in `MOST_BYTES`. Raises `ValueError` for one that is larger, `OSError`."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES[kind] + 1)
    if len(content) > MOST_BYTES[kind]:
        raise ValueError(f"expected at most {MOST_BYTES[kind]:,} bytes of {kind}. Is it another file?")
    return content


def parse_json(text: str | bytes) -> Any:
    """What JSON says. Raises `ValueError` for what is none, or is nested deeper than anything that is meant."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None

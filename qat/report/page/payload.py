"""Values as text that a page can hold, whatever they say."""

import base64
import gzip
import json
from collections.abc import Iterable
from typing import Any


def compact(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def embedded(value: Any) -> str:
    """JSON that stays data inside a `<script>` element: no sign in it begins or ends markup."""
    text = compact(value)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def packed(value: Any) -> str:
    """JSON compressed by gzip, in base64; the same value makes the same text."""
    return base64.b64encode(gzip.compress(compact(value).encode(), 6, mtime=0)).decode()


def fitting[K, V](values: Iterable[tuple[K, V]], budget: int) -> dict[K, V]:
    """The first values, by key, that take no more than `budget` characters of JSON together."""
    kept = {}
    for key, value in values:
        budget -= len(compact(value))
        if budget < 0:
            break
        kept[key] = value
    return kept

"""Bodies of requests: read within bounds of time and memory, and turned into inputs of a model."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qat.fileio import parse_json
from qat.lab.serving.servable import MALFORMED, OTHER_INPUT, OTHER_TYPE, TOO_LARGE, Form, Prepared, Rejected

JSON = "application/json"
BUSY, SLOW = 503, 408
BODIES = 32  # bodies of the largest size that may be held at once
SMALL = 1 << 14  # bytes of a body that is read on the spot; larger ones are left to a thread


class Room:
    """Bytes that bodies of requests under way may take together."""

    def __init__(self, total: int):
        self._left = total

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Hold so many bytes for the block. Raises `Rejected` where they are not there."""
        if size > self._left:
            raise Rejected(BUSY, "too many requests are being read. Try again later.")
        self._left -= size
        try:
            yield
        finally:
            self._left += size


def declared_size(headers: Mapping[str, str], most: int) -> int:
    """The bytes of a body by its headers, `most` where they do not tell. Raises `Rejected` for more than that."""
    text = headers.get("content-length")
    if text is None:
        return most
    if not text.isdecimal():
        raise Rejected(MALFORMED, f"Content-Length must be a number, got {text[:20]!r}.")
    if len(text) > len(str(most)) or int(text) > most:
        raise Rejected(TOO_LARGE, _too_large(most))
    return int(text)


async def read_body(stream: AsyncIterator[bytes], most: int) -> bytes:
    """The whole body of a request. Raises `Rejected` as soon as it is larger than `most` bytes."""
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > most:
            raise Rejected(TOO_LARGE, _too_large(most))
        parts.append(part)
    return b"".join(parts)


async def inputs_of(form: Form, content_type: str, body: bytes, most: int) -> list[Prepared]:
    """The inputs in a body, at most so many. Raises `Rejected` for what is malformed or for a model of another task."""
    kind = content_type.split(";")[0].strip().lower() or JSON
    if kind != JSON and kind not in form.media:
        known = ", ".join((JSON, *sorted(form.media)))
        raise Rejected(OTHER_TYPE, f"this model takes {form.takes} ({form.task}) as {known}, got {kind[:40]!r}.")
    if not body:
        raise Rejected(MALFORMED, f"the body must hold {form.takes}, got nothing.")
    if len(body) <= SMALL:
        return _read(form, kind, body, most)
    return await asyncio.to_thread(_read, form, kind, body, most)


def _read(form: Form, kind: str, body: bytes, most: int) -> list[Prepared]:
    if kind != JSON:
        return [form.raw(body)]
    values = _values(body)
    if len(values) > most:
        raise Rejected(TOO_LARGE, f"a request must have at most {most} inputs, got {len(values)}. Send several.")
    prepared = []
    for place, value in enumerate(values):
        try:
            prepared.append(form.entry(value))
        except Rejected as error:
            raise Rejected(error.status, f"inputs[{place}]: {error}") from None
    return prepared


def _values(body: bytes) -> list[Any]:
    try:
        found = parse_json(body)
    except (ValueError, UnicodeDecodeError) as error:
        raise Rejected(MALFORMED, f"the body is not JSON: {error}.") from None
    values = found.get("inputs") if isinstance(found, dict) else None
    if not isinstance(values, list) or not values:
        raise Rejected(OTHER_INPUT, 'a request must be {"inputs": [...]} with at least one input.')
    return values


def _too_large(most: int) -> str:
    return f"the body must have at most {most:,} bytes."

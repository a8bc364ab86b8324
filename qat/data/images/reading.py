"""Image files: what their ends say of them; many read at once by threads, with a line on stderr if it takes long."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qat.data.source import Columns, Example
from qat.fileio import FORMATS, MOST_IMAGE_BYTES, MOST_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

TAIL = 1024  # bytes at the end of a file among which JPEG's end marker must be
END = b"\xff\xd9"
PATIENCE = 1.0  # seconds of silence
PAUSE = 0.2  # seconds between two states of the line


class Header(NamedTuple):
    """The size of an image file in bytes, and of its image in pixels; `mode` is PIL's name for the kind of pixels."""

    bytes: int
    width: int
    height: int
    mode: str


@dataclass(frozen=True)
class Lazy:
    """`count` examples that `read()` gives all at once, called at first use."""

    count: int
    read: Callable[[], Columns]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        return self.columns[index]

    @cached_property
    def columns(self) -> Columns:
        """The columns that were read."""
        return self.read()


def header(path: Path) -> Header | str:
    """Read an image file's header, or say what is wrong with the file, as far as its first and last bytes tell."""
    from PIL import UnidentifiedImageError

    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size > MOST_IMAGE_BYTES:
                return f"expected at most {MOST_IMAGE_BYTES:,} bytes, got {size:,}"
            file.seek(-min(size, TAIL), os.SEEK_END)
            whole = END in file.read()
            file.seek(0)
            with open_image(file) as image:
                if image.format == "JPEG" and not whole:
                    return "the image is cut off"
                return Header(size, image.width, image.height, image.mode)
    except UnidentifiedImageError:
        return f"is not an image in one of the formats {', '.join(FORMATS)}"
    except broken() as error:
        return f"the image cannot be read: {getattr(error, 'strerror', None) or error}"


def open_image(file: Any) -> "Image":
    """The image in a path or an open file, nothing of it decoded yet; as a context it closes itself.

    Formats that other programs would decode (EPS) are none. Raises what `broken` lists, for too many pixels as well.
    """
    from PIL import Image

    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise Image.DecompressionBombError(
            f"it has {image.width} x {image.height} pixels, more than {MOST_PIXELS:,}: a decompression bomb?"
        )
    return image


def broken() -> tuple[type[Exception], ...]:
    """The exceptions that PIL raises for a file whose image cannot be read, or is too large."""
    from PIL import Image

    return OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning


def read_all[T](read: Callable[[int], T], count: int, what: str) -> list[T]:
    """`read(index)` for each of `count` indices, in order; of those that raise `ValueError`, one error says all.

    Threads help where `read` spends its time outside Python, as in decoding images. `what` names them on the line.
    """

    def attempt(index: int) -> T | ValueError:
        try:
            return read(index)
        except ValueError as error:
            return error

    results, failures = [], []
    with ThreadPoolExecutor() as pool:
        for result in shown(pool.map(attempt, range(count)), count, what):
            (failures if isinstance(result, ValueError) else results).append(result)
    if failures:
        raise ValueError("\n".join(map(str, failures)))
    return results


def shown[T](items: Iterator[T], count: int, what: str) -> Iterator[T]:
    """The items as they come, counted on stderr once a second has passed; off a terminal one line says the end."""
    start = last = time.monotonic()
    terminal = sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if terminal and now - start > PATIENCE and (now - last > PAUSE or done == count):
            last = now
            sys.stderr.write(f"\r{what}: {done} of {count}{'\n' if done == count else ''}")
            sys.stderr.flush()
    if not terminal and (took := time.monotonic() - start) > PATIENCE:
        sys.stderr.write(f"{what}: {count} in {took:.0f} s\n")

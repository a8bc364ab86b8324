"""What an exception tells of its cause: the line of the user's own files that led to it, and whether it may pass."""

import linecache
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}
NOT_THEIRS = [Path(__file__).parent, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))]
LASTING = (
    *(ValueError, TypeError, NameError, AttributeError, LookupError, AssertionError, ImportError, SyntaxError),
    *(NotImplementedError, FloatingPointError, ZeroDivisionError, SystemExit),
)
"""Raised by the same code from the same settings again; whatever else there is may be the machine's."""


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{_short(self.file)!r}, line {self.line}" + (f": `{self.text}`" if self.text else "")


def place(error: BaseException) -> Place | None:
    """The innermost line that an exception, or what caused it, passed in files that are neither installed nor part of
    Python or of qat; None where it passed none."""
    for one in reversed([*_causes(error)]):
        lines = [*_lines(one)]
        if lines:
            file, number, text = lines[-1]
            return Place(Path(file), number, (text or linecache.getline(file, number)).strip())
    return None


def told(error: BaseException) -> str:
    """An exception with its type; one that ends the process says so."""
    if isinstance(error, SystemExit):
        return f"it ended its process with exit code {error.code}"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}".rstrip(": ")


def may_pass(error: BaseException) -> bool:
    """Whether the same work may succeed when it is tried again: not after an error of code or settings, unless the
    system is to blame for it."""
    return not isinstance(error, LASTING) or any(isinstance(one, (OSError, MemoryError)) for one in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, what it was raised from, and so on."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _lines(error: BaseException) -> Iterator[tuple[str, int, str | None]]:
    for frame, number in traceback.walk_tb(error.__traceback__):
        if _is_theirs(frame.f_code.co_filename):
            yield frame.f_code.co_filename, number, None
    if isinstance(error, SyntaxError) and error.filename and _is_theirs(error.filename):
        yield error.filename, error.lineno or 1, error.text


def _is_theirs(file: str) -> bool:
    path = Path(file)
    if file.startswith("<") or INSTALLED & set(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in NOT_THEIRS)


def _short(file: Path) -> str:
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)

"""Files written whole or not at all, limits on files that are read, and messages for errors of the disk."""

import contextlib
import errno
import json
import linecache
import os
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEGA = 1 << 20
MOST_BYTES = {"texts": 4096 * MEGA, "annotations": 4096 * MEGA, "tokenizer": 256 * MEGA, "settings": 16 * MEGA}
MOST_SIGNS = 1_000_000  # of one text
MOST_CLASSES = 10_000
MOST_PIXELS = 100_000_000  # of one image
MOST_IMAGE_BYTES = 1024 * MEGA
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # of images; decoded without other programs


def read_bytes(path: Path, kind: str) -> bytes:
    """The content of a file of a kind in `MOST_BYTES`. Raises `ValueError` for a larger one, `OSError` where it cannot
    be read."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES[kind] + 1)
    if len(content) > MOST_BYTES[kind]:
        raise ValueError(f"expected at most {MOST_BYTES[kind]:,} bytes of {kind}. Is it another file?")
    return content


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises `ValueError` for text that is no JSON or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
UMASK = os.umask(0o077)
os.umask(UMASK)

type Stamp = tuple[float, int] | tuple[int, int, int]


def folder(path: str | Path) -> Path:
    """A local path, or an `etils.epath` path of the same interface for an address such as `gs://bucket/runs`.

    Raises `ValueError` for an address of an unknown kind, or of a kind whose package is not installed.
    """
    if "://" not in str(path):
        return Path(path)
    import fsspec
    from etils import epath

    try:
        fsspec.get_filesystem_class(str(path).split("://")[0])
        return epath.Path(path)  # pyright: ignore[reportReturnType]
    except (ImportError, KeyError, ValueError) as error:
        why = f": {error}" if isinstance(error, ImportError) else ""
        raise ValueError(
            f"a run folder must be a local path, or an address such as gs://bucket/runs or s3://bucket/runs whose "
            f"package is installed, got {str(path)!r}{why}."
        ) from None


def is_local(path: str | Path) -> bool:
    """Whether a path is in this machine's file system."""
    return "://" not in str(path)


def working_folder(path: str | Path) -> Path:
    """A folder that jobs run in. Raises `ValueError` for an address: an object store does not tell two processes which
    of them wrote first, so both would do the same job."""
    if is_local(path):
        return Path(path)
    raise ValueError(
        f"`--runs` must be a folder on a file system (where several machines work: one that they share), got the "
        f"address {str(path)!r}. Run in such a folder, then copy it there: finished runs are read from addresses."
    )


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """`path` itself, or for an address a copy that lasts as long as the block, for libraries that read local files."""
    if is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="qat-") as name:
        copy = Path(name) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def stamp(path: Path) -> Stamp | None:
    """A file's modification time and size, which change when the file does; None where there is no file."""
    try:
        found: Any = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if hasattr(found, "st_mtime_ns"):
        return found.st_mtime_ns, found.st_size, found.st_ino
    return float(found.mtime), int(found.length)  # `etils.epath` on other stores


def write_atomically(path: Path, content: str | bytes) -> None:
    """Make `path` hold `content`. A process killed at any moment leaves the old file or the new one, never a
    part of it.

    An object store guarantees this itself.
    """
    if not is_local(path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        share(temporary)
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def share(temporary: Path) -> None:
    """Give a temporary file, which only its owner may read, the permissions of any other new file."""
    temporary.chmod(0o666 & ~UMASK)


def refusal(error: BaseException) -> str | None:
    """The message for the user where `error` means that the disk is full or a file out of reach, else None.

    Libraries wrap such errors in their own, so the whole chain of causes is read.
    """
    chain: BaseException | None = error
    while chain is not None:
        if getattr(chain, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(chain):
            return (
                f"No space left on the disk{_where(chain)}. Finished trials are safe: "
                "free some space, then run the same command again."
            )
        if isinstance(chain, OSError) and chain.errno in FORBIDDEN:
            return f"No permission{_where(chain)}: {chain.strerror}. Choose another folder, or change its permissions."
        chain = chain.__cause__ or chain.__context__
    return None


def _where(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return f" for {str(name)!r}" if name else ""


def _sync_folder(folder: Path) -> None:
    """Make a renaming survive a power cut, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


INSTALLED = {"site-packages", "dist-packages"}
NOT_THEIRS = [Path(__file__).parent, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))]
LASTING = (
    *(ValueError, TypeError, NameError, AttributeError, LookupError, AssertionError, ImportError, SyntaxError),
    *(NotImplementedError, FloatingPointError, ZeroDivisionError, SystemExit),
)
"""Errors that the same code and settings raise again; any other error may be the machine's."""


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{_short(self.file)!r}, line {self.line}" + (f": `{self.text}`" if self.text else "")


def place(error: BaseException) -> Place | None:
    """The innermost line of the user's own files that an exception or its cause passed, or None.

    Files of installed packages, of Python and of qat are not the user's.
    """
    for one in reversed([*_causes(error)]):
        lines = [*_lines(one)]
        if lines:
            file, number, text = lines[-1]
            return Place(Path(file), number, (text or linecache.getline(file, number)).strip())
    return None


def describe_error(error: BaseException) -> str:
    """The type and message of an exception; for `SystemExit` the exit code."""
    if isinstance(error, SystemExit):
        return f"it ended its process with exit code {error.code}"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}".rstrip(": ")


def may_pass(error: BaseException) -> bool:
    """Whether the same work may succeed when it is tried again: not after an error in code or settings, unless an
    `OSError` or `MemoryError` caused it."""
    return not isinstance(error, LASTING) or any(isinstance(one, (OSError, MemoryError)) for one in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and the chain of exceptions that it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


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

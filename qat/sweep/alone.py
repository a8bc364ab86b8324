"""One process at a time in a job's folder, while one that was killed with its runner is still on its way out."""

import contextlib
import errno
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from qat.storage import is_local

LONGEST = 120.0  # seconds to wait for the other; some network file systems keep the locks of the dead for so long
LOOK_EVERY = 0.02
TAKEN = {errno.EACCES, errno.EAGAIN}


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock on the file, which the system takes back when this process dies, however it dies.

    Claims keep living runners apart; this is for the moments in which a worker outlives its runner. Where the file
    system has no locks there is none. Raises `TimeoutError` where another process has it for too long.
    """
    if sys.platform == "win32" or not is_local(path):
        yield
        return
    import fcntl

    until = time.monotonic() + LONGEST
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in TAKEN:
                    break
                if time.monotonic() > until:
                    raise TimeoutError(f"another process still works in {str(path.parent)!r}") from None
            time.sleep(LOOK_EVERY)
        yield

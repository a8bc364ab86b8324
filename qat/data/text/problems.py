"""What becomes of rows that are wrong: all refused at once, or dropped and listed."""

import sys
from collections.abc import Sequence

from qat.data.annotations import Problem

MOST = 50  # problems that are listed


def check_bad(bad: str) -> None:
    """Raise `ValueError` where `bad` is not one of the two things to do with what is wrong."""
    if bad not in ("refuse", "drop"):
        raise ValueError(f"`bad` must be 'refuse' or 'drop', got {bad!r}. It says what becomes of wrong rows.")


def settle(problems: Sequence[Problem], bad: str, place: str) -> None:
    """Refuse all `problems` in one `ValueError`, or where `bad` is "drop" list on stderr what is dropped."""
    if not problems:
        return
    count = "1 wrong row" if len(problems) == 1 else f"{len(problems)} wrong rows"
    lines = [f"  {problem}" for problem in problems[:MOST]]
    more = [f"  and {len(problems) - MOST} more"] if len(problems) > MOST else []
    listed = "\n".join(lines + more)
    if bad == "refuse":
        raise ValueError(
            f"Every row must hold a text and a label, but {place} has {count}:\n{listed}\n"
            "Mend them, or pass bad='drop' to leave them out."
        )
    sys.stderr.write(f"Warning: dropped {count} of {place}:\n{listed}\n")

"""Problems in a user's files, and their handling: all of it refused at once, or dropped and listed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMED = 5  # files that `held` names


class MissingDataError(ValueError):
    """A data set that reads a user's own folder was told of none."""


def held(folder: Path) -> str:
    """The first names in a folder, or that there is none, for an error."""
    return ", ".join(sorted(path.name for path in folder.iterdir())[:NAMED]) if folder.is_dir() else "no such folder"


@dataclass(frozen=True)
class Problem:
    """One problem and its place: a file with a line, or with the id of an annotation."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Words:
    """The wording for problems of one kind: what one is called, what was expected of a place, what dropping leaves out,
    and how a warning begins; `{place}` and `{count}` are filled in. At most `most` are listed, None for all.
    """

    noun: str
    expected: str
    dropping: str
    dropped: str
    most: int | None = None


IMAGES = Words(
    "problem",
    "`folder` must hold images with right annotations, but {place!r} has {count}",
    "leave out the wrong boxes and the images that cannot be used",
    "dropped for {count} in {place}",
)
ROWS = Words(
    "wrong row",
    "Every row must hold a text and a label, but {place} has {count}",
    "leave them out",
    "dropped {count} of {place}",
    most=50,
)


def check_bad(bad: str, what: str) -> None:
    """Raise `ValueError` where `bad` is not one of the two things to do with what is wrong."""
    if bad not in ("refuse", "drop"):
        raise ValueError(f"`bad` must be 'refuse' or 'drop', got {bad!r}. It says what becomes of wrong {what}.")


def settle(problems: Sequence[Problem], bad: str, place: str, words: Words) -> None:
    """Refuse all `problems` in one `ValueError`, or where `bad` is "drop" list on stderr what is dropped."""
    if not problems:
        return
    facts = {"place": place, "count": f"{len(problems)} {words.noun}{'s' * (len(problems) != 1)}"}
    shown = problems[: words.most]
    more = [f"  and {len(problems) - len(shown)} more"] if len(shown) < len(problems) else []
    listed = "\n".join([*(f"  {problem}" for problem in shown), *more])
    if bad == "refuse":
        raise ValueError(
            f"{words.expected.format(**facts)}:\n{listed}\nMend them, or pass bad='drop' to {words.dropping}."
        )
    sys.stderr.write(f"Warning: {words.dropped.format(**facts)}:\n{listed}\n")

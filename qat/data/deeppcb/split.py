"""The splits of DeepPCB: validation by group, and the boards whose published images give no fair example."""

import math
import sys
from collections import Counter
from collections.abc import Mapping

import numpy as np

from qat.data.deeppcb.files import FLAWED, Listing

type Parts = dict[str, np.ndarray]


def split(lists: Mapping[str, Listing], template: bool, flawed: str, held_out: float, seed: int | None) -> Parts:
    """The indices of `train` and `validation` in the list `trainval` and of `test` in its own, each rising.

    Validation is whole groups, of at least `held_out` of the boards; with a `seed` it is single boards drawn by it.
    `flawed` "drop" leaves out what `usable` does not give, and says so on stderr. Raises `ValueError` where a split
    would be empty, or where one group holds all boards.
    """
    use = {name: usable(listing, template) if flawed == "drop" else _all(listing) for name, listing in lists.items()}
    _tell(lists, use)
    boards = use["trainval"]
    wanted = max(1, round(held_out * len(boards)))
    if wanted >= len(boards) or not len(use["test"]):
        raise ValueError(
            f"`folder` must hold boards to train on, to validate and to test, got {len(boards)} in trainval and "
            f"{len(use['test'])} in test."
        )
    if seed is None:
        groups = np.array([group_of(lists["trainval"].names[i]) for i in boards])
        tested = Counter(group_of(lists["test"].names[i]) for i in use["test"])
        held = np.isin(groups, held_out_groups(Counter(groups.tolist()), tested, wanted))
    else:
        held = np.isin(np.arange(len(boards)), np.random.default_rng(seed).permutation(len(boards))[:wanted])
    return {"train": boards[~held], "validation": boards[held], "test": use["test"]}


def group_of(name: str) -> str:
    """The group of a board, `group20085` of `group20085/20085/20085000`."""
    return name.partition("/")[0]


def held_out_groups(boards: Mapping[str, int], tested: Mapping[str, int], wanted: int) -> list[str]:
    """The groups for validation, from the number of boards of each group in trainval and in test: those with the fewest
    boards in test first, of equals the smaller one first, until they have `wanted` boards.

    Raises `ValueError` where no group is left to train on.
    """
    order = sorted(boards, key=lambda name: (tested.get(name, 0), boards[name], name))
    reached = np.cumsum([boards[name] for name in order])
    taken = order[: int(np.searchsorted(reached, wanted)) + 1]
    if len(taken) == len(order):
        raise ValueError(
            f"`held_out` must leave a group of boards to train on, but {wanted} of {sum(boards.values())} boards for "
            f"validation take all {len(order)} groups. Lower it, or pass `seed` to draw single boards whatever their "
            "group."
        )
    return taken


def usable(listing: Listing, template: bool) -> np.ndarray:
    """The indices of a list without the boards whose image is flawed, or whose template is where it is used."""
    counting = ("test", "template") if template else ("test",)
    return np.array([i for i, name in enumerate(listing.names) if listing.flaws.get(name) not in counting], int)


def _all(listing: Listing) -> np.ndarray:
    return np.arange(listing.count)


def _tell(lists: Mapping[str, Listing], use: Mapping[str, np.ndarray]) -> None:
    dropped = [(name, i) for name, listing in lists.items() for i in np.setdiff1d(_all(listing), use[name]).tolist()]
    if dropped:
        lines = [f"  {lists[name].names[i]} of {name}: {FLAWED[lists[name].names[i]].what}" for name, i in dropped]
        count = f"{len(lines)} published board{'s' * (len(lines) != 1)}"
        sys.stderr.write("\n".join([f"DeepPCB without {count} (flawed='keep' keeps what is flawed):", *lines, ""]))


def check_split(held_out: float, flawed: str) -> None:
    """Raise `ValueError` for arguments of `split` without meaning."""
    if not (math.isfinite(held_out) and 0 < held_out < 1):
        raise ValueError(f"`held_out` must be in (0, 1), got {held_out}. It is the part of trainval for validation.")
    if flawed not in ("drop", "keep"):
        raise ValueError(
            f"`flawed` must be 'drop' or 'keep', got {flawed!r}. It says what becomes of the published boards with "
            "painted annotations or a blank template."
        )

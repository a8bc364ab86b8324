"""What no other choice beats in both respects."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, value) that no other beats in one respect and equals in the other, by rising cost.

    Of points that are the same, all count.
    """
    found: list[int] = []
    best = None
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if best is None or points[i][1] > best[1] or points[i] == best:
            found.append(i)
            best = points[i]
    return found

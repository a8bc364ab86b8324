"""Parts of board layouts: buses, pads with holes, rows of pads, vias, meanders, discs, ground with channels."""

from collections.abc import Callable

import numpy as np

from qat.data.boards.pen import BARE, COPPER, Sheet, beside, later, run

type Motif = Callable[[Sheet, np.random.Generator], None]


def bus(sheet: Sheet, rng: np.random.Generator) -> None:
    """Traces side by side with common bends; some end in a via."""
    trace, gap = rng.uniform(5, 20), rng.uniform(7, 22)
    start = np.array([-30.0, rng.uniform(0, sheet.height / 2)])
    first = run(rng, start, 0, 2 * rng.integers(1, 4) + 1, 40, 160)
    first[-1, 0] = max(first[-1, 0], sheet.width) + 60
    for number in range(rng.integers(3, 3 + max(1, int(sheet.height / (trace + gap))))):
        points = beside(first, number * (trace + gap))
        if rng.random() < 0.15:
            points = points[: rng.integers(2, len(points) + 1)]
            sheet.disc(points[-1], trace / 2 + min(gap - 5, rng.uniform(2, 10)))
        sheet.stroke(points, trace)


def pads(sheet: Sheet, rng: np.random.Generator) -> None:
    """Round pads with holes on a lattice, many with a trace that leaves them, some like a drop."""
    radius = rng.uniform(13, 32)
    pitch = 2 * radius + rng.uniform(14, 60)
    trace, apart = rng.uniform(5, min(16, radius)), rng.uniform(6, 11)
    hole = radius * rng.uniform(0.25, 0.55)
    centres = _lattice(sheet, rng, pitch, 0.7)
    for centre in centres:
        sheet.disc(centre, radius)
    for centre in centres:
        points = run(rng, centre, rng.integers(8), rng.integers(1, 6), 1.5 * radius + 2 * apart, 1.5 * pitch)
        if sheet.is_free(later(points, radius + apart + trace / 2 + 2), trace + 2 * apart):
            sheet.stroke(points, trace)
            if rng.random() < 0.5:
                sheet.drop(centre, points[1], radius, trace)
            if rng.random() < 0.5:
                sheet.disc(points[-1], trace / 2 + apart / 2)
    for centre in centres:
        if rng.random() < 0.85:
            sheet.disc(centre, hole, BARE)


def rows(sheet: Sheet, rng: np.random.Generator) -> None:
    """Rows of rectangular pads, as for chips, with traces from their ends."""
    wide, gap, tall = rng.uniform(10, 40), rng.uniform(9, 28), rng.uniform(24, 80)
    trace, round_by = rng.uniform(4, min(12, wide)), rng.uniform(0, 0.3) * min(wide, tall)
    starts, y = [], rng.uniform(-tall / 2, 40)
    while y < sheet.height:
        for x in np.arange(rng.uniform(-wide, 0), sheet.width, wide + gap):
            if rng.random() < 0.85:
                sheet.rectangle((x, y), (wide, tall), round_by)
                starts.append((x + wide / 2, y + tall / 2))
        y += tall + rng.uniform(40, 110)
    for start in np.array(starts):
        points = run(rng, start, rng.choice([2, 6]), rng.integers(1, 5), 0.5 * tall + 25, tall + 60)
        if sheet.is_free(later(points, tall / 2 + trace + 10), trace + 14):
            sheet.stroke(points, trace)


def vias(sheet: Sheet, rng: np.random.Generator) -> None:
    """Thin traces from via to via, apart from one another."""
    trace, apart, radius = rng.uniform(4, 10), rng.uniform(6, 12), rng.uniform(7, 13)
    drilled = 0.4 * radius if rng.random() < 0.3 else 0
    for _ in range(rng.integers(5, 6 + sheet.width * sheet.height // 4000)):
        start = rng.uniform(0, [sheet.width, sheet.height])
        points = run(rng, start, rng.integers(8), rng.integers(1, 6), 25, 110)
        if sheet.is_free(points, 2 * (radius + apart)):
            sheet.stroke(points, trace)
            for end in (points[0], points[-1]):
                sheet.disc(end, radius)
                if drilled:
                    sheet.disc(end, drilled, BARE)


def meander(sheet: Sheet, rng: np.random.Generator) -> None:
    """A trace that goes to and fro, and straight ones beside it."""
    trace, gap = rng.uniform(5, 16), rng.uniform(8, 20)
    tall = rng.uniform(0.3, 0.7) * sheet.height
    x, y, points = -20.0, rng.uniform(gap, sheet.height - tall), []
    while x < sheet.width + 20:
        points += [(x, y), (x, y + tall), (x + trace + gap, y + tall), (x + trace + gap, y)]
        x += 2 * (trace + gap)
    sheet.stroke(np.array(points), trace)
    for number in range(1, 4):
        for beyond in (y - number * (gap + trace), y + tall + number * (gap + trace)):
            sheet.stroke(np.array([(-20, beyond), (sheet.width + 20, beyond)]), trace)


def discs(sheet: Sheet, rng: np.random.Generator) -> None:
    """Large discs and rings, and wide traces to them."""
    for _ in range(rng.integers(1, 4)):
        centre, radius = rng.uniform(0, [sheet.width, sheet.height]), rng.uniform(35, 130)
        sheet.disc(centre, radius + 12, BARE)
        sheet.stroke(run(rng, centre, rng.integers(8), 2, radius, 3 * radius), rng.uniform(14, 50))
        sheet.disc(centre, radius)
        if rng.random() < 0.5:
            sheet.disc(centre, radius - rng.uniform(14, 30), BARE)


def ground(sheet: Sheet, rng: np.random.Generator) -> None:
    """Copper everywhere but for channels, of which some hold a trace, openings and holes."""
    sheet.rectangle((-50, -50), (sheet.width + 100, sheet.height + 100), 0)
    channel, area = rng.uniform(7, 22), sheet.width * sheet.height
    for _ in range(rng.integers(0, 2 + area // 100000)):
        sheet.rectangle(rng.uniform(0, [sheet.width, sheet.height]), rng.uniform(40, 200, 2), rng.uniform(0, 20), BARE)
    for _ in range(rng.integers(2, 5 + area // 40000)):
        start = rng.uniform(0, [sheet.width, sheet.height])
        points = run(rng, start, 2 * rng.integers(4), rng.integers(2, 8), 40, 200)
        trace = rng.uniform(6, 24) * rng.integers(0, 2)
        sheet.stroke(points, trace + 2 * channel if trace else channel, BARE)
        if trace:
            sheet.stroke(points, trace, COPPER)
    for centre in rng.uniform(0, [sheet.width, sheet.height], (rng.integers(0, 6), 2)):
        sheet.disc(centre, rng.uniform(6, 16), BARE)


MOTIFS: tuple[Motif, ...] = (bus, bus, pads, rows, vias, meander, discs, ground)


def _lattice(sheet: Sheet, rng: np.random.Generator, pitch: float, filled: float) -> np.ndarray:
    """Points of a square lattice that lie in the area or near it, [points, 2]."""
    first = rng.uniform(-0.5, 0.5, 2) * pitch
    x, y = (np.arange(low, side + pitch / 2, pitch) for low, side in zip(first, sheet.image.size, strict=True))
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    return points[rng.random(len(points)) < filled]

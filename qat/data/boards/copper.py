"""The layout of a board: one motif, or zones of one each, some of them as a negative, turned at random."""

import itertools
from typing import Any

import numpy as np

from qat.data.boards.motifs import MOTIFS, ground
from qat.data.boards.pen import Sheet

GROUND = 0.2  # of the boards are ground alone
NEGATIVE = 0.15  # of the zones have channels where others have copper
ZONE = 160  # pixels, the height from which on a board has more than one
LEAST = 60  # pixels below which a zone stays bare


def copper(size: int, rng: np.random.Generator) -> Any:
    """A square layout as a grey image of PIL, copper bright."""
    from PIL import Image, ImageOps

    whole = Sheet(size, size)
    if rng.random() < GROUND:
        ground(whole, rng)
    else:
        cuts = rng.uniform(0, size, rng.integers(0, 1 + min(3, size // ZONE))).astype(int)
        edges = [0, *sorted(cuts), size]
        for low, high in itertools.pairwise(edges):
            if high - low >= LEAST:
                zone = Sheet(size, high - low)
                MOTIFS[rng.integers(len(MOTIFS))](zone, rng)
                negative = rng.random() < NEGATIVE
                whole.image.paste(ImageOps.invert(zone.image) if negative else zone.image, (0, low))
    turns = [None, *Image.Transpose]
    turn = turns[rng.integers(len(turns))]
    return whole.image if turn is None else whole.image.transpose(turn)

"""Registration of a board's template: cameras and fixtures leave it some pixels beside the board."""

import functools
import itertools
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, UInt64

MOST = 16  # pixels; three of DeepPCB's 1,500 templates come out at this limit, all others within 10
STEP, EVERY = 2, 4  # at first every second move is tried, on every fourth row


def aligned(
    board: Bool[np.ndarray, "height width"], template: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """The template, moved by whole pixels, at most 16 along either axis, to where it differs least from the board:
    roughly over all moves, then exactly over the neighbours and none (block matching: Jain and Jain 1981, doi
    10.1109/TCOM.1981.1094950).

    Differences are counted on what all moves reach; of equal moves the shortest counts. Pixels that the moved template
    does not reach are the board's, so that nothing differs there. On images of less than 33 pixels a side moves are
    shorter, so that something is left to compare.
    """
    height, width = board.shape
    most = min(MOST, (min(height, width) - 1) // 2)
    rough = range(-most + most % STEP, most + 1, STEP)  # none among them
    down, right = _best(board, template, most, itertools.product(rough, rough), EVERY)
    near = itertools.product(_near(down, most), _near(right, most))
    down, right = _best(board, template, most, [(0, 0), *near], 1)
    moved = board.copy()
    to, source = _overlap(height, down), _overlap(height, -down)
    moved[to, _overlap(width, right)] = template[source, _overlap(width, -right)]
    return moved


def _best(
    board: np.ndarray, template: np.ndarray, most: int, moves: Iterable[tuple[int, int]], every: int
) -> tuple[int, int]:
    """Find the move (down, right) among `moves` by which the template fits the board best, compared on one of `every`
    rows.
    """
    height, width = board.shape
    rows, columns = height - 2 * most, width - 2 * most
    wanted = _words(board[most : most + rows : every, most : most + columns])
    seen = functools.cache(lambda right: _words(template[:, most - right : most - right + columns]))

    def cost(move: tuple[int, int]) -> tuple[int, ...]:
        down, right = move
        there = seen(right)[most - down : most - down + rows : every]
        return int(np.bitwise_count(there ^ wanted).sum()), down**2 + right**2, down, right

    return min(moves, key=cost)


def _near(move: int, most: int) -> range:
    """The moves along one axis that the rough search left out around the best one."""
    return range(max(-most, move - STEP + 1), min(most, move + STEP - 1) + 1)


def _words(image: np.ndarray) -> UInt64[np.ndarray, "height words"]:
    """Each row of a boolean image as numbers of 64 pixels."""
    bits = np.packbits(image, axis=-1)
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)


def _overlap(size: int, move: int) -> slice:
    """The part of `size` pixels that an image moved by `move` covers."""
    return slice(max(0, move), size + min(0, move))

"""Drawn circuit boards with defects: layouts of copper, what a camera makes of them, and six kinds of defects."""

from qat.data.boards.dataset import boards
from qat.data.boards.draw import board

__all__ = ["board", "boards"]

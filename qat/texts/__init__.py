"""What a text classifier makes of the texts of its test split, beside another model."""

from qat.texts.compare import Comparison, compare
from qat.texts.table import tables

__all__ = ["Comparison", "compare", "tables"]

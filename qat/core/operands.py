"""Operands of sites: the tensor that each one is, and the values that it is computed with."""

from dataclasses import KW_ONLY, dataclass, field, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32

from qat.numerics import QParams, QTensor
from qat.recipes.recipe import TensorSpec


@dataclass(frozen=True)
class WeightOperand:
    """A weight operand of a site: the key of its stored tensor, and the permutation from the stored axes (less those
    that layer scans slice off) to the operand's.
    """

    key: str
    perm: tuple[int, ...]


@dataclass(frozen=True)
class ActivationOperand:
    """An activation operand of a site: its key in the state and its spec.

    An array that several sites of one rule read (the input of query, key and value) is quantized once, under the
    first site's key, at the most bits that any of them asks for.
    """

    key: str
    spec: TensorSpec


SiteOperand = WeightOperand | ActivationOperand


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WeightValues:
    """A stored weight on its grid: its integers and, to differentiate, its fake-quantized floats (None in serving)."""

    quantized: QTensor
    floats: Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ActivationGrid:
    """The grid of an activation: `grid` for a static range; for a dynamic one `codes`, the smallest and largest code.

    To differentiate, `base` is the calibrated grid and `learned` the values that the quantizer trains on top of it.
    """

    grid: QParams | None = None
    codes: tuple[Int32[Array, "..."], Int32[Array, "..."]] | None = None
    _: KW_ONLY
    base: QParams | None = None
    learned: dict[str, Array] = field(default_factory=dict)

    @property
    def served(self) -> "ActivationGrid":
        """The grid without what only differentiation reads."""
        return ActivationGrid(self.grid, self.codes)

    def with_nan(self, bad: Bool[Array, ""]) -> "ActivationGrid":
        """The grid with a scale of NaN if `bad`: integer codes cannot represent NaN, so the scale carries it."""
        if self.grid is None:
            return self
        return replace(self, grid=replace(self.grid, scale=jnp.where(bad, jnp.nan, self.grid.scale)))


Operands = dict[str, WeightValues | ActivationGrid]
"""The values of every quantized tensor, by its key."""

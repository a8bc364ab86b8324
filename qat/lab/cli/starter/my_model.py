"""A model of your own; it knows nothing of quantization.

Here a Flax Linen module. A builder may as well return an NNX module, if it takes `rngs`, or a pair of functions
`init(key, *inputs)` and `apply(params, *inputs, key)`; `qat.models.adapter` tells the contract.
"""

from flax import linen as nn
from jaxtyping import Array, Float

from qat import models


@models.register
def my_mlp(classes: int, width: int = 32) -> nn.Module:
    """Two dense layers with ReLU, then the logits."""
    return MLP(classes, width)


class MLP(nn.Module):
    """Logits of vectors."""

    classes: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch classes"]:
        """Logits of vectors. For layers that act otherwise in training, such as dropout, take `train` or
        `deterministic` too."""
        for name in ("first", "second"):
            x = nn.relu(nn.Dense(self.width, name=name)(x))
        return nn.Dense(self.classes, name="head")(x)

"""A model of your own: any Flax Linen module; it knows nothing of quantization."""

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
    def __call__(self, x: Float[Array, "batch features"], train: bool) -> Float[Array, "batch classes"]:
        """Logits of vectors; `train` is for layers that act otherwise in training, such as dropout."""
        for name in ("first", "second"):
            x = nn.relu(nn.Dense(self.width, name=name)(x))
        return nn.Dense(self.classes, name="head")(x)

"""Float models by name; they know nothing of quantization. A new file here that registers a function is a new model.

@models.register
def mlp(classes: int, width: int = 64) -> nn.Module: ...

model = models.build("mlp(width=32)", classes=10)
"""

from flax import linen as nn

from qat.registry import Registry, load_members

models: Registry[nn.Module] = Registry("model")
register, build, names = models.register, models.build, models.names

load_members(__path__, __name__)

__all__ = ["build", "models", "names", "register"]

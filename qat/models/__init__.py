"""Float models by name; they know nothing of quantization. A new file here that registers a function is a new model.

@models.register
def mlp(classes: int, width: int = 64) -> nn.Module: ...

model = models.build("mlp(width=32)", classes=10)

A builder may return a Flax Linen or NNX module, or plain functions: `qat.models.adapter` tells the forms.
"""

from typing import Any

from qat.registry import Registry, load_members

models: Registry[Any] = Registry("model")
"""Builders of models by name."""
register = models.register
"""Make a builder known under its name; use as a decorator."""
build = models.build
"""The model that a text such as `"cnn(width=16)"` names; other sizes come as keyword arguments."""
names = models.names
"""The names of all builders, sorted."""

load_members(__path__, __name__)

__all__ = ["build", "models", "names", "register"]

"""What a function becomes for a platform that need not be there."""

import re

import jax


def exported(fn, *args, platforms):
    """The function exported for the named platforms."""
    return jax.export.export(jax.jit(fn), platforms=platforms)(*args)


def convolutions(fn, *args, platform):
    """The result types of all convolutions of the function, lowered for one platform."""
    text = exported(fn, *args, platforms=[platform]).mlir_module()
    return re.findall(r"stablehlo\.convolution.*-> tensor<(?:\d+x)*(\w+)>", text)

"""Convolutions of every kind that the engines compute."""

from typing import NamedTuple

import jax


class Conv(NamedTuple):
    """Operand shapes and parameters of a convolution; None for strides and dilations of one and no padding."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: tuple[tuple[int, int], ...] | None = None
    lhs_dilation: tuple[int, ...] | None = None
    rhs_dilation: tuple[int, ...] | None = None
    groups: int = 1
    numbers: tuple[str, str, str] = ("NHWC", "HWIO", "NHWC")

    @property
    def parameters(self):
        ones = (1,) * (len(self.x) - 2)
        return {
            "window_strides": self.strides or ones,
            "padding": self.padding or ((0, 0),) * len(ones),
            "lhs_dilation": self.lhs_dilation or ones,
            "rhs_dilation": self.rhs_dilation or ones,
            "dimension_numbers": jax.lax.conv_dimension_numbers(self.x, self.w, self.numbers),
            "feature_group_count": self.groups,
        }


NCHW = ("NCHW", "OIHW", "NCHW")
CONVS = {
    "valid": Conv((2, 7, 7, 16), (3, 3, 16, 5)),
    "padded": Conv((2, 7, 7, 16), (3, 3, 16, 5), padding=((1, 1), (2, 0))),
    "cropped": Conv((2, 9, 9, 16), (3, 3, 16, 5), padding=((-1, 0), (1, -2))),
    "strided": Conv((1, 8, 9, 16), (3, 3, 16, 5), strides=(2, 3), padding=((1, 1), (1, 1))),
    "dilated": Conv((1, 9, 9, 16), (3, 3, 16, 5), rhs_dilation=(2, 3)),
    "transposed": Conv((1, 4, 4, 16), (3, 3, 16, 5), lhs_dilation=(2, 2), padding=((2, 1), (2, 1))),
    "grouped": Conv((1, 6, 6, 32), (3, 3, 16, 6), groups=2),
    "depthwise": Conv((2, 6, 6, 20), (3, 3, 1, 20), groups=20, padding=((1, 1), (1, 1))),
    "depth_multiplier": Conv((1, 5, 5, 4), (3, 3, 1, 12), groups=4),
    "three_channels": Conv((1, 12, 12, 3), (5, 5, 3, 8), strides=(2, 2)),
    "long_window": Conv((1, 10, 10, 12), (9, 9, 12, 2)),
    "longer_window": Conv((1, 10, 10, 15), (9, 9, 15, 2)),
    "pointwise": Conv((2, 4, 4, 24), (1, 1, 24, 8)),
    "one_dimension": Conv((2, 20, 16), (4, 16, 3), numbers=("NWC", "WIO", "NWC"), strides=(2,)),
    "strided_dilated_channels_first": Conv(
        (2, 16, 9, 8), (5, 16, 3, 3), (2, 1), ((1, 2), (0, 0)), rhs_dilation=(1, 2), numbers=NCHW
    ),
}

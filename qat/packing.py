"""Codes of a few bits packed without gaps, for the disk."""

import numpy as np
from jaxtyping import Int8, UInt8


def pack(codes: Int8[np.ndarray, "..."], bits: int) -> UInt8[np.ndarray, " bytes"]:
    """Codes in [-2**(bits-1), 2**(bits-1)) as a string of bits, first code first: 4 bits are two to a byte."""
    if bits == 8:
        return codes.reshape(-1).view(np.uint8)
    shifted = (codes.reshape(-1).astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    return np.packbits(np.unpackbits(shifted[:, None], axis=1)[:, 8 - bits :])


def unpack(packed: UInt8[np.ndarray, " bytes"], bits: int, shape: tuple[int, ...]) -> Int8[np.ndarray, "..."]:
    """The codes that `pack` was given."""
    if bits == 8:
        return packed.view(np.int8).reshape(shape)
    size = int(np.prod(shape))
    each = np.unpackbits(packed, count=size * bits).reshape(size, bits)
    shifted = np.packbits(np.pad(each, ((0, 0), (8 - bits, 0))), axis=1)[:, 0]
    return (shifted.astype(np.int16) - 2 ** (bits - 1)).astype(np.int8).reshape(shape)

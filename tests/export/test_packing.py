"""Codes of a few bits in as few bytes as they need."""

import numpy as np
import pytest

from qat.export.safetensors import pack, unpack

SHAPES = [(), (0,), (1,), (7,), (8,), (3, 5), (4, 0, 2), (2, 3, 4, 5), (1021,)]
each_width = pytest.mark.parametrize("bits", range(2, 9), ids=lambda b: f"{b}bits")


def some_codes(bits, shape):
    rng = np.random.default_rng(bits)
    return rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.int8)


@each_width
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unpack_gives_back_what_pack_was_given(bits, shape):
    codes = some_codes(bits, shape)
    back = unpack(pack(codes, bits), bits, shape)
    assert back.dtype == np.int8 and back.shape == shape
    np.testing.assert_array_equal(back, codes)


@each_width
def test_every_code_of_a_width_survives(bits):
    codes = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).astype(np.int8)
    np.testing.assert_array_equal(unpack(pack(codes, bits), bits, codes.shape), codes)


@each_width
def test_packed_codes_take_their_bits_and_no_more_than_seven_besides(bits):
    for size in range(40):
        packed = pack(some_codes(bits, (size,)), bits)
        assert packed.dtype == np.uint8 and packed.shape == (-(-size * bits // 8),)


@each_width
def test_codes_are_packed_in_row_major_order_whatever_their_memory_layout(bits):
    codes = some_codes(bits, (6, 10)).T
    np.testing.assert_array_equal(unpack(pack(codes, bits), bits, (10, 6)), codes)


def test_two_codes_of_four_bits_share_a_byte_the_first_in_its_upper_half():
    np.testing.assert_array_equal(pack(np.asarray([-8, 7, 0], np.int8), 4), [0x0F, 0x80])

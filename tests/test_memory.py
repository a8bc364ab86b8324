"""Freed memory that stays with the process."""

import subprocess
import sys

import pytest

COUNT = """
import ctypes, resource
from qat.runtime import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
SIZE = 50_000_000

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(ctypes.c_size_t(SIZE))
    ctypes.memset(block, 1, SIZE)
    libc.free(ctypes.c_void_p(block))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = [pages() for _ in range(3)][-1]
known = keep_freed_memory()
kept = [pages() for _ in range(3)][-1]
print(known, fresh, kept)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is not glibc")
def test_memory_that_was_freed_is_used_again():
    known, fresh, kept = subprocess.check_output([sys.executable, "-c", COUNT], text=True).split()
    if known == "False":
        pytest.skip("the C library is not glibc")
    assert int(fresh) > 500 > 50 > int(kept)

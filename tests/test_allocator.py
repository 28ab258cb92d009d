"""Freed memory stays with the tool's own processes, so that a training step does not map it anew."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from hampkit.launch.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
allocate = ctypes.CDLL(None)
allocate.malloc.restype = ctypes.c_void_p
allocate.malloc.argtypes = [ctypes.c_size_t]
allocate.free.argtypes = [ctypes.c_void_p]
def use():
    blocks = [allocate.malloc(50_000_000) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, 50_000_000)
    for block in blocks:
        allocate.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, **environment):
    """Whether memory is kept, and the pages that the same allocations map the second time."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FAULTS, how]
    words = subprocess.run(command, check=True, capture_output=True, text=True, env=clean | environment).stdout.split()
    return words[0] == "True", int(words[1])


def test_memory_that_was_freed_is_not_mapped_again():
    kept, mapped = faults("keep")
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert mapped < 100, mapped
    assert faults("leave")[1] > mapped, "without it, the pages are mapped again"


@pytest.mark.parametrize(
    "setting", [{"MALLOC_TRIM_THRESHOLD_": "100000"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=200000"}], ids=str
)
def test_a_users_own_setting_is_left_alone(setting):
    assert faults("keep", **setting)[0] is False

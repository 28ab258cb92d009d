"""Settings of glibc's memory allocator in the processes of the command line and its workers, never in a user's program."""

from __future__ import annotations

import ctypes
import os
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # numbers of glibc's malloc.h
LARGEST_KEPT = 2**30  # bytes; larger blocks, such as a whole data set, are returned to the system when they are freed
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """Keep freed memory for the next allocation; returns whether the C library supports it.

    A training step on images allocates and frees hundreds of megabytes of activations. By default glibc returns them to the
    system, which must then clear and map every page again. Nothing is changed if the user has set the allocator in the
    environment.
    """
    mallopt = _of_libc("mallopt")
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(name in os.environ for name in SET_BY_USER)
    if mallopt is None or tuned:
        return False
    # some versions of glibc refuse a threshold above 32 MiB
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) or mallopt(M_MMAP_MAX, 0)
    return bool(kept and mallopt(M_TRIM_THRESHOLD, -1))


def give_back_freed_memory() -> None:
    """Return freed memory to the system, so that other processes can use it."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_libc(name: str) -> Any:
    """A function of the C library; None if the library does not have it."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None

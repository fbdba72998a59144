"""Keeps the memory that a training frees, instead of handing it back after every step.

torch on a CPU allocates each activation anew. glibc maps blocks of that size from the kernel and
unmaps them when they are freed, so every step pays for thousands of page faults; in virtual
machines they are dear (benchmarks/allocator.py). Held back, the next step finds the memory there.
"""

import ctypes
import os
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = 2**30, 2**31 - 1
"""Bytes: blocks below the first are not mapped by themselves, and free memory below the second
stays with the process. A GPU's memory is not concerned."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)'s numbers."""


def keep_freed_memory() -> None:
    """Tell this process's allocator, and by the environment those of processes that it starts.

    What the user's environment says already stays. Without glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    settings = (
        ("MALLOC_MMAP_THRESHOLD_", M_MMAP_THRESHOLD, MMAP_THRESHOLD),
        ("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD, TRIM_THRESHOLD),
    )
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for variable, number, size in settings:
        if variable not in os.environ:
            os.environ[variable] = str(size)
            if mallopt is not None:
                mallopt(number, size)

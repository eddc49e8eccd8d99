"""How a process is set up: what its libraries do by default that costs a load time or memory."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys

KEPT_BYTES = 32 << 20
"""Freed memory up to this size stays with the process: the most that glibc takes for the threshold of a block."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def before_imports() -> None:
    """To be called before NumPy and Arrow are imported."""
    # The threads that OpenBLAS starts with NumPy would spin while they wait for work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Arrow's allocator takes memory in pages of 2 MB where it may: 30 MB more, and the first batch waits for them.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    # Modules in the making are no garbage, yet are searched for some with every 700 new objects.
    gc.set_threshold(100_000)


@functools.cache
def keep_freed_blocks() -> None:
    """Have the C library keep blocks of some megabytes for the next ones when they are freed.

    By itself glibc gives such a block back to the kernel, which then zeroes every page of the next one: 57,000 page
    faults for a CSV of 1 GB. Other C libraries are left as they are.

    Source: mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)

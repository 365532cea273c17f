"""What the C libraries under torch are told, which scans and patterns on a CPU gain from.

The pattern of a layer is megabytes that are freed before the next one is made. By default glibc
gives such memory back to the system, and every page of it is mapped and zeroed again when it is
next used. And GNU OpenMP's threads wait for work by spinning, on the very cores that tally the
layer meanwhile. benchmarks/scan.py measures a scan with both told; set the two variables that
:func:`prepare` names to see it without.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT = 1 << 30  # bytes that may lie unused at the end of the heap
MAPPED = 1 << 25  # bytes from which an allocation is mapped by itself: the most glibc takes
SPINS = "10000"  # enough to bridge two operations of a forward pass, a thirtieth of the default

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h's numbers


def prepare() -> None:
    """Tell them, where there are such libraries; before torch is loaded, which reads it then.

    ``GOMP_SPINCOUNT`` and ``MALLOC_TRIM_THRESHOLD_`` in the environment win over it.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if sys.platform != "linux" or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_MMAP_THRESHOLD, MAPPED)

"""Threads that leave the cores to others while they wait: two scans at once take no longer than one after the other.

How many threads there are says nothing of what else runs, and so never what a result is. What a user has set in the
environment stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# At the end of each of its thousand small tasks a second a thread waits for the others, by default without a pause of
# its core for a good while: for threads that get no core as long as it does. A few hundredths of a millisecond are
# enough where each has a core of its own. The first is read by GNU's OpenMP (torch on Linux), the second by LLVM's.
_BRIEF_WAITS = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "0"}
_ASKED_FOR = {"OMP_WAIT_POLICY", *_BRIEF_WAITS}
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def wait_briefly() -> None:
    """Let the threads of torch give their cores away when they wait; before torch is imported, or it has no effect."""
    if _ASKED_FOR.isdisjoint(os.environ):
        os.environ.update(_BRIEF_WAITS)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, numpy and scipy multiply small matrices, thousands in turn, on one thread; torch has its own.

    Their threads wait for each other without a pause, too, and two are no faster for such matrices.
    """
    if _BLAS_THREADS in os.environ:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield

"""Threads: they wait briefly where the user has not said otherwise, and small matrices take one of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from labelfix.threads import one_blas_thread

# Where the pool of torch is made, what the program has put into the environment.
_SEEN = """
import os, sys
sys.argv = ["labelfix", "methods"]
try:
    from labelfix.cli import main
    main()
except SystemExit:
    print("seen:", *map(os.environ.get, ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "THP_MEM_ALLOC_ENABLE")))
"""


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ({}, "20000 0 1"),
        ({"OMP_WAIT_POLICY": "active"}, "None None 1"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None 1"),
    ],
)
def test_the_program_waits_briefly_unless_the_user_says_otherwise(asked, seen):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "THP_MEM_ALLOC_ENABLE")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    run = subprocess.run(
        [sys.executable, "-c", _SEEN], env=inherited | asked, capture_output=True, text=True, check=True
    )
    assert f"seen: {seen}" in run.stdout


def _blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_small_matrices_take_one_thread_unless_the_user_says_otherwise(monkeypatch):
    with threadpool_limits(2, user_api="blas"):
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        with one_blas_thread():
            assert _blas_threads() == {1}
        assert _blas_threads() == {2}
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
        with one_blas_thread():
            assert _blas_threads() == {2}

"""Data that no method was made for, each with one method; `tests/stress/odd_data.py` takes all of them in every way."""

from __future__ import annotations

import pytest
from stress.odd_data import CONDITIONS, scan, trouble

METHODS = ("bmm", "cross-entropy", "joint", "pencil", "nnaqc", "meta", "bmm")


@pytest.mark.parametrize(("make", "method"), [*zip(CONDITIONS, METHODS, strict=True)])
def test_odd_data_is_no_crash_and_nothing_but_numbers(tmp_path, make, method):
    run = scan(make, method, "folds" if method == "cross-entropy" else "plain", tmp_path / "run")
    assert trouble(run) == ""

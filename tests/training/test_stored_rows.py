from __future__ import annotations

import os
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from labelfix.errors import LabelfixError
from labelfix.training.stored_rows import StoredRows

SHAPE = (50, 3, 5)


@pytest.fixture
def mapped(tmp_path):
    """50 rows that tell their row, mapped from a file."""
    values = np.arange(np.prod(SHAPE), dtype=np.float16).reshape(SHAPE)
    np.save(tmp_path / "rows.npy", values)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "rows",
    [[7, 3, 49, 0], list(range(50)), [4, 4, 5, 4], [9], [], list(range(20, 40)), list(range(49, -1, -1))],
    ids=["shuffled", "all", "twice", "one", "none", "in a row", "backwards"],
)
def test_rows_of_a_file_are_those_of_its_map(mapped, rows):
    rows = np.array(rows, np.int64)
    with StoredRows(mapped).opened() as stored:
        found = stored.read(rows, pinned=False)
    assert found.dtype == torch.float16
    assert np.array_equal(found.numpy(), mapped[rows])


def test_an_axis_more_is_still_the_same_file(mapped):
    with StoredRows(mapped[:40, None]).opened() as stored:
        found = stored.read(np.array([39, 2]), pinned=False)
    assert np.array_equal(found.numpy(), mapped[[39, 2], None])


@pytest.mark.parametrize(
    "view", [np.s_[10:], np.s_[:, 1:], np.s_[::2]], ids=["later", "inner", "every other"]
)
def test_a_view_of_other_bytes_is_not_taken_for_the_file(mapped, view):
    with StoredRows(mapped[view]).opened() as stored:
        found = stored.read(np.array([3, 0]), pinned=False)
    assert np.array_equal(found.numpy(), mapped[view][[3, 0]])


def test_a_file_that_was_removed_is_read_through_its_map(mapped, tmp_path):
    (tmp_path / "rows.npy").unlink()
    with StoredRows(mapped).opened() as stored:
        found = stored.read(np.array([1]), pinned=False)
    assert np.array_equal(found.numpy(), mapped[[1]])


def test_a_file_that_became_shorter_is_named(mapped, tmp_path):
    """Through the map the process would be killed."""
    path = tmp_path / "rows.npy"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with (
        StoredRows(mapped).opened() as stored,
        pytest.raises(LabelfixError, match=r"rows\.npy became shorter"),
    ):
        stored.read(np.array([2, 48]), pinned=False)


def test_whoever_reads_beside_others_reads_on_when_they_are_done(mapped):
    rows = StoredRows(mapped)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with ExitStack() as first, ExitStack() as second:
        for stack in (first, second):
            other = stack.enter_context(rows.opened())
        first.close()
        assert np.array_equal(other.read(np.array([8, 3]), pinned=False).numpy(), mapped[[8, 3]])
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before

"""Training where memory does not hold what is stored; `tests/stress/larger_than_memory.py` measures its speed."""

from __future__ import annotations

import pytest
from stress.larger_than_memory import train, write

from labelfix.training import batches


@pytest.mark.parametrize("kind", ["images", "features"])
def test_what_does_not_fit_is_streamed_and_trained_on(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(batches, "free_memory", lambda: 1 << 20)
    found = train(write(tmp_path, kind, 20_000_000), kind, seconds=1.0)
    assert not found["resident"]
    assert found["rows_a_second"] > 0
    assert 0 <= found["waits"] <= 1

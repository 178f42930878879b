from __future__ import annotations

import json

import pytest
import torch

from labelfix.training import checkpoint


def test_the_newest_whole_checkpoint_comes_back(tmp_path):
    for number in (1, 2, 3):
        checkpoint.save(tmp_path, number, {"x": torch.full((2,), float(number))}, {"epoch": number})
    tensors, facts = next(checkpoint.newest_first(tmp_path))
    assert checkpoint.newest_number(tmp_path) == 3
    assert tensors["x"].tolist() == [3.0, 3.0]
    assert facts == {"epoch": 3}


def test_two_are_kept(tmp_path):
    for number in range(1, 6):
        checkpoint.save(tmp_path, number, {"x": torch.zeros(1)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000004.json", "000000004.safetensors", "000000005.json", "000000005.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["tensors", "json", "missing"])
def test_a_damaged_one_is_passed_over(tmp_path, damage):
    for number in (1, 2):
        checkpoint.save(tmp_path, number, {"x": torch.full((3,), float(number))}, {"epoch": number})
    newest = tmp_path / "000000002.safetensors"
    if damage == "tensors":
        newest.write_bytes(newest.read_bytes()[:-1] + b"\x07")
    elif damage == "json":
        newest.with_suffix(".json").write_text('{"sha256": "')
    else:
        newest.unlink()
    assert [facts["epoch"] for _, facts in checkpoint.newest_first(tmp_path)] == [1]


def test_no_checkpoint_is_none(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        assert not list(checkpoint.newest_first(folder))
        assert checkpoint.newest_number(folder) == 0


def test_tensors_without_their_json_do_not_count(tmp_path):
    """A kill between the two files leaves tensors that nobody vouches for."""
    checkpoint.save(tmp_path, 1, {"x": torch.zeros(1)}, {})
    (tmp_path / "000000001.json").unlink()
    assert not list(checkpoint.newest_first(tmp_path))


def test_layouts_survive_as_values(tmp_path):
    tensor = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path, 1, {"x": tensor}, {})
    assert torch.equal(next(checkpoint.newest_first(tmp_path))[0]["x"], tensor)
    assert json.loads((tmp_path / "000000001.json").read_text())["sha256"]

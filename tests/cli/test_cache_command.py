"""labelfix cache: what is there, what goes, and what never does; and where --cache-dir puts it."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time

import pytest
from conftest import write_digits

from labelfix.cli import main
from labelfix.data.cache_contents import cache_entries, remove_entries
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest


@pytest.fixture
def run_cli(tmp_path, monkeypatch, capfd):
    """Runs the program in `tmp_path`; returns its exit code and stdout."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["labelfix", *args])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capfd.readouterr().out

    return call


@pytest.fixture
def filled(tmp_path, cache):
    """A cache with a store of images, features, what a kill left, and what is somebody's own."""
    write_digits(tmp_path / "images", 6)
    ImageStore.open_or_build(Manifest.read(tmp_path / "images"), 8, workers=1)
    (cache / "features").mkdir()
    for name in ("a" * 64 + ".npy", "b" * 64 + ".partial", "b" * 64 + ".json", "notes.npy"):
        (cache / "features" / name).write_bytes(b"x" * 5000)
    (cache / "images" / ("c" * 64 + "-left")).mkdir()
    (cache / "exports").mkdir()
    (cache / "exports" / ("d" * 64)).touch()
    (cache / "thesis.txt").write_text("mine")
    return cache


def test_what_is_listed_and_cleared_is_what_labelfix_makes_again(filled, run_cli):
    listed = json.loads(run_cli("cache", "list", "--json")[1])
    assert sorted(entry["kind"] for entry in listed["entries"]) == [
        "features", "images", "left over", "left over",
    ]  # fmt: skip
    assert listed["bytes"] == sum(entry["bytes"] for entry in listed["entries"]) > 0
    assert "images" in run_cli("cache", "list")[1]
    assert "4 entries would be removed" in run_cli("cache", "clear", "--dry-run")[1]
    assert len(cache_entries()) == 4
    assert run_cli("cache", "clear")[0] == 0
    assert cache_entries() == []
    assert (filled / "thesis.txt").read_text() == "mine"
    assert (filled / "features" / "notes.npy").exists()
    assert (filled / "exports" / ("d" * 64)).exists()


def test_no_number_of_days_clears_nothing(filled, run_cli):
    for days in ("nan", "inf", "-1"):
        code, *_ = run_cli("cache", "clear", "--older-than", days)
        assert code == 2
    assert len(cache_entries()) == 4


def test_what_is_young_or_being_made_stays(filled):
    old = time.time() - 10 * 24 * 3600
    features = filled / "features" / ("a" * 64 + ".npy")
    os.utime(features, (old, old))
    assert [entry.kind for entry in remove_entries(9.0)] == ["features"]
    store = next(entry for entry in cache_entries() if entry.kind == "images")
    lock = os.open(store.paths[0].with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert store not in remove_entries()
    assert store.paths[0].is_dir()
    os.close(lock)
    assert store in remove_entries()


def test_links_are_no_entries(filled, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "x").touch()
    (filled / "images" / ("e" * 64)).symlink_to(tmp_path / "theirs")
    remove_entries()
    assert (tmp_path / "theirs" / "x").exists()


def test_the_cache_lies_where_it_is_asked_for(tmp_path, cache, run_cli, monkeypatch):
    monkeypatch.setenv("LABELFIX_CACHE", str(cache))  # so that it is put back
    write_digits(tmp_path / "images", 20)
    options = ("--method", "cross-entropy", "--epochs", "1", "--quiet")
    assert run_cli("scan", "images", "--out", "run", "--cache-dir", "here", *options)[0] == 0
    assert not list(cache.iterdir())
    assert [entry.paths[0].parts[-3:-1] for entry in cache_entries()] == [("here", "images")]
    assert "1 entries removed" in run_cli("cache", "clear", "--cache-dir", "here")[1]


def test_a_log_has_a_line_an_epoch(tmp_path, cache, run_cli, monkeypatch, capfd):
    write_digits(tmp_path / "images", 20)
    (tmp_path / "images" / "3" / "broken.png").write_text("x")
    seen = {}
    for kind in ("text", "json"):
        arguments = ["labelfix", "scan", "images", "--out", kind, "--epochs", "2", "--log-format", kind]
        monkeypatch.setattr(sys, "argv", [*arguments, "--method", "cross-entropy"])
        with pytest.raises(SystemExit):
            main()
        seen[kind] = capfd.readouterr().err.splitlines()
    epochs = [line for line in seen["text"] if line.startswith("train: epoch ")]
    assert [line[13:19] for line in epochs] == ["1 of 2", "2 of 2"]
    events = [json.loads(line) for line in seen["json"]]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2]
    assert all(event["loss_cross_entropy"] > 0 for event in events if event["event"] == "epoch")
    warned = [event for event in events if event["event"] == "message" and event["level"] == "warning"]
    assert any("broken.png" in event["message"] for event in warned)
    ends = [event for event in events if event["event"] == "progress" and event["stage"] == "train"]
    assert ends[-1]["done"] == ends[-1]["total"]
    summary = json.loads((tmp_path / "json" / "summary.json").read_text())
    assert summary["peak_memory_bytes"] > 50_000_000
    assert 0 <= summary["data_wait_seconds"] <= summary["training_seconds"]

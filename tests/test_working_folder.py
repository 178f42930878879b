"""The working folder is data: nothing that lies there is run, whatever it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_digits

# What the processes of a scan import first, and what any of them may import later.
SHADOWS = (
    "multiprocessing", "multiprocessing.forkserver", "multiprocessing.resource_tracker", "multiprocessing.spawn",
    "socket", "selectors", "signal", "struct", "threading", "random", "tempfile", "pickle", "json", "warnings",
    "numpy", "PIL", "pebble", "torch", "labelfix", "sitecustomize", "usercustomize",
)  # fmt: skip


@pytest.fixture
def hostile(tmp_path):
    """A folder of digits in which many modules have a double that leaves a file behind when it is run."""
    folder, traces = tmp_path / "hostile", tmp_path / "traces"
    write_digits(folder, 60)
    traces.mkdir()
    for name in SHADOWS:
        place = folder.joinpath(*name.split("."))
        place.mkdir(parents=True, exist_ok=True)
        (place / "__init__.py").write_text(f"open({str(traces / name)!r}, 'w').close()\n")
    (folder / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: red\n")
    return folder, traces


def labelfix_in(folder: Path, *arguments: object) -> None:
    """Run the command in a folder as its entry point does, with all caches cold."""
    entry = folder.parent / "bin" / "entry.py"
    entry.parent.mkdir(exist_ok=True)
    entry.write_text("import sys\nfrom labelfix.cli import main\nsys.exit(main())\n")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    cache = folder.parent / f"cache-{arguments[0]}"
    command = [sys.executable, entry, *arguments]
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=env | {"LABELFIX_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_no_command_runs_what_lies_in_the_folder_it_is_started_in(hostile, tmp_path):
    folder, traces = hostile
    few = ["--rows", 40, "--image-size", 8]
    quick = [*few, "--epochs", 1, "--method", "cross-entropy"]
    labelfix_in(folder, "scan", ".", "--out", tmp_path / "run", *quick)
    labelfix_in(folder, "predict", tmp_path / "run", ".", "--out", tmp_path / "p.parquet")
    labelfix_in(folder, "review", tmp_path / "run")
    grid = ["--methods", "cross-entropy", "--noise", "clean", "--epochs", 1, "--out", tmp_path / "bench"]
    labelfix_in(folder, "bench", ".", *grid, *few)
    assert [path.name for path in traces.iterdir()] == []


def test_the_doubles_would_leave_their_traces(hostile):
    folder, traces = hostile
    subprocess.run([sys.executable, "-c", "import multiprocessing"], cwd=folder, check=True)
    assert [path.name for path in traces.iterdir()] == ["multiprocessing"]


def test_the_callers_environment_is_left_alone(monkeypatch):
    from labelfix.child_processes import only_our_code

    for before in (None, "0"):
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
        if before is not None:
            monkeypatch.setenv("PYTHONSAFEPATH", before)
        with only_our_code(), only_our_code():
            assert os.environ["PYTHONSAFEPATH"] == "1"
        assert os.environ.get("PYTHONSAFEPATH") == before

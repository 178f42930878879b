"""The program as people run it: real processes, real files, exit codes and one-line errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import write_digits

from labelfix.methods import method_names

QUICK = ("--epochs", "3", "--batch-size", "64")


def labelfix(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "labelfix", *map(str, args)],
        cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, **env},
    )  # fmt: skip


def test_the_two_commands_of_the_contract_work_verbatim_in_one_folder(digits, tmp_path):
    scanned = labelfix("scan", "./images", "--method", "bmm", *QUICK, cwd=tmp_path)
    assert scanned.returncode == 0, scanned.stderr
    assert "labelfix export runs/images-bmm/corrections.parquet" in scanned.stdout
    exported = labelfix("export", "corrections.parquet", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert "runs/images-bmm/corrections.parquet" in exported.stderr
    frame = pd.read_csv(tmp_path / "runs" / "images-bmm" / "corrected.csv", dtype=str)
    assert list(frame.columns) == ["file_name", "label"]
    assert len(frame) == 300


def test_the_printed_next_commands_run(digits, tmp_path):
    scanned = labelfix("scan", "images", "--out", "a run", *QUICK, cwd=tmp_path)
    commands = [line.strip() for line in scanned.stdout.splitlines() if line.startswith("  labelfix ")]
    assert len(commands) == 2
    for command in commands:
        line = command.replace("labelfix", f"{sys.executable} -m labelfix", 1)
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_json_is_exactly_one_object_on_stdout(digits, tmp_path):
    scanned = labelfix("scan", "images", "--out", "run", "--json", *QUICK, cwd=tmp_path)
    summary = json.loads(scanned.stdout)
    assert summary["counts"]["rows"] == 300
    planned = labelfix("scan", "images", "--out", "run2", "--json", "--dry-run", *QUICK, cwd=tmp_path)
    assert json.loads(planned.stdout)["rows"] == 300
    cards = labelfix("methods", "--json", cwd=tmp_path)
    assert [card["name"] for card in json.loads(cards.stdout)["methods"]] == method_names()
    listed = labelfix("methods", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in listed] == method_names()


def test_quiet_says_nothing_on_stderr_and_no_bar_without_a_terminal(digits, tmp_path):
    (digits[0] / "3" / "broken.png").write_text("no image")
    loud = labelfix("scan", "images", "--out", "a", *QUICK, cwd=tmp_path)
    assert "warning: 1 of 301 images cannot be used" in loud.stderr
    assert "\r" not in loud.stderr
    assert "\x1b" not in loud.stderr
    quiet = labelfix("scan", "images", "--out", "b", "--quiet", *QUICK, cwd=tmp_path)
    assert quiet.stderr == ""
    assert quiet.returncode == 0


def test_strict_exits_3_for_invalid_images_and_failed_fits(digits, tmp_path):
    failed = labelfix(
        "scan", "images", "--out", "a", "--strict", "--set", "learning_rate=1e30", *QUICK, cwd=tmp_path
    )
    assert failed.returncode == 3
    assert "the fit failed: training diverged" in failed.stdout
    (digits[0] / "3" / "broken.png").write_text("no image")
    assert labelfix("scan", "images", "--out", "b", "--strict", *QUICK, cwd=tmp_path).returncode == 3
    assert labelfix("scan", "images", "--out", "c", *QUICK, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["scan", "nowhere"], "nowhere"),
        (["scan", "images", "--set", "batch_size"], "write it as KEY=VALUE"),
        (["scan", "images", "--set", "speed=3"], "no such setting; there are batch_size"),
        (["scan", "images", "--method", "magic"], "magic"),
        (["scan", "images", "--seed", "x"], "--seed"),
        (["scan"], "SOURCE"),
        (["scan", "one"], "class"),
        (["frobnicate"], "frobnicate"),
        (["export", "corrections.parquet"], "corrections.parquet"),
        (["evaluate", "images", "--truth", "images"], "images holds no corrections.parquet"),
        (["corrupt", "images", "--noise", "fog:0.2"], "fog"),
        (["methods", "magic"], "choose one of bmm, "),
    ],
)
def test_bad_usage_exits_2_with_one_line(digits, tmp_path, args, message):
    (tmp_path / "one" / "cat").mkdir(parents=True)
    (tmp_path / "one" / "cat" / "a.png").write_bytes(next(digits[0].rglob("*.png")).read_bytes())
    done = labelfix(*args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_bug_is_one_line_and_a_traceback_on_request(digits, tmp_path):
    code = (
        "import sys, labelfix.pipeline\n"
        "def scan(*a, **k): raise ZeroDivisionError('two\\nlines')\n"
        "labelfix.pipeline.scan = scan\n"
        "from labelfix.cli import main\nsys.argv = ['labelfix', 'scan', 'images']\nmain()\n"
    )
    run = [sys.executable, "-c", code]
    plain = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert plain.returncode == 1
    assert plain.stderr == "labelfix: ZeroDivisionError: two lines (LABELFIX_DEBUG=1 shows where)\n"
    debug = subprocess.run(
        run, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "LABELFIX_DEBUG": "1"}
    )
    assert "Traceback" in debug.stderr


def test_help_is_quick(tmp_path):
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        assert labelfix("--help", cwd=tmp_path).returncode == 0
        seconds.append(time.monotonic() - started)
    # A bound against importing torch (seconds), not a measurement.
    assert min(seconds) < 2.0


def test_corrupt_scan_evaluate_on_a_manifest(tmp_path):
    write_digits(tmp_path / "clean", 400)
    corrupted = labelfix(
        "corrupt", "clean", "--noise", "symmetric-exclusive:0.3", "--out", "noisy.parquet", cwd=tmp_path
    )
    assert corrupted.returncode == 0, corrupted.stderr
    scanned = labelfix("scan", "noisy.parquet", "--out", "run", "--epochs", "12", cwd=tmp_path)
    assert scanned.returncode == 0, scanned.stderr
    result = labelfix("evaluate", "run", "--truth", "noisy.parquet", "--json", cwd=tmp_path)
    found = json.loads(result.stdout)
    assert found["noise_rate_true"] == pytest.approx(0.3)
    assert found["average_precision"] > 0.8
    assert found["label_accuracy_corrected"] >= found["label_accuracy_given"]


def test_the_demo_walks_the_whole_road(tmp_path):
    done = labelfix("demo", "--out", "demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["images"] == 1797
    assert result["noise_rate_true"] == pytest.approx(0.2, abs=0.001)
    assert result["average_precision"] > 0.98
    assert result["label_accuracy_corrected"] > 0.93
    assert len(pd.read_csv(tmp_path / "demo" / "corrected.csv")) == 1797
    again = labelfix("demo", "--out", "demo", cwd=tmp_path)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    other = labelfix("demo", "--out", "demo", "--overwrite", "--seed", "1", "--json", cwd=tmp_path)
    assert json.loads(other.stdout)["rows"] == 1797
    assert len(list((tmp_path / "demo" / "images").rglob("*.png"))) == 1797
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert labelfix("demo", "--out", "other", cwd=tmp_path).returncode == 2

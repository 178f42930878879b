"""The program as people run it: real processes, real files, exit codes and one-line errors."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import warnings
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import write_digits
from processes import labelfix

from labelfix.cli import COMMANDS, main
from labelfix.cli.terminal import Terminal, shown
from labelfix.methods import method_names
from labelfix.pipeline import scan as labelfix_scan

QUICK = ("--epochs", "3", "--batch-size", "64")


@pytest.fixture
def run_cli(tmp_path, monkeypatch, capfd):
    """labelfix() without the seconds that a process of its own needs for its imports."""

    def call(*args: str) -> SimpleNamespace:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["labelfix", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            main()
        return SimpleNamespace(returncode=end.value.code, **capfd.readouterr()._asdict())

    return call


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


def test_the_printed_next_commands_run(run_cli, digits, tmp_path):
    scanned = run_cli("scan", "images", "--out", "a run", *QUICK)
    commands = [line.strip() for line in scanned.out.splitlines() if line.startswith("  labelfix ")]
    assert len(commands) == 2
    for command in commands:
        line = command.replace("labelfix", f"{sys.executable} -m labelfix", 1)
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_json_is_exactly_one_object_on_stdout(run_cli, digits):
    summary = json.loads(run_cli("scan", "images", "--out", "run", "--json", *QUICK).out)
    assert summary["counts"]["rows"] == 300
    planned = run_cli("scan", "images", "--out", "run2", "--json", "--dry-run", *QUICK)
    assert json.loads(planned.out)["rows"] == 300
    cards = run_cli("methods", "--json")
    assert [card["name"] for card in json.loads(cards.out)["methods"]] == method_names()
    listed = run_cli("methods").out.splitlines()
    assert [line.split()[0] for line in listed] == method_names()
    purposes = [line.split(maxsplit=1)[1] for line in listed]
    assert len(set(purposes)) == len(purposes)


def test_quiet_says_nothing_on_stderr_and_no_bar_without_a_terminal(run_cli, digits, tmp_path):
    (digits[0] / "3" / "broken.png").write_text("no image")
    loud = run_cli("scan", "images", "--out", "a", *QUICK)
    assert "warning: 1 of 301 images cannot be used" in loud.err
    assert "\r" not in loud.err
    assert "\x1b" not in loud.err
    quiet = labelfix("scan", "images", "--out", "b", "--quiet", *QUICK, cwd=tmp_path)
    assert quiet.stderr == ""
    assert quiet.returncode == 0


def test_strict_exits_3_for_invalid_images_and_failed_fits(run_cli, digits):
    failed = run_cli("scan", "images", "--out", "a", "--strict", "--set", "learning_rate=1e30", *QUICK)
    assert failed.returncode == 3
    assert "the fit failed: training diverged" in failed.out
    (digits[0] / "3" / "broken.png").write_text("no image")
    assert run_cli("scan", "images", "--out", "b", "--strict", *QUICK).returncode == 3
    assert run_cli("scan", "images", "--out", "c", *QUICK).returncode == 0


# Red, an alarm, a title for the window by C1, text from right to left, and a line of its own.
HOSTILE = "cat\x1b[31m\x07\x9b0;x\x9c\u202ed\nlabelfix: all is well\x7f"


def is_tame(text: str) -> bool:
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text) and "\nlabelfix: all" not in text


class TestNothingInTheDataSteersTheTerminal:
    @pytest.fixture
    def hostile(self, tmp_path):
        write_digits(tmp_path / "images", 40)
        (tmp_path / "images" / "0").rename(tmp_path / "images" / HOSTILE)
        return tmp_path

    def test_results_messages_and_json(self, run_cli, hostile):
        planted = run_cli("corrupt", "images", "--noise", "symmetric:0.4", "--out", f"{HOSTILE}.parquet")
        assert planted.returncode == 0
        assert is_tame(planted.out + planted.err)
        assert "cat\\x1b[31m\\x07\\x9b0;x\\x9c\\u202ed\\nlabelfix: all is well\\x7f" in planted.out
        result = run_cli("corrupt", "images", "--noise", "symmetric:0.4", "--json")
        assert is_tame(result.out)
        assert HOSTILE in json.loads(result.out)["class_names"]
        planned = run_cli("scan", "images", "--dry-run", "--out", HOSTILE)
        assert planned.returncode == 0
        assert is_tame(planned.out + planned.err)

    def test_errors_are_one_line(self, run_cli, hostile):
        for args in (
            ("scan", HOSTILE),
            ("scan", "images", "--set", HOSTILE),
            ("scan", "images", "--method", HOSTILE),
            ("export", HOSTILE),
            (HOSTILE,),
        ):
            ended = run_cli(*args)
            assert (ended.returncode, ended.out) == (2, "")
            assert ended.err.count("\n") == 1
            assert is_tame(ended.err)

    def test_names_that_are_no_unicode_are_shown(self, run_cli, hostile):
        os.rename(hostile / "images", os.fsencode(hostile) + b"/caf\xe9")
        ended = run_cli("scan", os.fsdecode(b"caf\xe9"), "--dry-run", "--out", os.fsdecode(b"out\xe9"))
        assert ended.returncode == 0
        assert "out\\udce9" in ended.out

    def test_what_libraries_warn_of(self, run_cli, hostile, monkeypatch):
        def warn(*_args, **_options):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn(HOSTILE, stacklevel=1)
            return {"path": "x", "rows": 0, "changed": 0, "left_out": 0, "dry_run": True}

        monkeypatch.setattr("labelfix.exports.export", warn)
        (hostile / "x.parquet").touch()
        ended = run_cli("export", "x.parquet")
        assert (ended.err.count("\n"), ended.returncode) == (1, 0)
        assert ended.err.startswith("warning: cat\\x1b")

    def test_beside_a_bar(self, monkeypatch):
        screen = io.StringIO()
        monkeypatch.setattr(screen, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("TERM", "xterm")
        with Terminal(quiet=False, bar=True) as terminal:
            terminal.progress(HOSTILE, 1, 2)
            terminal.message(f":cat: {HOSTILE}")
        assert f":cat: {shown(HOSTILE)}" in screen.getvalue()
        assert not {"\x07", "\x9b", "\x7f", "\u202e"} & set(screen.getvalue())

    def test_other_text_stays(self):
        text = "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{GRINNING FACE} \u05d0 \\ \u200d"
        assert shown(text) == text
        assert shown("\t\r\u2028\udce9") == "\\t\\r\\u2028\\udce9"


def test_a_bug_is_one_line_and_a_traceback_on_request(run_cli, digits, monkeypatch):
    def scan(*args, **options):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("labelfix.pipeline.scan", scan)
    plain = run_cli("scan", "images")
    assert plain.returncode == 1
    assert plain.err == "labelfix: ZeroDivisionError: two lines (LABELFIX_DEBUG=1 shows where)\n"
    monkeypatch.setenv("LABELFIX_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run_cli("scan", "images")


@pytest.mark.parametrize("args", ["--help", "--version", *(f"{name} --help" for name in COMMANDS)])
def test_help_imports_nothing_that_takes_long(tmp_path, args):
    done = labelfix(*args.split(), cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "labelfix.cli" in imported
    slow = "torch torchvision pandas scipy sklearn matplotlib pyarrow numpy jinja2 rich"
    assert not imported & {*slow.split()}


def test_corrupt_scan_evaluate_on_a_manifest(run_cli, tmp_path):
    write_digits(tmp_path / "clean", 400)
    corrupted = run_cli(
        "corrupt", "clean", "--noise", "symmetric-exclusive:0.3:exact", "--out", "noisy.parquet"
    )
    assert corrupted.returncode == 0, corrupted.err
    scanned = run_cli("scan", "noisy.parquet", "--out", "run", "--epochs", "12")
    assert scanned.returncode == 0, scanned.err
    found = json.loads(run_cli("evaluate", "run", "--truth", "noisy.parquet", "--json").out)
    assert found["noise_rate_true"] == pytest.approx(0.3)
    assert found["average_precision"] > 0.8
    assert found["label_accuracy_corrected"] >= found["label_accuracy_given"]


def test_the_demo_runs_every_step(run_cli, tmp_path, monkeypatch):
    done = labelfix("demo", "--out", "demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["images"] == 1797
    assert result["noise_rate_true"] == pytest.approx(0.2, abs=0.001)
    assert result["average_precision"] > 0.98
    assert result["label_accuracy_corrected"] > 0.93
    assert len(pd.read_csv(tmp_path / "demo" / "corrected.csv")) == 1797
    monkeypatch.setattr("labelfix.demo.scan", partial(labelfix_scan, epochs=2))
    other = run_cli("demo", "--out", "demo", "--overwrite", "--seed", "1", "--json")
    assert json.loads(other.out)["rows"] == 1797
    assert len(list((tmp_path / "demo" / "images").rglob("*.png"))) == 1797

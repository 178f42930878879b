"""The program in a process of its own, whole or with a signal at a moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

TIMEOUT = 300.0  # seconds; a machine on which much else runs may need more


def arguments(args: tuple) -> list[str]:
    """As text; a scan is without a trial of the encoder, which takes seconds, unless it names one."""
    given = [str(each) for each in args]
    is_scan = given[:1] == ["scan"] and "--encoder" not in given
    return [*given, "--encoder", "none"] if is_scan else given


def labelfix(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Run the program whole, with these environment variables besides."""
    return subprocess.run(
        [sys.executable, "-m", "labelfix", *arguments(args)],
        cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT, env={**os.environ, **env},
    )  # fmt: skip


# A run shows where it is in two ways: the progress that it reports, and the files and folders that it puts in place.
SCRIPT = """
import atexit, json, os, pathlib, sys, threading, time
from labelfix.cli import main
from labelfix.cli.terminal import Terminal

moment, count, number, delay, *arguments = sys.argv[1:]
seen, put, shown = [], os.replace, Terminal.progress

def end():
    pathlib.Path("signalled.json").write_text(json.dumps(seen))
    os.kill(os.getpid(), int(number))

def at(name):
    seen.append((name, time.monotonic()))
    if (name, sum(name == other for other, _ in seen)) == (moment, int(count)):
        threading.Timer(float(delay), end).start() if float(delay) else end()

if moment == "trace":
    atexit.register(lambda: pathlib.Path("trace.json").write_text(json.dumps(seen)))

def replace(source, target, **options):
    name = pathlib.Path(target).name
    at(f"before {name}")
    put(source, target, **options)
    at(f"after {name}")

def progress(terminal, stage, done, total):
    at(stage)
    shown(terminal, stage, done, total)

os.replace, Terminal.progress = replace, progress
sys.argv = ["labelfix", *arguments]
main()
"""


def start(
    moment: str, count: int, number: signal.Signals, *args: str, cwd: Path, delay: float = 0.0
) -> subprocess.CompletedProcess:
    """Run the program with a real signal at a moment, when it comes for the `count`-th time.

    A moment is a stage of the progress (every step of "train"), or "before" or "after" and the name of what is put in
    place: before it a temporary file holds it whole. The signal comes `delay` seconds later.
    """
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, moment, str(count), str(int(number)), str(delay), *arguments(args)],
        cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip


def timeline(*args: str, cwd: Path) -> list[tuple[str, float]]:
    """Run the program whole; its moments, see `start`, in their order, each with its second on some clock."""
    whole = start("trace", 0, signal.SIGKILL, *args, cwd=cwd)
    assert whole.returncode == 0, whole.stderr
    return [(name, second) for name, second in json.loads((cwd / "trace.json").read_text())]


def moments(*args: str, cwd: Path) -> dict[str, int]:
    """Run the program whole; how often each moment comes, see `start`."""
    return Counter(name for name, _ in timeline(*args, cwd=cwd))


def kill(moment: str, count: int, *args: str, cwd: Path) -> None:
    """Kill the program so; there is no chance to tidy up."""
    killed = start(moment, count, signal.SIGKILL, *args, cwd=cwd)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

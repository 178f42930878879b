"""The program in a process of its own, whole or with a signal at a moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path


def labelfix(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Run the program whole, with these environment variables besides."""
    return subprocess.run(
        [sys.executable, "-m", "labelfix", *map(str, args)],
        cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, **env},
    )  # fmt: skip


# Runs in a process of its own, so that the kill is a real one; the moment is chosen to the step.
SCRIPT = """
import os, signal, sys
import labelfix.results.corrections, labelfix.pipeline
import labelfix.training.trainer, labelfix.results.run_folder, labelfix.atomic_files
from labelfix.cli import main
from labelfix.cli.terminal import Terminal

def kill(*_, **__):
    os.kill(os.getpid(), signal.{signal})

def after(calls, function, act=kill):
    seen = 0
    def wrapped(*args, **kwargs):
        nonlocal seen
        seen += 1
        if seen == calls:
            act()
        return function(*args, **kwargs)
    return wrapped

{patch}
sys.argv = ["labelfix", *sys.argv[1:]]
main()
"""
KILLS = {
    "decode": "Terminal.progress = after(2, Terminal.progress)",
    "training, first step": (
        "labelfix.training.trainer.Trainer._step = after(1, labelfix.training.trainer.Trainer._step)"
    ),
    "training, later": "labelfix.training.trainer.Trainer._step = after(12, labelfix.training.trainer.Trainer._step)",
    "checkpoint": "labelfix.training.checkpoint.write_json = after(2, labelfix.training.checkpoint.write_json)",
    "findings": "labelfix.results.findings.decide = after(1, labelfix.results.findings.decide)",
    "writing": "labelfix.results.corrections._columns = after(1, labelfix.results.corrections._columns)",
    "config": "labelfix.results.run_folder.write_json = after(1, labelfix.results.run_folder.write_json)",
    "half a config": "labelfix.atomic_files.flush = after(1, labelfix.atomic_files.flush)",
    # Two folders are looked at twice before anything is written, then for three removals; now the run is finished.
    "finishing": (
        "labelfix.results.run_folder._checkpoint_parts = after(8, labelfix.results.run_folder._checkpoint_parts)"
    ),
}


def start(moment: str, number: signal.Signals, *args: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run the program with a signal at a moment of KILLS, or at one that is given as a patch; none for ""."""
    code = textwrap.dedent(SCRIPT).format(signal=number.name, patch=KILLS.get(moment, moment))
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=cwd, capture_output=True, text=True, timeout=300
    )

"""Nothing is asked of a network unless it is asked for by name: no process of a scan opens a socket but local ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import write_digits

# Python runs a file of this name first in every process: in those that decode images too.
HOOK = """
import os, socket, sys

def hook(event, args):
    if event == "socket.getaddrinfo" or (event == "socket.__new__" and args[1] != socket.AF_UNIX):
        with open(os.environ["SEEN"], "a") as file:
            file.write(f"{os.getpid()} {event} {args[1:] if event == 'socket.__new__' else args}\\n")
        raise OSError("a network was asked")

sys.addaudithook(hook)
with open(os.environ["STARTED"], "a") as file:
    file.write(f"{os.getpid()}\\n")
"""
PLAIN = """
import labelfix
run = labelfix.scan("images", out="run", method="bmm", encoder="none", epochs=2, folds=2)
labelfix.scan("images", out="seen", method="cross-entropy", epochs=2, encoder="lite0", image_size=32, rows=20)
for to in ("csv", "imagefolder", "hf"):
    labelfix.export(run.out, to=to)
labelfix.review(run.out)
labelfix.load_classifier(run.classifier).predict(["images/3/0003.png"])
"""
# Every command that works on files, but for the two above.
COMMANDS = [
    "corrupt images --noise symmetric:0.2 --out noisy.parquet",
    "scan noisy.parquet --method auto --encoder none --epochs 2 --out run --test images",
    "scan images --dry-run --encoder none",
    "scan images --pred-probs probs.npy --out own",
    "evaluate run --truth noisy.parquet",
    "predict run images --out predictions.parquet",
    "review run",
    *[f"export run --to {to} --out clean.{to}" for to in ("csv", "jsonl", "parquet")],
    "export run --to imagefolder --out clean",
    "methods",
    "cache list",
]
AT_THE_SHELL = f"""
import numpy as np
from labelfix.cli import cli
np.save("probs.npy", np.full((60, 10), 0.1))
for line in {COMMANDS}:
    print(line, flush=True)
    cli.main(line.split(), standalone_mode=False)
"""
BY_NAME = """
import os
os.environ["TORCH_HOME"] = "weights"
from labelfix.errors import InputError
from labelfix.networks import NetworkSpec, build
from labelfix.networks.weights import load_weights
network = build(NetworkSpec("squeezenet1_1", 2, 32))
try:
    load_weights(network, "squeezenet1_1", "imagenet")
except InputError as error:
    print(error)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a script beside 60 digits; returns what was asked of a network, and how many processes there were."""
    write_digits(tmp_path / "images", 60)
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(HOOK)

    def call(script: str) -> tuple[str, int]:
        seen, started = tmp_path / "asked.txt", tmp_path / "started.txt"
        paths = [str(tmp_path / "hooks"), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            **os.environ, "PYTHONPATH": os.pathsep.join(paths), "SEEN": str(seen), "STARTED": str(started),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr
        return seen.read_text() if seen.exists() else "", len(set(started.read_text().split()))

    return call


def test_a_plain_scan_export_and_review_open_no_socket(run):
    seen, processes = run(PLAIN)
    assert seen == ""
    assert processes > 1


def test_no_command_that_works_on_files_opens_a_socket(run):
    seen, _ = run(AT_THE_SHELL)
    assert seen == ""


def test_what_is_asked_for_by_name_is_seen(run):
    seen, _ = run(BY_NAME)
    assert "socket.getaddrinfo" in seen

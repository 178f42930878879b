"""Kills at random moments: the bytes of a run that was killed and started again are those of one that was not.

    python tests/stress/kills.py FOLDER [--kills 30] [--seed 0]

Scans with and without folds, a frozen encoder and a choice of methods are killed (SIGKILL) in a phase that is drawn
first, then anywhere between two moments of it that the program shows. What is done stands in FOLDER/kills.jsonl: given
again, the command goes on where it was stopped. At the end it prints how many kills came in which phase of which scan,
and exits 1 where a byte differs or a start is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
import pandas as pd
import processes
from conftest import write_digits
from processes import labelfix as program
from processes import start, timeline
from runs import result_bytes

SCANS = {
    "one training": ["--method", "bmm", "--epochs", "4", "--batch-size", "32"],
    "folds": ["--method", "cross-entropy", "--epochs", "3", "--folds", "3"],
    "frozen encoder": [
        "--method",
        "cross-entropy",
        "--encoder",
        "lite0",
        "--image-size",
        "32",
        "--epochs",
        "6",
    ],
    "method auto": [
        "--method",
        "auto",
        "--encoder",
        "lite0",
        "--image-size",
        "32",
        "--folds",
        "2",
        "--epochs",
        "2",
    ],
    "many images": ["--method", "cross-entropy", "--epochs", "2", "--rows", "1797"],
}
_ROWS = {"many images": 1797, "frozen encoder": 600, "method auto": 300}
# By what has been seen last; what follows a fold or the training as a whole is the estimation.
_PHASES = {
    "decoding": r"decode|before rows\.json",
    "setting up": r"after rows\.json|after .{64}\.npy|(before|after) config\.json",
    "encoding": r"encode|(before|after) .{64}\.(npy|json)",
    "checkpoint": r"before \d+\.(safetensors|json)|after \d+\.safetensors",
    "training": r"train|.*fold \d+ of \d+|after \d+\.json",
    "writing": ".*",
}
_NEVER = "never came"


def phase_of(moment: str) -> str:
    """The phase that goes on after a moment, but for the estimation."""
    return next(phase for phase, pattern in _PHASES.items() if re.fullmatch(pattern, moment))


def gaps(moments: list[tuple[str, float]]) -> dict[str, list[tuple[str, int, float]]]:
    """By phase, what lies between two moments: name of the first, how often it has come, seconds to the next."""
    found: dict[str, list[tuple[str, int, float]]] = {}
    seen: Counter[str] = Counter()
    for (name, second), (following, end) in pairwise(moments):
        seen[name] += 1
        trained = phase_of(name) == "training"
        is_last_fold = "fold" in name and following == "train"
        is_estimation = trained and (following == "before model.safetensors" or is_last_fold)
        phase = "estimation" if is_estimation else phase_of(name)
        found.setdefault(phase, []).append((name, seen[name], end - second))
    return found


class Scan:
    """A scan in a folder of its own, with a cache of its own, and what it gives when nothing disturbs it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder / name.replace(" ", "-")
        self.command = ("scan", "images", "--out", "run", *SCANS[name])
        if not (self.folder / "moments.json").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            write_digits(self.folder / "images", _ROWS.get(name, 240), "symmetric-exclusive:0.2")
            self.start_anew()
            found = timeline(*self.command, cwd=self.folder)
            (self.folder / "run").rename(self.folder / "expected")
            (self.folder / "moments.json").write_text(json.dumps(found))
        self.gaps = gaps(json.loads((self.folder / "moments.json").read_text()))
        self.expected = result_bytes(self.folder / "expected", with_card=True)

    def start_anew(self) -> None:
        """Forget the run, and all that was decoded and encoded."""
        os.environ["LABELFIX_CACHE"] = str(self.folder / "cache")
        for name in ("run", "cache"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def kill(self, random: np.random.Generator, before: list[tuple[str, str]]) -> tuple[str, str]:
        """Start it and kill it in a phase not before those of other kills; in which it came, and at which moment."""
        os.environ["LABELFIX_CACHE"] = str(self.folder / "cache")
        phases = list(self.gaps)
        phases = phases[max((phases.index(phase) for phase, _ in before if phase in phases), default=0) :]
        phase = phases[random.integers(len(phases))]
        name, count, seconds = self.gaps[phase][random.integers(len(self.gaps[phase]))]
        delay = round(float(random.random()) * seconds, 3)
        killed = start(name, count, signal.SIGKILL, *self.command, cwd=self.folder, delay=delay)
        moment = f"{name} {count} + {delay} s"
        # After a kill before it, what was done then is not done again, and the moment may never come.
        if not killed.returncode:
            return _NEVER, moment
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        last = json.loads((self.folder / "signalled.json").read_text())[-1][0]
        return phase if last == name else phase_of(last), moment

    def finish(self) -> str:
        """Start it for the last time; what is wrong with its result, "" for nothing."""
        again = program(*self.command, cwd=self.folder)
        # A kill after the last rename finds it finished.
        if again.returncode != 0 and "holds a finished run" not in again.stderr:
            return f"exit {again.returncode}: {again.stderr[-300:]}"
        found = result_bytes(self.folder / "run", with_card=True)
        different = [name for name, content in found.items() if content != self.expected[name]]
        left = [str(path) for path in (self.folder / "run").rglob("*.tmp")]
        return f"different: {different}, left behind: {left}" if different or left else ""


def kill_one(folder: Path, number: int, seed: int) -> dict[str, object]:
    """Kill a scan once, every third time twice, and finish it."""
    name = list(SCANS)[number % len(SCANS)]
    random = np.random.default_rng([seed, number])
    scan = Scan(name, folder)
    scan.start_anew()
    seen: list[tuple[str, str]] = []
    for _ in range(2 if number % 3 == 2 else 1):
        seen.append(scan.kill(random, seen))
    kills = [phase for phase, _ in seen if phase != _NEVER]
    moments = [moment for _, moment in seen]
    return {"number": number, "scan": name, "kills": kills, "moments": moments, "trouble": scan.finish()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=lambda text: Path(text).absolute())
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    processes.TIMEOUT = 3600.0
    args.folder.mkdir(parents=True, exist_ok=True)
    record = args.folder / "kills.jsonl"
    results = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    while sum(len(result["kills"]) for result in results) < args.kills:
        results.append(kill_one(args.folder, len(results), args.seed))
        with record.open("a") as file:
            file.write(json.dumps(results[-1]) + "\n")
        print(results[-1], flush=True)
    frame = pd.DataFrame(results).explode("kills").dropna(subset="kills")
    print(pd.crosstab(frame.scan, frame.kills, margins=True, margins_name="all").to_string())
    wrong = [result for result in results if result["trouble"]]
    print(f"{len(results)} rounds, {len(wrong)} of them wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

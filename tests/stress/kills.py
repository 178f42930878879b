"""Kills at random moments: the bytes of a run that was killed and started again are those of one that was not.

    python tests/stress/kills.py FOLDER [--kills 30] [--seed 0]

Scans with and without folds and an encoder are killed (SIGKILL) up to half a second after a moment that is drawn
from all that they go through: decoding, encoding, training, checkpoints, estimation, writing. What is done stands in
FOLDER/kills.jsonl: given again, the command goes on where it was stopped. At the end it prints a table, and exits 1
where a byte differs or a start is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
import pandas as pd
import processes
from conftest import write_digits
from processes import labelfix as program
from processes import moments, start
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
    "many images": ["--method", "cross-entropy", "--epochs", "2", "--rows", "1797"],
}
_ROWS = {"many images": 1797, "frozen encoder": 600}
_LONGEST_DELAY = 0.5
_NEVER = ", which never came"


class Scan:
    """A scan in a folder of its own, with a cache of its own, and what it gives when nothing disturbs it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder / name.replace(" ", "-")
        self.command = ("scan", "images", "--out", "run", *SCANS[name])
        if not (self.folder / "moments.json").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            write_digits(self.folder / "images", _ROWS.get(name, 240), "symmetric-exclusive:0.2")
            self.start_anew()
            found = moments(*self.command, cwd=self.folder)
            (self.folder / "run").rename(self.folder / "expected")
            (self.folder / "moments.json").write_text(json.dumps(found))
        self.moments = json.loads((self.folder / "moments.json").read_text())
        self.expected = result_bytes(self.folder / "expected", with_card=True)

    def start_anew(self) -> None:
        """Forget the run, and all that was decoded and encoded."""
        os.environ["LABELFIX_CACHE"] = str(self.folder / "cache")
        for name in ("run", "cache"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def kill(self, random: np.random.Generator) -> str:
        """Start it and kill it; at which moment."""
        os.environ["LABELFIX_CACHE"] = str(self.folder / "cache")
        names = sorted(self.moments)
        name = names[random.integers(len(names))]
        count = int(random.integers(1, self.moments[name] + 1))
        delay = round(float(random.random()) * _LONGEST_DELAY, 3)
        killed = start(name, count, signal.SIGKILL, *self.command, cwd=self.folder, delay=delay)
        # After a kill before it, what was done then is not done again, and the moment may never come.
        assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
        ended = "" if killed.returncode else _NEVER
        return f"{name} {count} + {delay} s{ended}"

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
    seen = [scan.kill(random) for _ in range(2 if number % 3 == 2 else 1)]
    kills = sum(not moment.endswith(_NEVER) for moment in seen)
    return {"number": number, "scan": name, "kills": kills, "moments": seen, "trouble": scan.finish()}


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
    while sum(result["kills"] for result in results) < args.kills:
        results.append(kill_one(args.folder, len(results), args.seed))
        with record.open("a") as file:
            file.write(json.dumps(results[-1]) + "\n")
        print(results[-1], flush=True)
    frame = pd.DataFrame(results)
    frame["wrong"] = frame.trouble != ""
    print(frame.groupby("scan", sort=False)[["kills", "wrong"]].sum().to_string())
    return int(frame.wrong.any())


if __name__ == "__main__":
    sys.exit(main())

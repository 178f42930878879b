"""Hostile files: thousands of damaged and lying images, manifests and files of ours, each through the program.

    python tests/stress/hostile.py FOLDER [--images 1000] [--manifests 200] [--files 200] [--first-seed 0]

Each ends as the documentation says: a picture decoded or a row with its error; exit 0 or one line. What is done stands
in FOLDER/results.jsonl: given again, the command goes on where it was stopped. At the end it prints a table, and exits
1 where anything crashed, hung, or held 2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import pandas as pd
from pictures import picture
from stress.hostile_files import SCAN, make_case, make_world
from stress.hostile_images import batches, write_images
from stress.hostile_tables import write_manifest
from stress.watched import Ended, forked, run

import labelfix.exports
import labelfix.pipeline
import labelfix.prediction
import labelfix.reviews
from labelfix.cli import main as program

MOST_BYTES = 2_000_000_000
_BATCH = 100
_IMAGE_SECONDS, _FILE_SECONDS = 1200, 600


def scan_images(folder: Path, seed: int, count: int) -> dict[str, Any]:
    """Scan a batch, review it, and see that every entry is a row that was decoded or says why not."""
    images = folder / "images"
    kinds = write_images(images, count, seed)
    scan = ["scan", "images", "--out", "run", *SCAN]
    ended = run(scan, folder, _IMAGE_SECONDS, LABELFIX_CACHE=str(folder / "cache"))
    trouble = ended.trouble
    if not trouble:
        trouble = _missing(kinds, folder / "run")
    review = run(["review", "run"], folder, _IMAGE_SECONDS, LABELFIX_CACHE=str(folder / "cache"))
    return _result(ended, trouble or review.trouble, max(ended.peak, review.peak), count=count)


def _missing(kinds: dict[str, str], out: Path) -> str:
    """What is wrong with the rows of a run, "" for nothing."""
    rows = labelfix.read_corrections(out)
    # A name that starts with a dot is hidden, and belongs to nobody's data.
    wanted = {name for name in kinds if not os.path.basename(name).startswith(".")}
    if wanted != set(rows.file_name):
        return f"rows that are missing: {sorted(wanted ^ set(rows.file_name))[:3]}"
    silent = rows[~rows.is_valid & rows.error.isna()]
    good = [name for name, kind in kinds.items() if kind in ("whole", "one_pixel", "turned", "very_wide")]
    lost = rows[~rows.is_valid & rows.file_name.isin(good)]
    if len(silent) or len(lost):
        return (
            f"rows without a reason: {silent.file_name.tolist()[:3]}, or lost: {lost.file_name.tolist()[:3]}"
        )
    return ""


def scan_manifest(folder: Path, number: int) -> dict[str, Any]:
    """Plan a scan of a manifest."""
    (folder / "images").mkdir(parents=True)
    for row in range(12):
        (folder / "images" / f"{row}.png").write_bytes(picture(row * 20))
    path, kind = write_manifest(folder, number)
    ended = forked(_command(folder, "scan", path, "--out", folder / "run", "--dry-run", *SCAN), _FILE_SECONDS)
    return _result(ended, ended.trouble, ended.peak, kind=kind, said=ended.err[:300])


def open_file(folder: Path, world: Path, number: int) -> dict[str, Any]:
    """Give a command one of our files, damaged."""
    case = make_case(world, folder, number)
    ended = forked(_command(folder, *case.args), _FILE_SECONDS)
    return _result(ended, ended.trouble, ended.peak, kind=case.kind, said=ended.err[:300])


def _command(folder: Path, *args: object) -> Callable[[], None]:
    def call() -> None:
        os.chdir(folder)
        os.environ["LABELFIX_CACHE"] = str(folder / "cache")
        sys.argv = ["labelfix", *map(str, args)]
        program()

    return call


def _result(ended: Ended, trouble: str, peak: int, **more: Any) -> dict[str, Any]:
    if not trouble and peak > MOST_BYTES:
        trouble = f"held {peak / 1e9:.2f} GB"
    return {"seconds": round(ended.seconds, 2), "code": ended.code, "peak": peak, "trouble": trouble, **more}


def jobs(args: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[Path], dict[str, Any]]]]:
    """What there is to do: part, name, and what does it in a folder of its own."""
    for seed, count in batches(args.images, _BATCH):
        yield (
            "images",
            f"images {args.first_seed + seed} {count}",
            lambda folder, s=seed, n=count: scan_images(folder, args.first_seed + s, n),
        )
    for number in range(args.first_seed, args.first_seed + args.manifests):
        yield "manifests", f"manifest {number}", lambda folder, n=number: scan_manifest(folder, n)
    for number in range(args.first_seed, args.first_seed + args.files):
        yield "files", f"file {number}", lambda folder, n=number: open_file(folder, args.folder / "world", n)


def table(results: list[dict[str, Any]]) -> pd.DataFrame:
    """A row for each part: how many, how they ended, the slowest and the largest."""
    frame = pd.DataFrame(results)
    frame["count"] = frame["count"].fillna(1).astype(int) if "count" in frame else 1
    return frame.groupby("part", sort=False).agg(
        cases=("count", "sum"),
        refused=("code", lambda codes: int((codes == 2).sum())),
        troubles=("trouble", lambda troubles: int((troubles != "").sum())),
        slowest_s=("seconds", "max"),
        most_MB=("peak", lambda peaks: int(peaks.max() // 1_000_000)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=lambda text: Path(text).absolute())
    for name, count in (("images", 1000), ("manifests", 200), ("files", 200), ("first-seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=count)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.files and not (args.folder / "world" / "features.npy").exists():
        shutil.rmtree(args.folder / "world", ignore_errors=True)
        # Not here: torch's threads would not survive the copies of this process that follow.
        made = forked(lambda: make_world(args.folder / "world"), _IMAGE_SECONDS)
        assert made.code == 0, made.err
    record = args.folder / "results.jsonl"
    results = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    done = {result["name"] for result in results}
    for part, name, work in jobs(args):
        if name in done:
            continue
        folder = args.folder / name.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir() if part != "files" else None
        result = {"part": part, "name": name, **work(folder)}
        results.append(result)
        with record.open("a") as file:
            file.write(json.dumps(result) + "\n")
        if result["trouble"]:
            print(f"{name}: {result['trouble']} (see {folder})", flush=True)
        else:
            shutil.rmtree(folder)
    print(table(results).to_string())
    return int(any(result["trouble"] for result in results))


if __name__ == "__main__":
    sys.exit(main())

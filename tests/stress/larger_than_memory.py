"""Training on images, and on features, of which twice as much is stored as there is memory: speed against no limit.

    python tests/stress/larger_than_memory.py FOLDER [--limit-mb 1000] [--rounds 3] [--of images features]

Each training is a process of its own, in turn without and with a limit. The limit is that of a memory cgroup which the
process makes for itself below its own, so it holds for what the process takes and for the pages of files that the
system keeps for it. Before each, nothing of the stored rows is in memory. Prints rows a second after the first steps,
the share of the seconds in which the training waited for rows, and the ratio of both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from labelfix.data.array_file import map_array
from labelfix.methods import method_class
from labelfix.methods.batch import Labels
from labelfix.networks import NetworkSpec, build
from labelfix.networks.heads import Head
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source
from labelfix.training.features import FeatureViews
from labelfix.training.trainer import Trainer

_SHAPES = {"images": ((3, 64, 64), np.uint8), "features": ((4, 1280), np.float16)}
_STEPS_BEFORE = 10
_CLASSES = 10
_CPU = torch.device("cpu")


def write(folder: Path, kind: str, num_bytes: int) -> Path:
    """An array of about so many bytes, of random numbers."""
    shape, dtype = _SHAPES[kind]
    rows = num_bytes // (int(np.prod(shape)) * np.dtype(dtype).itemsize)
    path = folder / f"{kind}-{rows}.npy"
    if not path.exists():
        rng = np.random.default_rng(0)
        made = np.lib.format.open_memmap(path.with_suffix(".tmp"), "w+", dtype, (rows, *shape))
        for first in range(0, rows, 1000):
            part = rng.integers(0, 256, (min(1000, rows - first), *shape), dtype=np.uint8)
            made[first : first + 1000] = part if dtype is np.uint8 else part / np.float16(256)
        made.flush()
        path.with_suffix(".tmp").rename(path)
    return path


def trainer_on(path: Path, kind: str) -> Trainer:
    """Cross-entropy as a scan trains it: a small network on images, a head on features."""
    shape, dtype = _SHAPES[kind]
    rows = int(path.stem.rpartition("-")[2])
    stored = map_array(path, np.dtype(dtype), (rows, *shape))
    pixels = Augmentation(64, (0.5,) * 3, (0.25,) * 3, flip=True, device=_CPU)
    chosen = method_class("cross-entropy")
    settings = chosen.presets()["fast"].changed({"train_epochs": "1", "batch_size": "128"})
    torch.manual_seed(0)
    if kind == "features":
        mean, spread = torch.full((shape[1],), 0.5), torch.full((shape[1],), 0.3)
        source = Source(stored, FeatureViews(pixels, mean, spread, shape[1:]), _CPU)
        network: torch.nn.Module = Head(shape[1], _CLASSES)
    else:
        source = Source(stored, pixels, _CPU)
        network = build(NetworkSpec("small", _CLASSES, 64)).to(memory_format=torch.channels_last)
    labels = np.random.default_rng(0).integers(0, _CLASSES, rows)
    method = chosen(network, Labels.of(labels, _CLASSES, _CPU), settings)
    every = np.arange(rows)
    return Trainer(method, source, trained_rows=every, predicted_rows=every, seed=0)


def train(path: Path, kind: str, seconds: float) -> dict[str, float | bool]:
    """Train for so many seconds, or an epoch; rows a second, and the share of the time that waited for them."""
    trainer = trainer_on(path, kind)
    started, waited = 0.0, 0.0

    def keep_going() -> bool:
        nonlocal started, waited
        if trainer.position.step == _STEPS_BEFORE:
            started, waited = time.monotonic(), trainer.data_wait_seconds
        return not started or time.monotonic() < started + seconds

    steps = trainer.steps_per_epoch
    if not list(trainer.epochs(keep_going)):
        steps = trainer.position.step
    took = time.monotonic() - started
    rows = trainer.num_trained_rows / trainer.steps_per_epoch * (steps - _STEPS_BEFORE)
    share = (trainer.data_wait_seconds - waited) / took
    return {"rows_a_second": rows / took, "waits": share, "resident": trainer.source.resident}


def own_group() -> Path:
    """The folder of the memory cgroup that this process is in, of the second or the first version."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / place.lstrip("/")
    return Path("/sys/fs/cgroup") / place.lstrip("/")


def limit_myself(num_bytes: int) -> Path:
    """Put this process into a new cgroup below its own, with so much memory for it and for the pages of its files."""
    group = own_group() / f"labelfix-{os.getpid()}"
    try:
        group.mkdir()
        is_second = (group / "cgroup.controllers").exists()
        (group / ("memory.max" if is_second else "memory.limit_in_bytes")).write_text(str(num_bytes))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        sys.exit(f"no memory cgroup can be made in {group.parent}: {error.strerror}")
    return group


def forget(path: Path) -> None:
    """Put what is in memory of a file onto the disk alone."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(path: Path, kind: str, seconds: float, limit: int) -> dict[str, float | bool]:
    """`train` in a process of its own, with a limit in bytes, 0 for none."""
    forget(path)
    arguments = ["--train", str(path), "--of", kind, "--seconds", str(seconds), "--limit-mb", str(limit)]
    done = subprocess.Popen(
        [sys.executable, __file__, str(path.parent), *arguments], stdout=subprocess.PIPE, text=True
    )
    said = done.communicate()[0]
    if limit:
        (own_group() / f"labelfix-{done.pid}").rmdir()
    if done.returncode:
        sys.exit(f"the training ended with {done.returncode}")
    found: dict[str, float | bool] = json.loads(said)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=lambda text: Path(text).absolute())
    parser.add_argument("--limit-mb", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--of", nargs="+", choices=list(_SHAPES), default=list(_SHAPES))
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    limit = args.limit_mb * 1_000_000
    if args.train:
        if limit:
            limit_myself(limit)
        print(json.dumps(train(args.train, args.of[0], args.seconds)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    for kind in args.of:
        path = write(args.folder, kind, 2 * limit)
        print(f"{kind}: {path.stat().st_size / 1e6:.0f} MB, limit {args.limit_mb} MB")
        ratios = []
        for _ in range(args.rounds):
            free, bound = (measured(path, kind, args.seconds, number) for number in (0, args.limit_mb))
            ratios.append(bound["rows_a_second"] / free["rows_a_second"])
            print(f"  no limit {free}\n  limit    {bound}", flush=True)
        print(f"{kind}: {np.median(ratios):.2f} of the speed without a limit, rounds {np.round(ratios, 2)}")


if __name__ == "__main__":
    main()

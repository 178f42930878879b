"""Training that survives: checkpoints when they are cheap, a save on Ctrl-C, and where a killed run goes on."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from labelfix import processes
from labelfix.errors import Interrupted
from labelfix.reporting import Reporter, tell_epoch
from labelfix.training import checkpoint
from labelfix.training.batches import Source
from labelfix.training.label_traces import BEFORE, LabelTraces
from labelfix.training.setup import Watched
from labelfix.training.trainer import EpochReport, Trainer

_CHECKPOINT_SHARE = 0.05
_TOPS = (1, 5)
_MANY_CLASSES = 20  # of fewer the first five would be a quarter and more
DATA_WAIT = "data_wait_seconds"  # among what a report has measured


def train(
    trainer: Trainer,
    folder: Path,
    reporter: Reporter,
    watched: Sequence[Watched] = (),
    stage: str = "train",
    truth: np.ndarray | None = None,
) -> list[EpochReport]:
    """Train to the end, from the newest checkpoint on; save at epoch ends when that is cheap, and on Ctrl-C.

    Args:
        trainer: of the run.
        folder: of the checkpoints.
        reporter: shows progress.
        watched: what the accuracy is measured on after every epoch.
        stage: its name for the reporter.
        truth: (N,) int64, true classes, -1 for none: only measured on, how right the labels are that a method moves,
            and what moves them.
    """
    traces = LabelTraces(trainer, truth)
    number, reports = _restore(trainer, folder, reporter, traces)
    if reports and not reports[-1].is_finite:
        return reports  # it had diverged before it was killed
    steps = trainer.steps_per_epoch
    done, total = trainer.position.epoch * steps + trainer.position.step, trainer.num_epochs * steps
    saved_at, save_seconds = time.monotonic(), 0.0
    with _interrupt_flag() as interrupted:

        def keep_going() -> bool:
            nonlocal done
            reporter.progress(stage, done, total)
            done += 1
            return not interrupted.is_set()

        for report in trainer.epochs(keep_going):
            seen: dict[str, float] = {}
            for each in watched:
                seen |= _measured(trainer, *each)
            if (share := trainer.label_accuracy(truth)) is not None:
                seen["label_accuracy"] = share
            seen |= traces.end()
            traces.begin()
            seen[DATA_WAIT] = round(trainer.data_wait_seconds, 3)
            reports.append(replace(report, reported={**report.reported, **seen}))
            tell_epoch(reporter, stage, _told(reports[-1], trainer.num_epochs))
            if not report.is_finite:
                break
            is_cheap = save_seconds < _CHECKPOINT_SHARE * (time.monotonic() - saved_at)
            if processes.from_first(partial(bool, is_cheap)):
                started = time.monotonic()
                number = _save(trainer, folder, reports, number, traces)
                saved_at = time.monotonic()
                save_seconds = saved_at - started
        _save(trainer, folder, reports, number, traces)
        if interrupted.is_set():
            raise Interrupted("interrupted; progress is saved: give the same command to go on")
    reporter.progress(stage, total, total)
    return reports


def _told(report: EpochReport, num_epochs: int) -> dict[str, Any]:
    """An epoch as `tell_epoch` has it; what is not finite is left out."""
    numbers = {f"loss_{name}": value for name, value in report.losses.items()} | report.reported
    return {
        "epoch": report.epoch,
        "epochs": num_epochs,
        "phase": report.phase,
        "seconds": round(report.elapsed_seconds, 3),
        **{name: value for name, value in numbers.items() if value is not None and math.isfinite(value)},
    }


def _measured(trainer: Trainer, name: str, images: Source, labels: np.ndarray) -> dict[str, float]:
    """What is reported of some labelled rows: accuracy, or of several labels a row the mean average precision."""
    if labels.ndim == 2:
        return {f"{name}_map": trainer.mean_average_precision(images, labels)}
    tops = _TOPS if trainer.method.labels.num_classes >= _MANY_CLASSES else _TOPS[:1]
    found = trainer.top_accuracies(images, labels, tops)
    return {f"{name}{word}_accuracy": found[place] for place, word in enumerate(("", "_top5")[: len(tops)])}


def _save(
    trainer: Trainer, folder: Path, reports: list[EpochReport], number: int, traces: LabelTraces
) -> int:
    tensors, position = trainer.state()
    tensors |= traces.state()
    facts = {"position": position, "reports": [report.to_json() for report in reports]}
    if not processes.rank():
        checkpoint.save(folder, number + 1, tensors, facts)
    return number + 1


def _restore(
    trainer: Trainer, folder: Path, reporter: Reporter, traces: LabelTraces
) -> tuple[int, list[EpochReport]]:
    """Go back to the newest checkpoint that fits; its number, or that of a newer one, and the epochs before it."""
    damaged: list[Path] = []
    reports = _newest_reports(trainer, folder, damaged, traces)
    if damaged:
        since = f"from epoch {len(reports) + 1} on" if reports else "from its start"
        reporter.message(
            f"warning: {damaged[0]} is damaged; the training is done again {since}, with the same result"
        )
    return checkpoint.newest_number(folder), reports


def _newest_reports(
    trainer: Trainer, folder: Path, damaged: list[Path], traces: LabelTraces
) -> list[EpochReport]:
    for tensors, facts in checkpoint.newest_first(folder, damaged):
        try:
            reports = EpochReport.all_from_json(facts.get("reports"))
            position = facts.get("position")
            if not isinstance(position, dict) or position.get("epoch") != len(reports):
                raise ValueError("there is a report for every epoch")
            before = tensors.pop(BEFORE, None)
            trainer.restore(tensors, position)
            traces.begin(before)
        except ValueError:
            damaged.append(folder)  # of another kind than was saved here: the one before it counts
        else:
            return reports
    traces.begin()
    return []


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag; a second one stops at once. Only the main thread gets signals."""
    flag = threading.Event()
    # Several processes end, and go on from the last epoch's end: they could not stop at the same step.
    if threading.current_thread() is not threading.main_thread() or processes.count() > 1:
        yield flag
        return
    before = signal.getsignal(signal.SIGINT)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        flag.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)

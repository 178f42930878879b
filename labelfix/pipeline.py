"""scan(): from a source of labelled images to findings, in one page and with no branch on the method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelfix import corrections, run_folder
from labelfix.batches import Labels, seed_of
from labelfix.config import ScanConfig
from labelfix.cross_fitting import CrossFit, cross_fit
from labelfix.errors import InputError
from labelfix.findings import find
from labelfix.folds import deal_folds
from labelfix.job import Job
from labelfix.manifest import Manifest
from labelfix.methods import method_class
from labelfix.preparation import (
    build_network,
    make_classifier,
    make_trainer,
    open_images,
    seconds_per_unit,
    training_labels,
    watch,
)
from labelfix.reporting import Reporter, Silent
from labelfix.resumable import train
from labelfix.store import ImageStore
from labelfix.summary import epochs_table, hardware, summarise
from labelfix.tables import write_json, write_table
from labelfix.trainer import EpochReport, Trainer

_DEAL_SEED = 6


@dataclass(frozen=True)
class Run:
    """A finished scan.

    Attributes:
        out: the run folder.
        corrections: path of the findings.
        classifier: folder of the trained classifier.
        summary: what summary.json holds.
    """

    out: Path
    corrections: Path
    classifier: Path
    summary: dict[str, Any]


@dataclass
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 3)


def scan(source: Any, *, reporter: Reporter | None = None, **options: Any) -> Run:
    """Train a network that survives wrong labels and write down which labels are wrong.

    Args:
        source: class folders, a csv, tsv, jsonl or Parquet manifest, a Hugging Face image Parquet file or a folder of
            such shards; or in memory, see `Manifest.read`.
        reporter: told of progress and messages.
        options: those of the command line, see `labelfix.config.ScanOptions`: method, out, seed, preset, ...

    Returns:
        The finished run.

    Raises:
        InputError: bad input or options, in one line.
        Interrupted: Ctrl-C while training; the same call goes on from there.
    """
    reporter = reporter or Silent()
    clock = Clock()
    with clock.stage("read"):
        job = Job.of(source, options, reporter)
    manifest, trusted, config, folder = job.manifest, job.trusted, job.config, job.folder
    with (
        run_folder.locked(folder, manifest.source, job.facts(), overwrite=job.overwrite) as begin,
        _own_random_state(config),
    ):
        with clock.stage("decode"):
            store = _decode(manifest, config, reporter)
            test_store = None if job.test is None else _decode(job.test, config, reporter)
        with clock.stage("train"):
            trained = _train(job, store, test_store, begin, reporter)
            trainer, crossed = trained.trainer, trained.crossed
            effort = _effort(trained, config.folds)
        with clock.stage("findings"):
            held_out = () if crossed is None else (crossed.logits, crossed.fold_of_row)
            findings = find(manifest, store, trusted, trainer, trained.last_reports, *held_out)
        with clock.stage("write"):
            make_classifier(trainer, config, manifest.class_names).save(folder.classifier)
            write_table(folder.epochs, epochs_table(trained.reports))
            metadata = {
                "method": config.method,
                "seed": config.seed,
                "out_of_sample": crossed is not None,
                "resumed_elsewhere": trained.elsewhere,
            }
            corrections.write(folder.corrections, manifest, findings, metadata)
        summary = summarise(manifest, findings, {**metadata, **effort, "elapsed_seconds": clock.seconds})
        write_json(folder.summary, summary)
        folder.finish()
    return Run(folder.path, folder.corrections, folder.classifier, summary)


def plan(source: Any, *, reporter: Reporter | None = None, **options: Any) -> dict[str, Any]:
    """What `scan` would do with the same arguments, with an estimate of time; writes nothing.

    Returns:
        JSON-able: rows, classes, resolved options, epochs, forward units a row, estimated seconds.

    Raises:
        InputError: as `scan` does.
    """
    job = Job.of(source, options, reporter or Silent())
    manifest, config, folder = job.manifest, job.config, job.folder
    run_folder.check_out(folder, manifest.source, overwrite=job.overwrite)
    method = method_class(config.method)
    with _own_random_state(config):
        network = build_network(config, len(manifest.class_names), config.seed)
        labels = Labels.of(manifest.given, len(manifest.class_names), torch.device(config.device))
        phases = method(network, labels, config.settings).phases()
        # K folds train on K - 1 of K parts each, and the exported classifier once more on all.
        units = sum(phase.epochs * phase.forward_units for phase in phases) * max(config.folds, 1)
        trained = (manifest.given >= 0) & ~manifest.held_out
        _folds(job, np.where(trained, manifest.given, -1))
        seconds = seconds_per_unit(network, config) * units * int(trained.sum())
    return {
        "source": str(manifest.source),
        "out": str(folder.path),
        **{name: value for name, value in config.to_json().items() if name != "weights_sha256"},
        "rows": manifest.num_rows,
        "classes": len(manifest.class_names),
        "phases": {phase.name: phase.epochs for phase in phases},
        "forward_units_per_row": units,
        "estimated_training_seconds": round(seconds, 1),
    }


def _decode(manifest: Manifest, config: ScanConfig, reporter: Reporter) -> ImageStore:
    def on_progress(done: int, total: int) -> None:
        reporter.progress("decode", done, total)

    store = ImageStore.open_or_build(manifest, config.image_size, on_progress=on_progress)
    if store.errors:
        row = min(store.errors)
        reporter.message(
            f"warning: {len(store.errors)} of {manifest.num_rows} images cannot be used; the first is row {row}: "
            f"{store.errors[row]}"
        )
    return store


@dataclass(frozen=True)
class _Trained:
    """After the last epoch: the trainer on all rows, the folds before it, and every epoch's report by fold."""

    trainer: Trainer
    crossed: CrossFit | None
    reports: dict[int | None, list[EpochReport]]
    elsewhere: bool

    @property
    def last_reports(self) -> list[EpochReport]:
        """Of the last epoch of every training."""
        return [reports[-1] for reports in self.reports.values()]


def _train(
    job: Job,
    store: ImageStore,
    test_store: ImageStore | None,
    begin: Callable[[], bool],
    reporter: Reporter,
) -> _Trained:
    """Train every fold, where there are any, and then on all rows; `begin` as of `run_folder.locked`."""
    manifest, config, folder = job.manifest, job.config, job.folder.checkpoint
    num_classes = len(manifest.class_names)
    images, labels = open_images(store, config), training_labels(manifest, store, job.trusted)
    watched = watch(images, manifest, store, job.trusted, job.test, test_store)
    trainer = make_trainer(images, labels, num_classes, config, np.flatnonzero(store.valid))
    folds = _folds(job, labels)
    elsewhere = begin()
    crossed = None
    if folds is not None:
        crossed = cross_fit(images, labels, folds, num_classes, config, folder, reporter, watched)
    reports: dict[int | None, list[EpochReport]] = {}
    for fold, of_fold in crossed.reports.items() if crossed is not None else ():
        reports[fold] = of_fold
    reports[None] = train(trainer, folder, reporter, watched)
    return _Trained(trainer, crossed, reports, elsewhere)


def _folds(job: Job, labels: np.ndarray) -> np.ndarray | None:
    """(N,) int64, the fold that holds each row out, -1 for rows that are in none; None without folds.

    Rows with a verified label train in every fold, unless they are kept to check the findings on.
    """
    if not job.config.folds:
        return None
    verified = (job.trusted.label >= 0) & ~job.trusted.is_scored
    seed, folds = seed_of(job.config.seed, _DEAL_SEED), job.config.folds
    dealt = deal_folds(np.where(verified, -1, labels), job.manifest.groups, folds, seed)
    for fold in range(folds):
        rest = int(((labels >= 0) & (dealt != fold)).sum())
        if rest < 2:
            raise InputError(
                f"--folds {folds}: without its part fold {fold + 1} has {rest} rows to train on and needs 2; "
                "make the groups smaller, or scan without folds"
            )
    return dealt


def _effort(trained: _Trained, folds: int) -> dict[str, Any]:
    """What the training cost: network passes a row of the trainings that the findings rest on, seconds of all."""
    trainer, crossed, last = trained.trainer, trained.crossed, trained.reports[None][-1]
    seconds = sum(report.elapsed_seconds for some in trained.reports.values() for report in some)
    rows, of_classifier = trainer.num_trained_rows, trainer.position.forward_units
    units = of_classifier if crossed is None else crossed.forward_units
    # K folds train on K - 1 of K parts each, and the exported classifier once more on all.
    images = rows * len(trained.reports[None]) * max(folds, 1)
    return {
        "forward_units_per_row": round(units / rows, 2),
        **({} if crossed is None else {"classifier_forward_units_per_row": round(of_classifier / rows, 2)}),
        "training_seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1) if seconds else None,
        **{name: value for name, value in last.reported.items() if name.endswith("_accuracy")},
        "hardware": hardware(trainer.source.device),
    }


@contextmanager
def _own_random_state(config: ScanConfig) -> Iterator[None]:
    """Leave the caller's random state as it was, on the CPU and on the device used."""
    devices = [] if config.device == "cpu" else [config.device]
    with torch.random.fork_rng(devices=devices):
        yield

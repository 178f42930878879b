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

from labelfix.atomic_files import write_json, write_table
from labelfix.config import ScanConfig
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.job import ScanPlan
from labelfix.methods import method_class
from labelfix.methods.batch import Labels
from labelfix.reporting import Reporter, Silent
from labelfix.results import corrections, model_card, run_folder
from labelfix.results.classifier import make_classifier
from labelfix.results.findings import find
from labelfix.results.summary import cost, epochs_table, summarise, units_per_row
from labelfix.training.folds import CrossFit, cross_fit, folds_of_rows
from labelfix.training.resume import train
from labelfix.training.setup import (
    build_network,
    make_trainer,
    open_images,
    seconds_per_unit,
    training_labels,
    trusted_stream_labels,
    watch,
)
from labelfix.training.trainer import EpochReport, Trainer


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
        job = ScanPlan.of(source, options, reporter)
    manifest, trusted, config, folder = job.manifest, job.trusted, job.config, job.folder
    with (
        run_folder.locked(folder, job.facts(), overwrite=job.overwrite) as begin,
        own_random_state(config),
    ):
        with clock.stage("decode"):
            store = decode(manifest, config, reporter)
            test_store = None if job.test is None else decode(job.test, config, reporter)
        with clock.stage("train"):
            trained = _train(job, store, test_store, begin, reporter)
            trainer, crossed = trained.trainer, trained.crossed
            effort = cost(trainer, trained.reports, None if crossed is None else crossed.forward_units)
        with clock.stage("findings"):
            findings = find(manifest, store, trusted, trainer, trained.last_reports, crossed)
        with clock.stage("write"):
            make_classifier(trainer, config, manifest.class_names).save(folder.classifier)
            write_table(folder.epochs, epochs_table(trained.reports))
            metadata = {
                "method": config.method,
                "seed": config.seed,
                "out_of_sample": crossed is not None,
                "resumed_elsewhere": trained.is_other_environment,
            }
            corrections.write(folder.corrections, manifest, findings, metadata)
        summary = summarise(manifest, findings, {**metadata, **effort, "elapsed_seconds": clock.seconds})
        test = None if job.test is None else job.test.name
        model_card.write(folder.card, config, summary, source=manifest.name, test=test)
        write_json(folder.summary, summary)
        folder.finish()
    return Run(folder.path, folder.corrections, folder.classifier, summary)


def plan(source: Any, *, reporter: Reporter | None = None, **options: Any) -> dict[str, Any]:
    """What `scan` would do with the same arguments, with an estimate of time; writes nothing.

    Returns:
        JSON-able: rows, classes, resolved options, epochs, forward units a row as in summary.json, estimated seconds
        of all trainings.

    Raises:
        InputError: as `scan` does.
    """
    job = ScanPlan.of(source, options, reporter or Silent())
    manifest, config, folder = job.manifest, job.config, job.folder
    run_folder.check_out(folder, overwrite=job.overwrite)
    method = method_class(config.method)
    with own_random_state(config):
        network = build_network(config, len(manifest.class_names), config.seed)
        labels = Labels.of(manifest.given, len(manifest.class_names), torch.device(config.device))
        phases = method(network, labels, config.settings).phases()
        units = sum(phase.epochs * phase.forward_units for phase in phases)
        trained = np.where(manifest.held_out, -1, manifest.given)
        trained[trusted_stream_labels(config.method, manifest, trained >= 0, job.trusted) >= 0] = -1
        rows = int((trained >= 0).sum())
        folds = folds_of_rows(trained, manifest.groups, job.trusted, config)
        # Each fold trains on all rows but those that it holds out, and the exported classifier once more on all.
        of_folds = None if folds is None else units * (config.folds - int((folds >= 0).sum()) / rows)
        seconds = seconds_per_unit(network, config) * rows * (units + (of_folds or 0))
    return {
        "source": str(manifest.source),
        "out": str(folder.path),
        **{name: value for name, value in config.to_json().items() if name != "weights_sha256"},
        "rows": manifest.num_rows,
        "classes": len(manifest.class_names),
        "phases": {phase.name: phase.epochs for phase in phases},
        **units_per_row(units, of_folds),
        "estimated_training_seconds": round(seconds, 1),
    }


def decode(manifest: Manifest, config: ScanConfig, reporter: Reporter) -> ImageStore:
    """The images at the size of a scan, from the cache where they are there; those that cannot be used are told."""

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
    is_other_environment: bool

    @property
    def last_reports(self) -> list[EpochReport]:
        """Of the last epoch of every training."""
        return [reports[-1] for reports in self.reports.values()]


def _train(
    job: ScanPlan,
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
    trusted_labels = trusted_stream_labels(config.method, manifest, labels >= 0, job.trusted)
    labels[trusted_labels >= 0] = -1
    predicted = np.flatnonzero(store.valid)
    trainer = make_trainer(images, labels, num_classes, config, predicted, trusted_labels=trusted_labels)
    folds = folds_of_rows(labels, manifest.groups, job.trusted, config)
    is_other_environment = begin()
    crossed = None
    reports: dict[int | None, list[EpochReport]] = {}
    if folds is not None:
        crossed = cross_fit(
            images, labels, folds, num_classes, config, folder, reporter, watched, trusted_labels
        )
        reports.update(crossed.reports.items())
    reports[None] = train(trainer, folder, reporter, watched)
    return _Trained(trainer, crossed, reports, is_other_environment)


@contextmanager
def own_random_state(config: ScanConfig) -> Iterator[None]:
    """Leave the caller's random state as it was, on the CPU and on the device used."""
    devices = [] if config.device == "cpu" else [config.device]
    with torch.random.fork_rng(devices=devices):
        yield

"""scan(): from a source of labelled images to findings, in one page and with no branch on the method."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from labelfix import corrections, run_folder
from labelfix.batches import Labels
from labelfix.config import ScanConfig
from labelfix.findings import find
from labelfix.job import Job
from labelfix.manifest import Manifest
from labelfix.methods import method_class
from labelfix.preparation import build_network, prepare, seconds_per_unit, watch
from labelfix.reporting import Reporter, Silent
from labelfix.resumable import train
from labelfix.store import ImageStore
from labelfix.summary import epochs_table, hardware, summarise
from labelfix.tables import write_json, write_table
from labelfix.trainer import EpochReport, Trainer


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
            trainer, classifier = prepare(manifest, store, trusted, config)
            watched = watch(trainer, manifest, store, trusted, job.test, test_store)
            elsewhere = begin()
            reports = train(trainer, folder, reporter, watched)
            effort = _effort(trainer, reports)
        with clock.stage("findings"):
            findings = find(manifest, store, trusted, trainer, reports)
        with clock.stage("write"):
            classifier.save(folder.classifier)
            write_table(folder.epochs, epochs_table(reports))
            metadata = {"method": config.method, "seed": config.seed, "resumed_elsewhere": elsewhere}
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
        network = build_network(config, len(manifest.class_names))
        labels = Labels.of(manifest.given, len(manifest.class_names), torch.device(config.device))
        phases = method(network, labels, config.settings).phases()
        units = sum(phase.epochs * phase.forward_units for phase in phases)
        trained = (manifest.given >= 0) & ~manifest.held_out
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


def _effort(trainer: Trainer, reports: list[EpochReport]) -> dict[str, Any]:
    seconds = sum(report.elapsed_seconds for report in reports)
    rows = trainer.num_trained_rows * len(reports)
    return {
        "forward_units_per_row": round(trainer.position.forward_units / trainer.num_trained_rows, 2),
        "training_seconds": round(seconds, 3),
        "images_per_second": round(rows / seconds, 1) if seconds else None,
        **{name: value for name, value in reports[-1].reported.items() if name.endswith("_accuracy")},
        "hardware": hardware(trainer.source.device),
    }


@contextmanager
def _own_random_state(config: ScanConfig) -> Iterator[None]:
    """Leave the caller's random state as it was, on the CPU and on the device used."""
    devices = [] if config.device == "cpu" else [config.device]
    with torch.random.fork_rng(devices=devices):
        yield

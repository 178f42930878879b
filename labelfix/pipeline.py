"""scan(): from a source of labelled images to findings, in one page and with no branch on the method."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelfix import corrections, run_folder
from labelfix.batches import Labels
from labelfix.config import ScanConfig, ScanOptions, environment
from labelfix.corrections import Findings
from labelfix.evidence import Evidence, Fit
from labelfix.manifest import Manifest
from labelfix.methods import method_class
from labelfix.preparation import build_network, prepare, seconds_per_unit
from labelfix.reporting import Reporter, Silent
from labelfix.resumable import train
from labelfix.run_folder import RunFolder
from labelfix.store import ImageStore
from labelfix.summary import epochs_table, hardware, summarise
from labelfix.tables import write_json, write_table
from labelfix.trainer import EpochReport, Trainer
from labelfix.verdicts import decide


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


def scan(source: str | Path, *, reporter: Reporter | None = None, **options: Any) -> Run:
    """Train a network that survives wrong labels and write down which labels are wrong.

    Args:
        source: class folders, a csv, tsv, jsonl or Parquet manifest, or a Hugging Face image Parquet file.
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
        manifest, config, folder = _settle(source, options, reporter)
    facts = {
        "config": config.to_json(),
        "source": {**manifest.options, "fingerprint": manifest.fingerprint},
        "environment": environment(),
    }
    overwrite = options.get("overwrite", False)
    with (
        run_folder.locked(folder, manifest.source, facts, overwrite=overwrite) as begin,
        _own_random_state(config),
    ):
        with clock.stage("decode"):
            store = _decode(manifest, config, reporter)
        with clock.stage("train"):
            trainer, classifier = prepare(manifest, store, config)
            elsewhere = begin()
            reports = train(trainer, folder, reporter)
            effort = _effort(trainer, reports)
        with clock.stage("findings"):
            findings = _find(manifest, store, trainer, reports)
        with clock.stage("write"):
            classifier.save(folder.classifier)
            write_table(folder.epochs, epochs_table(reports))
            metadata = {"method": config.method, "seed": config.seed, "resumed_elsewhere": elsewhere}
            corrections.write(folder.corrections, manifest, findings, metadata)
        summary = summarise(manifest, findings, {**metadata, **effort, "elapsed_seconds": clock.seconds})
        write_json(folder.summary, summary)
        folder.finish()
    return Run(folder.path, folder.corrections, folder.classifier, summary)


def plan(source: str | Path, *, reporter: Reporter | None = None, **options: Any) -> dict[str, Any]:
    """What `scan` would do with the same arguments, with an estimate of time; writes nothing.

    Returns:
        JSON-able: rows, classes, resolved options, epochs, forward units a row, estimated seconds.

    Raises:
        InputError: as `scan` does.
    """
    manifest, config, folder = _settle(source, options, reporter or Silent())
    run_folder.check_out(folder, manifest.source, overwrite=options.get("overwrite", False))
    method = method_class(config.method)
    with _own_random_state(config):
        network = build_network(config, len(manifest.class_names))
        labels = Labels.of(manifest.given, len(manifest.class_names), torch.device(config.device))
        phases = method(network, labels, config.settings).phases()
        units = sum(phase.epochs * phase.forward_units for phase in phases)
        seconds = seconds_per_unit(network, config) * units * int((manifest.given >= 0).sum())
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


def _settle(
    source: str | Path, options: Mapping[str, Any], reporter: Reporter
) -> tuple[Manifest, ScanConfig, RunFolder]:
    """Read the source and replace every `auto` among the options."""
    chosen = ScanOptions.of(options)
    method_class(chosen.method)
    manifest = Manifest.read(
        source,
        rows=chosen.rows,
        root=chosen.root,
        image_column=chosen.image_column,
        label_column=chosen.label_column,
    )
    for warning in manifest.warnings:
        reporter.message(f"warning: {warning}")
    folder = RunFolder(chosen.run_path(manifest))
    return manifest, chosen.resolve(manifest, run_folder.unfinished_config(folder)), folder


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


def _find(manifest: Manifest, store: ImageStore, trainer: Trainer, reports: list[EpochReport]) -> Findings:
    """Evidence, verdicts and the classifier's own view of every row."""
    plain = trainer.predict("plain")
    probs = plain.softmax(dim=1).cpu().numpy()
    if reports[-1].is_finite and np.isfinite(probs[store.valid]).all():
        evidence = trainer.method.evidence(lambda view: plain if view == "plain" else trainer.predict(view))
    else:
        reason = f"training diverged in epoch {reports[-1].epoch}; give a lower --set learning_rate"
        nothing = np.full(manifest.num_rows, np.nan)
        evidence = Evidence(nothing, np.full(probs.shape, np.nan, np.float32), Fit(ok=False, reason=reason))
    seen = np.isfinite(probs).all(axis=1)
    predicted = np.where(seen, np.where(seen[:, None], probs, 0).argmax(axis=1), -1)
    judged = store.valid & (manifest.given >= 0)
    verdicts = decide(evidence, manifest.given, judged, predicted)
    return Findings(evidence, verdicts, probs, store.valid, store.errors)


def _effort(trainer: Trainer, reports: list[EpochReport]) -> dict[str, Any]:
    seconds = sum(report.elapsed_seconds for report in reports)
    rows = trainer.num_trained_rows * len(reports)
    return {
        "forward_units_per_row": round(trainer.position.forward_units / trainer.num_trained_rows, 2),
        "training_seconds": round(seconds, 3),
        "images_per_second": round(rows / seconds, 1) if seconds else None,
        "hardware": hardware(trainer.source.device),
    }


@contextmanager
def _own_random_state(config: ScanConfig) -> Iterator[None]:
    """Leave the caller's random state as it was, on the CPU and on the device used."""
    devices = [] if config.device == "cpu" else [config.device]
    with torch.random.fork_rng(devices=devices):
        yield

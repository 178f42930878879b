"""scan(): from a source of labelled images to findings, in one page and with no branch on the method."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from labelfix import checkpoint, corrections, networks, run_folder
from labelfix.batches import Labels, Source, seed_of
from labelfix.classifier import Classifier
from labelfix.config import ScanConfig, ScanOptions, environment
from labelfix.corrections import Findings
from labelfix.errors import InputError, Interrupted
from labelfix.evidence import Evidence, Fit
from labelfix.manifest import Manifest
from labelfix.methods import method_class
from labelfix.networks import NetworkSpec
from labelfix.networks.torchvision_models import load_weights
from labelfix.run_folder import RunFolder
from labelfix.store import ImageStore
from labelfix.summary import epochs_table, hardware, summarise
from labelfix.tables import write_json, write_table
from labelfix.trainer import EpochReport, Trainer
from labelfix.verdicts import decide
from labelfix.views import Augmentation

_NETWORK_SEED = 4
_CHECKPOINT_SHARE = 0.05
_STATISTICS_ROWS = 10_000
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Reporter(Protocol):
    """Where a scan tells how far it is."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Some of the `total` units of a stage are done."""

    def message(self, text: str) -> None:
        """A line for the user."""


class Silent:
    """A reporter that says nothing."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def message(self, text: str) -> None:
        """Say nothing."""


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
        manifest, config, out = _settle(source, options, reporter)
        overwrite = options.get("overwrite", False)
        folder = run_folder.check_out(out, manifest.source, overwrite=overwrite)
    facts = {
        "config": config.to_json(),
        "source": {**manifest.options, "fingerprint": manifest.fingerprint},
        "environment": environment(),
    }
    with run_folder.opened(folder, facts, overwrite=overwrite) as elsewhere, _own_random_state():
        with clock.stage("decode"):
            store = _decode(manifest, config, reporter)
        with clock.stage("train"):
            trainer, classifier = _prepare(manifest, store, config)
            reports = _train(trainer, folder, reporter)
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
    return Run(out, folder.corrections, folder.classifier, summary)


def plan(source: str | Path, *, reporter: Reporter | None = None, **options: Any) -> dict[str, Any]:
    """What `scan` would do with the same arguments, with an estimate of time; writes nothing.

    Returns:
        JSON-able: rows, classes, resolved options, epochs, forward units a row, estimated seconds.

    Raises:
        InputError: as `scan` does.
    """
    manifest, config, out = _settle(source, options, reporter or Silent())
    run_folder.check_out(out, manifest.source, overwrite=options.get("overwrite", False))
    method = method_class(config.method)
    with _own_random_state():
        network = _network(config, len(manifest.class_names))
        labels = Labels.of(manifest.given, len(manifest.class_names), torch.device(config.device))
        phases = method(network, labels, config.settings).phases()
        units = sum(phase.epochs * phase.forward_units for phase in phases)
        seconds = _seconds_per_unit(network, config) * units * int((manifest.given >= 0).sum())
    return {
        "source": str(manifest.source),
        "out": str(out),
        **{name: value for name, value in config.to_json().items() if name != "weights_sha256"},
        "rows": manifest.num_rows,
        "classes": len(manifest.class_names),
        "phases": {phase.name: phase.epochs for phase in phases},
        "forward_units_per_row": units,
        "estimated_training_seconds": round(seconds, 1),
    }


def _settle(
    source: str | Path, options: Mapping[str, Any], reporter: Reporter
) -> tuple[Manifest, ScanConfig, Path]:
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
    return manifest, chosen.resolve(manifest), chosen.run_path(manifest)


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


def _prepare(manifest: Manifest, store: ImageStore, config: ScanConfig) -> tuple[Trainer, Classifier]:
    device = torch.device(config.device)
    mean, std = _IMAGENET if config.weights == "imagenet" else _channel_statistics(store)
    augmentation = Augmentation(config.image_size, mean, std, flip=config.flip, device=device)
    network = _network(config, len(manifest.class_names))
    given = np.where(store.valid, manifest.given, -1)
    labels = Labels.of(given, len(manifest.class_names), device)
    method = method_class(config.method)(network, labels, config.settings).to(device)
    trainer = Trainer(
        method,
        Source(store, augmentation, device),
        trained_rows=np.flatnonzero(given >= 0),
        predicted_rows=np.flatnonzero(store.valid),
        seed=config.seed,
        precision=config.precision_type,
    )
    spec = NetworkSpec(config.backbone, len(manifest.class_names), config.image_size)
    return trainer, Classifier(method.network, spec, manifest.class_names, mean, std, config.method)


def _network(config: ScanConfig, num_classes: int) -> nn.Module:
    """The network of a scan on its device, with its first weights."""
    torch.manual_seed(seed_of(config.seed, _NETWORK_SEED))
    network = networks.build(NetworkSpec(config.backbone, num_classes, config.image_size))
    if config.weights != "none":
        load_weights(network, config.backbone, config.weights)
    network = network.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, config.image_size, config.image_size, device=config.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"--backbone {config.backbone} does not take images of {config.image_size} px "
            f"({str(error).splitlines()[0]}); use --image-size 224, or another backbone"
        ) from None
    return network.train()


def _train(trainer: Trainer, folder: RunFolder, reporter: Reporter) -> list[EpochReport]:
    """Train to the end, from the newest checkpoint on; save at epoch ends when that is cheap, and on Ctrl-C."""
    number, reports = _restore(trainer, folder)
    steps = trainer.steps_per_epoch
    done, total = trainer.position.epoch * steps + trainer.position.step, trainer.num_epochs * steps
    saved_at, save_seconds = time.monotonic(), 0.0
    with _interrupt_flag() as interrupted:

        def keep_going() -> bool:
            nonlocal done
            reporter.progress("train", done, total)
            done += 1
            return not interrupted.is_set()

        for report in trainer.epochs(keep_going):
            reports.append(report)
            if not report.is_finite:
                break
            if save_seconds < _CHECKPOINT_SHARE * (time.monotonic() - saved_at):
                started = time.monotonic()
                number = _save(trainer, folder, reports, number)
                saved_at = time.monotonic()
                save_seconds = saved_at - started
        _save(trainer, folder, reports, number)
        if interrupted.is_set():
            raise Interrupted("interrupted; progress is saved: give the same command to go on")
    reporter.progress("train", total, total)
    return reports


def _save(trainer: Trainer, folder: RunFolder, reports: list[EpochReport], number: int) -> int:
    tensors, position = trainer.state()
    facts = {"position": position, "reports": [report.to_json() for report in reports]}
    checkpoint.save(folder.checkpoint, number + 1, tensors, facts)
    return number + 1


def _restore(trainer: Trainer, folder: RunFolder) -> tuple[int, list[EpochReport]]:
    found = checkpoint.load_newest(folder.checkpoint)
    if found is None:
        return 0, []
    number, tensors, facts = found
    trainer.restore(tensors, facts["position"])
    return number, [EpochReport.from_json(report) for report in facts["reports"]]


def _find(manifest: Manifest, store: ImageStore, trainer: Trainer, reports: list[EpochReport]) -> Findings:
    """Evidence, verdicts and the classifier's own view of every row."""
    plain = trainer.predict("plain")
    probs = plain.softmax(dim=1).cpu().numpy()
    if reports[-1].is_finite:
        evidence = trainer.method.evidence(lambda view: plain if view == "plain" else trainer.predict(view))
    else:
        reason = f"training diverged in epoch {reports[-1].epoch}: lower it with --set learning_rate=0.01"
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


def _channel_statistics(store: ImageStore) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixel values in 0..1, over a spread of valid images."""
    rows = np.flatnonzero(store.valid)
    if not len(rows):
        raise InputError("none of the images can be read; see the errors of a scan with --rows 10")
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _STATISTICS_ROWS)).astype(np.int64)]
    pixels = store.images[chosen].astype(np.float32) / 255
    mean = pixels.mean(axis=(0, 2, 3), dtype=np.float64)
    std = pixels.std(axis=(0, 2, 3), dtype=np.float64)
    # An empty channel must not blow up: a deviation under one grey level counts as one.
    return tuple(mean.round(6).tolist()), tuple(np.maximum(std, 1 / 255).round(6).tolist())


def _seconds_per_unit(network: nn.Module, config: ScanConfig, batch: int = 64, steps: int = 3) -> float:
    """Seconds of one image's forward pass, from a few training steps (three units each) on noise."""
    images = torch.randn(batch, 3, config.image_size, config.image_size, device=config.device)
    images = images.to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(steps + 1):
        started = time.monotonic()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            total = network(images).float().logsumexp(dim=1).mean()
        total.backward()
        total.item()  # waits for the device
        seconds.append(time.monotonic() - started)
    return float(np.median(seconds[1:])) / (3 * batch)


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Leave the caller's random state as it was."""
    with torch.random.fork_rng():
        yield


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag; a second one stops at once. Only the main thread gets signals."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
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

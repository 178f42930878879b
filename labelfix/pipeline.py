"""scan(): from a source of labelled images to findings, with no branch on the method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from labelfix import processes
from labelfix.atomic_files import write_json, write_table
from labelfix.config import ScanConfig, ScanOptions
from labelfix.data.copies import merged
from labelfix.data.images.store import ImageStore, decoded
from labelfix.data.known_truth import true_classes
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.networks.heads import FrozenEncoder
from labelfix.pred_probs import scan_pred_probs
from labelfix.reporting import Reporter, Silent
from labelfix.results import model_card, multi_label, run_folder, single_label
from labelfix.results.around import Around
from labelfix.results.classifier import make_classifier
from labelfix.results.findings import PROBE
from labelfix.results.summary import Training, cost, epochs_table
from labelfix.scan_plan import ScanPlan, on_device
from labelfix.threads import one_blas_thread
from labelfix.training.batches import Source
from labelfix.training.comparison import Compared, compare
from labelfix.training.folds import CrossFit, cross_fit, folds_of_rows, hold_out, num_folds, probe_folds
from labelfix.training.resume import train
from labelfix.training.setup import (
    build_network,
    encoded_size,
    held_out_rows,
    make_trainer,
    open_encoder,
    open_images,
    open_own_features,
    training_targets,
    watch,
)
from labelfix.training.shards import deal, deal_evenly
from labelfix.training.trainer import EpochReport, Trainer

_NO_PROBE = "no linear probe beside the network"


@dataclass(frozen=True)
class Run:
    """A finished scan.

    Attributes:
        out: the run folder.
        corrections: path of the findings.
        classifier: folder of the trained classifier; None with `pred_probs` or `features`.
        summary: what summary.json holds.
    """

    out: Path
    corrections: Path
    classifier: Path | None
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
        reporter: shows progress and messages.
        options: those of the command line, see `labelfix.config.ScanOptions`: method, out, seed, preset, ...

    Returns:
        The finished run.

    Raises:
        InputError: bad input or options, in one line.
        Interrupted: Ctrl-C while training; the same call goes on from there.
        LabelfixError: one of several processes has ended.
    """
    with processes.joined():
        return _scan(source, Silent() if reporter is None or processes.rank() else reporter, options)


def _scan(source: Any, reporter: Reporter, options: Mapping[str, Any]) -> Run:
    if options.get("pred_probs") is not None:
        if processes.count() > 1:
            raise InputError(
                "--pred-probs: nothing is trained, so one process is enough: scan without torchrun"
            )
        given, summary = scan_pred_probs(source, ScanOptions.of(options), reporter)
        return Run(given.path, given.corrections, None, summary)
    clock = Clock()
    with clock.stage("read"):
        planned = ScanPlan.of(source, options, reporter)
    manifest, trusted, config, folder = planned.manifest, planned.trusted, planned.config, planned.folder
    with _locked(planned) as begin, on_device(config.device):
        if not config.is_frozen:  # what does not fit it is refused before anything is decoded
            build_network(config, len(manifest.class_names), config.seed)
        with clock.stage("decode"), processes.first_alone():
            store = decoded(manifest, config.image_size, reporter)
            test, white, test_store = planned.test, store.white, None
            if test is not None:
                test_store = decoded(test, config.image_size, reporter, is_trained_on=False, white=white)
        with clock.stage("encode" if config.is_frozen or config.probe else "train"):
            seen = _Seen.of(store, test_store, planned, reporter)
            around = processes.from_first(lambda: Around.of(store, seen.features, test_store))
        with clock.stage("train"), one_blas_thread():
            trained = _train(planned, seen, around.copies, begin, reporter)
            trainer, crossed = trained.trainer, trained.crossed
            effort = cost(trainer, trained.reports, None if crossed is None else crossed.forward_units)
            effort["training_seconds"] = round(effort["training_seconds"] + trained.probe_seconds, 3)
        if processes.rank():  # the first has all that was found, and writes it
            return Run(folder.path, folder.corrections, None, processes.from_first(dict[str, Any]))
        with clock.stage("findings"), one_blas_thread():
            seen_rows = trained.last_reports, trained.held_out, crossed
            find = _of_task(manifest).find
            findings = find(
                manifest, store, trusted, trainer, *seen_rows, config.thresholds, around, trained.probe
            )
        summary = _write(planned, seen, trained, findings, effort, clock)
        folder.finish()
    processes.from_first(lambda: summary)
    classifier = folder.classifier if planned.has_classifier else None
    return Run(folder.path, folder.corrections, classifier, summary)


def _write(
    planned: ScanPlan,
    seen: _Seen,
    trained: _Trained,
    findings: Any,
    effort: dict[str, Any],
    clock: Clock,
) -> dict[str, Any]:
    """Everything that a run folder holds at the end; returns what summary.json does.

    Args:
        planned: the scan.
        seen: its images.
        trained: after the last epoch.
        findings: of the task.
        effort: what it cost, and what test images gave.
        clock: of the stages before.
    """
    manifest, config, folder = planned.manifest, trained.config, planned.folder
    of_task = _of_task(manifest)
    with clock.stage("write"):
        if planned.has_classifier:
            made = make_classifier(
                trained.trainer, config, manifest.class_names, seen.encoder, seen.store.white
            )
            made.save(folder.classifier)
        write_table(folder.epochs, epochs_table({**trained.probe_reports, **trained.reports}))
        metadata = {
            "method": planned.method,
            "seed": config.seed,
            "out_of_sample": trained.crossed is not None,
            "resumed_elsewhere": trained.is_other_environment,
        }
        of_task.write(folder.corrections, manifest, findings, metadata)
    choice = None if trained.compared is None else trained.compared.choice
    facts = {
        **metadata,
        **planned.with_wrong(effort),
        "encoder_trial": planned.encoder_trial,
        "method_choice": None if choice is None else choice.to_json(),
        "elapsed_seconds": clock.seconds,
    }
    summary: dict[str, Any] = of_task.summarise(manifest, findings, facts)
    if planned.has_classifier:
        test_name = None if planned.test is None else planned.test.name
        # Copies, and images that cannot be read, may leave fewer folds than were planned.
        held = None if trained.crossed is None else trained.crossed.fold_of_row
        told = replace(config, folds=num_folds(held))
        model_card.write(folder.card, told, summary, source=manifest.name, test=test_name)
    write_json(folder.summary, summary)
    return summary


def _of_task(manifest: Manifest) -> ModuleType:
    """The findings of one label a row, or of several."""
    return multi_label if manifest.task == "multi" else single_label


@contextmanager
def _locked(planned: ScanPlan) -> Iterator[Callable[[], bool]]:
    """`run_folder.locked` by the first process for all."""
    if processes.rank():
        yield lambda: False
        return
    with run_folder.locked(planned.folder, planned.facts(), overwrite=planned.overwrite) as begin:
        yield begin


@dataclass(frozen=True)
class _Seen:
    """The images as they are trained on, those that are only measured on, and the encoder that both go through.

    Attributes:
        store: of the images that are trained on.
        images: as they are trained on.
        test_images: those that are only measured on; None without any.
        test_valid: (M,) bool, which of these can be read.
        encoder: that all of them go through; None where the whole network is trained.
        probed: the images as a linear probe sees them; None without one.
    """

    store: ImageStore
    images: Source
    test_images: Source | None
    test_valid: np.ndarray | None
    encoder: FrozenEncoder | None
    probed: Source | None = None

    @property
    def features(self) -> Callable[[slice | np.ndarray], np.ndarray] | None:
        """What tells near copies and outliers: of a frozen encoder, also of one that a probe stands on."""
        return self.images.features if self.probed is None else self.probed.features

    @classmethod
    def of(
        cls, store: ImageStore, test_store: ImageStore | None, planned: ScanPlan, reporter: Reporter
    ) -> _Seen:
        """Open them; a frozen encoder encodes what is not in the cache."""
        config = planned.config
        labels, stream = planned.training_labels(store.valid)
        shard = deal(labels, stream >= 0, config.seed)
        if planned.features is not None:
            own = open_own_features(planned.features, store.valid, config, shard)
            return cls(store, own, None, None, None)

        def on_progress(done: int, total: int) -> None:
            reporter.progress("encode", done, total)

        encoder = open_encoder(config)
        if encoder is not None and config.network_head:
            shape, of_image = encoded_size(config, encoder)
            count = len(store.images) + (0 if test_store is None else len(test_store.images))
            reporter.message(
                f"features are maps of {shape[1]} x {shape[2]} places: {count * of_image / 1e6:,.0f} MB in the cache"
                f" for {count:,} images"
            )
        images = open_images(store, config, encoder, on_progress, shard=shard)
        probed = _probed_images(planned, config.probe, on_progress, reporter)
        if test_store is None:
            return cls(store, images, None, None, encoder, probed)
        dealt = deal_evenly(len(test_store.images))
        test_images = open_images(test_store, config, encoder, on_progress, beside=images, shard=dealt)
        return cls(store, images, test_images, test_store.valid, encoder, probed)


@dataclass(frozen=True)
class _Trained:
    """After the last epoch: the trainer, the rows it left out, what came before it, every epoch's report by fold."""

    trainer: Trainer
    config: ScanConfig
    held_out: np.ndarray
    compared: Compared | None
    probe: CrossFit | None
    reports: dict[Training, list[EpochReport]]
    is_other_environment: bool

    @property
    def probe_reports(self) -> dict[Training, list[EpochReport]]:
        """Of the epochs of every fold of the linear probe."""
        found = {} if self.probe is None else self.probe.reports
        return {(PROBE, fold): some for fold, some in found.items()}

    @property
    def probe_seconds(self) -> float:
        """Of its training."""
        return sum(report.elapsed_seconds for some in self.probe_reports.values() for report in some)

    @property
    def crossed(self) -> CrossFit | None:
        """What the folds say that the findings rest on."""
        return None if self.compared is None else self.compared.crossed

    @property
    def last_reports(self) -> list[EpochReport]:
        """Of the last epoch of every training that the findings rest on."""
        taken = (self.config.method,) if self.compared is None else self.compared.taken
        return [reports[-1] for (method, _), reports in self.reports.items() if method in taken]


def _train(
    planned: ScanPlan, seen: _Seen, copies: np.ndarray, begin: Callable[[], bool], reporter: Reporter
) -> _Trained:
    """Train every fold, where there are any, and then on all rows; `begin` as of `run_folder.locked`.

    Where methods are compared that is done with each, and only the one that is believed most trains on all rows.
    """
    manifest, config, folder = planned.manifest, planned.config, planned.folder.checkpoint
    num_classes = len(manifest.class_names)
    images, store = seen.images, seen.store
    labels, trusted_labels = planned.training_labels(store.valid)
    targets = training_targets(manifest, planned.trusted)
    watched = watch(images, manifest, store, planned.trusted, planned.test, seen.test_images, seen.test_valid)
    groups = merged(manifest.groups, copies)
    folds = folds_of_rows(labels, groups, planned.trusted, config, are_asked=planned.folds_asked)
    held_out = hold_out(labels, groups, planned.trusted, config)
    of_split = held_out_rows(manifest, store.valid, manifest.given)
    unseen = None if folds is not None else np.flatnonzero(held_out | of_split)
    trained = np.where(held_out, -1, labels)

    def on_all_rows(of_method: ScanConfig, of: Source = images) -> Trainer:
        return make_trainer(
            of, trained, num_classes, of_method, np.flatnonzero(store.valid),
            trusted_labels=trusted_labels, unseen=unseen, targets=targets,
        )  # fmt: skip

    def on_folds(of_method: ScanConfig) -> CrossFit:
        assert folds is not None
        name = of_method.method if planned.others else ""
        return cross_fit(
            images, labels, folds, num_classes, of_method, folder, reporter, watched, trusted_labels, targets, name
        )  # fmt: skip

    trainer = on_all_rows(config)
    is_other_environment = processes.from_first(begin)
    compared, probe = None, None
    reports: dict[Training, list[EpochReport]] = {}
    if seen.probed is not None and config.probe is not None:
        del trainer  # it has shown that the network can be built; the device has room for one at a time
        probe = _probe(planned, config.probe, seen.probed, labels, trusted_labels, groups, held_out, reporter)
        trainer = on_all_rows(config)
    if folds is not None:
        del trainer
        compared = compare(planned.configs, labels, on_folds)
        config = compared.config
        reports.update(compared.reports)
        if compared.choice is not None:
            reporter.message(f"--method auto: {compared.choice.reason}")
        trainer = on_all_rows(config)
    truth = _truth_of(manifest, trained)
    reports[config.method, None] = train(trainer, folder, reporter, watched, truth=truth)
    if images.shard is not None:
        trainer = _of_all_processes(trainer, lambda: on_all_rows(config, images.of_all_rows()))
    return _Trained(trainer, config, held_out, compared, probe, reports, is_other_environment)


def _of_all_processes(trainer: Trainer, make: Callable[[], Trainer]) -> Trainer:
    """In the first of several processes a trainer of the rows of all, with what they say of them; else its own."""
    said, state = trainer.predict_for_all("plain"), trainer.state()
    if processes.rank():
        return trainer
    whole = make()
    whole.restore(*state)
    whole.said = said
    return whole


def _probed_images(
    planned: ScanPlan,
    config: ScanConfig | None,
    on_progress: Callable[[int, int], None],
    reporter: Reporter,
) -> Source | None:
    """The images as a linear probe sees them; None without one, or where the disk has no room."""
    if config is None:
        return None

    def on_decoded(done: int, total: int) -> None:
        reporter.progress("decode for the probe", done, total)

    try:
        store = ImageStore.open_or_build(planned.manifest, config.image_size, on_progress=on_decoded)
        # The device keeps its room for what is trained.
        return open_images(store, config, open_encoder(config), on_progress, resident=False)
    except InputError as error:
        reporter.message(f"warning: {_NO_PROBE}: {error}")
        return None


def _probe(
    planned: ScanPlan,
    config: ScanConfig,
    images: Source,
    labels: np.ndarray,
    trusted_labels: np.ndarray,
    groups: np.ndarray | None,
    held_out: np.ndarray,
    reporter: Reporter,
) -> CrossFit | None:
    """What a linear probe says of rows that it never saw; None where none can be held out, or it cannot be weighed."""
    folds, why = probe_folds(labels, groups, planned.trusted, config, held_out)
    if folds is None:
        reporter.message(f"warning: {_NO_PROBE}: {why}")
        return None
    return cross_fit(
        images, labels, folds, len(planned.manifest.class_names), config, planned.folder.checkpoint, reporter,
        trusted_labels=trusted_labels, targets=training_targets(planned.manifest, planned.trusted), name=PROBE,
    )  # fmt: skip


def _truth_of(manifest: Manifest, trained: np.ndarray) -> np.ndarray | None:
    """(N,) int64 true classes of the rows that are trained on, -1 for none; None where no truth is known."""
    true = true_classes(manifest)
    return None if true is None else np.where(trained >= 0, true, -1)

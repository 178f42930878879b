"""A scan before its first step: sources read, every option settled; and what it would take (`plan`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from labelfix import processes
from labelfix.config import ScanConfig, ScanOptions, environment
from labelfix.data.images.readable import look_warnings
from labelfix.data.known_truth import known_wrong
from labelfix.data.manifest import Manifest
from labelfix.data.own_numbers import FEATURES, Numbers, checked_features, read_numbers
from labelfix.data.verified_labels import MIN_DIFFERENT, Trusted
from labelfix.device_errors import plain_device_errors
from labelfix.devices import resolve_device
from labelfix.errors import InputError
from labelfix.methods import AUTO, method_class
from labelfix.methods.batch import Labels
from labelfix.networks.encoders import LITE0, is_encoder
from labelfix.output_paths import check_output
from labelfix.pred_probs import plan_pred_probs
from labelfix.random_state import own_random_state
from labelfix.reporting import Reporter, Silent
from labelfix.results import run_folder
from labelfix.results.run_folder import RunFolder
from labelfix.results.summary import units_per_row
from labelfix.threads import one_blas_thread
from labelfix.training.folds import folds_of_rows, hold_out, num_folds, num_units, probe_folds
from labelfix.training.setup import (
    planned_network,
    seconds_per_unit,
    training_labels,
    training_targets,
    trusted_stream_labels,
)
from labelfix.training.trial import try_encoder


@dataclass(frozen=True)
class ScanPlan:
    """A scan before its first step.

    Attributes:
        manifest: of the source.
        trusted: its verified labels.
        trusted_path: of the --trusted file, absolute; None without one.
        test: labelled images that are only measured on; None without --test.
        config: the options, every `auto` replaced; where methods are compared, of the first of them.
        others: of the methods that are compared with it.
        asked: options that may be `auto`, as they were given.
        folder: of the run.
        overwrite: whether a finished or different run there may be replaced.
        features: (N, D) float32 of the user; None where images are what is seen.
        encoder_trial: what a trial said of `--encoder auto`, JSON-able; None without one.
        folds_asked: whether a person wants so many folds; else they are the default, for so many rows as there are.
    """

    manifest: Manifest
    trusted: Trusted
    trusted_path: Path | None
    test: Manifest | None
    config: ScanConfig
    others: tuple[ScanConfig, ...]
    asked: dict[str, str]
    folder: RunFolder
    overwrite: bool
    features: np.ndarray | None = None
    encoder_trial: dict[str, Any] | None = None
    folds_asked: bool = True

    @classmethod
    def of(cls, source: Any, options: Mapping[str, Any], reporter: Reporter) -> ScanPlan:
        """Read the sources and settle the options.

        Raises:
            InputError: bad input or options, in one line.
        """
        chosen = ScanOptions.of(options)
        method_class(chosen.method)
        chosen.check_task()
        manifest, columns = _read_source(source, chosen)
        numbers = None if chosen.features is None else read_numbers(chosen.features, FEATURES)
        test = None if chosen.test is None else read_test(chosen.test, manifest, **columns)
        for warning in (*manifest.warnings, *(test.warnings if test is not None else ())):
            reporter.message(f"warning: {warning}")
        trusted = _verified(manifest, chosen, reporter)
        manifest = manifest.without(trusted.removed)
        _tell_of_wrong_test_labels(manifest, trusted, test, reporter)
        # Too few rows are refused before anything is decoded.
        labels = _labels_left(chosen, manifest, trusted)
        folder = RunFolder(chosen.run_path(manifest))
        check_output(
            folder.path, {"the source": manifest.places, "--test": () if test is None else test.places}
        )
        earlier = {} if chosen.overwrite else run_folder.resolved_autos(folder)
        settled, trial = _with_encoder(chosen, manifest, folder, earlier, labels, trusted, reporter)
        first, *others = (
            _resolved(each, manifest, earlier, numbers, labels, trusted, has_tried=trial is not None)
            for each in settled.candidates(manifest.task)
        )
        return cls(
            manifest,
            trusted,
            None if chosen.trusted is None else Path(chosen.trusted).expanduser().absolute(),
            test,
            first,
            # A comparison rests on folds, and heads alone are quick enough for one.
            tuple(others) if first.is_frozen and first.folds else (),
            chosen.asked,
            folder,
            chosen.overwrite,
            None if numbers is None else checked_features(numbers, manifest.num_rows, manifest.limit),
            trial,
            chosen.folds is not None,
        )

    @property
    def configs(self) -> tuple[ScanConfig, ...]:
        """Of all methods that are compared; of the one where none is."""
        return self.config, *self.others

    @property
    def method(self) -> str:
        """How the run calls its method."""
        return AUTO if self.others else self.config.method

    def training_labels(self, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the rows are trained towards, and the verified labels of a method with a trusted stream.

        Args:
            valid: (N,) bool, rows with a readable image.

        Returns:
            (N,) int64 twice, -1 for none; no row has both.

        Raises:
            InputError: the method needs verified rows of every class and one has none.
        """
        labels = training_labels(self.manifest, valid, self.trusted)
        stream = trusted_stream_labels(self.config.method, self.manifest, labels >= 0, self.trusted)
        return np.where(stream >= 0, -1, labels), stream

    @property
    def wrong_test_labels(self) -> int | None:
        """Test labels that are known to be wrong, see `wrong_test_labels`."""
        return wrong_test_labels(self.manifest, self.trusted, self.test)

    def with_wrong(self, effort: dict[str, Any]) -> dict[str, Any]:
        """What a run cost and came to, and beside what test labels gave how many of them are known to be wrong."""
        is_tested = not effort.keys().isdisjoint({"test_accuracy", "test_map"})
        return {**effort, "test_labels_wrong": self.wrong_test_labels} if is_tested else effort

    @property
    def has_classifier(self) -> bool:
        """Whether what is trained sees images; a head on the user's features could not label any."""
        return self.features is None

    def options(self) -> dict[str, Any]:
        """The options, resolved; where methods are compared with the settings of each as `candidates`. JSON-able."""
        options = self.config.to_json()
        if self.others:
            of_each = {each.method: each.settings.model_dump() for each in self.configs}
            options |= {"method": AUTO, "settings": {}, "candidates": of_each}
        return options

    def facts(self) -> dict[str, Any]:
        """The content of config.json; JSON-able."""
        config = self.config
        return run_folder.config_json(
            self.options(),
            self.asked,
            self.manifest,
            self.trusted,
            self.trusted_path,
            self.test,
            environment(config.method, (config.probe or config).backbone, config.device),
            self.encoder_trial,
        )


def plan(source: Any, *, reporter: Reporter | None = None, **options: Any) -> dict[str, Any]:
    """What `scan` would do with the same arguments, with an estimate of time; writes no run folder.

    A trial of `--encoder auto` leaves in the cache what it decodes, as a scan does.

    Returns:
        JSON-able: rows, classes, resolved options, epochs, forward units a row as in summary.json, estimated seconds
        of all trainings, and, where there is a frozen encoder or a linear probe, of encoding all images, with the shape
        of the features of a view and the bytes that all of them take in the cache.

    Raises:
        InputError: as `scan` does.
    """
    reporter = reporter or Silent()
    if options.get("pred_probs") is not None:
        return plan_pred_probs(source, ScanOptions.of(options), reporter)
    planned = ScanPlan.of(source, options, reporter)
    for warning in look_warnings(planned.manifest) if planned.manifest.has_images else ():
        reporter.message(f"warning: {warning}")
    manifest, config, folder = planned.manifest, planned.config, planned.folder
    run_folder.check_out(folder, overwrite=planned.overwrite)
    run_folder.resumed(folder, planned.facts(), overwrite=planned.overwrite)
    with on_device(config.device):
        network, encoding = planned_network(
            config,
            len(manifest.class_names),
            None if planned.features is None else planned.features.shape[1],
        )
        phases, units, of_folds, rows = _planned_passes(planned, network)
        seconds = seconds_per_unit(network, config) * rows * (units + (of_folds or 0))
        if config.probe is not None:
            head, encoding = planned_network(config.probe, len(manifest.class_names), None)
            seconds += _seconds_of_probe(planned, config.probe, head)
    # What of it lies in the cache is not known before the images are decoded: all are counted.
    tested = 0 if planned.test is None or config.probe is not None else planned.test.num_rows
    images = manifest.num_rows + tested
    encoded = (
        {}
        if encoding is None
        else {
            "features_of_a_view": list(encoding.shape),
            "features_bytes": encoding.bytes * images,
            "estimated_encoding_seconds": round(encoding.seconds * images, 1),
        }
    )
    return {
        "source": str(manifest.source),
        "out": str(folder.path),
        "encoder_trial": planned.encoder_trial,
        **{name: value for name, value in planned.options().items() if not name.endswith("_sha256")},
        "rows": manifest.num_rows,
        "classes": len(manifest.class_names),
        "phases": phases,
        **units_per_row(units, of_folds),
        **encoded,
        "estimated_training_seconds": round(seconds, 1),
    }


def _seconds_of_probe(planned: ScanPlan, config: ScanConfig, head: nn.Module) -> float:
    """Of the folds of a linear probe, which trains no classifier; 0 where it will have none."""
    manifest = planned.manifest
    labels, _ = planned.training_labels(np.ones(manifest.num_rows, dtype=bool))
    held_out = hold_out(labels, manifest.groups, planned.trusted, planned.config)
    if probe_folds(labels, manifest.groups, planned.trusted, config, held_out)[0] is None:
        return 0.0
    _, _, of_folds, rows = _planned_passes(replace(planned, config=config), head)
    return seconds_per_unit(head, config) * rows * (of_folds or 0)


def _planned_passes(planned: ScanPlan, network: nn.Module) -> tuple[dict[str, int], float, float | None, int]:
    """Epochs of each phase; network passes a trained row of the classifier, and of all folds; the trained rows.

    Nothing is decoded: every image counts as readable. Where methods are compared any of them may train the classifier:
    the first counts.
    """
    manifest, config = planned.manifest, planned.config
    labels, trusted_labels = planned.training_labels(np.ones(manifest.num_rows, dtype=bool))
    device, targets = torch.device(config.device), training_targets(manifest, planned.trusted)
    known = Labels.of(labels, len(manifest.class_names), device, trusted_labels, targets)
    phases_of = [
        method_class(each.method, each.task)(network, known, each.settings).phases()
        for each in planned.configs
    ]
    units_of = [sum(phase.units_per_row for phase in phases) for phases in phases_of]
    units: float = units_of[0]
    held_out = hold_out(labels, manifest.groups, planned.trusted, config)
    rows = int((labels >= 0).sum()) - int(held_out.sum())
    folds = folds_of_rows(labels, manifest.groups, planned.trusted, config, are_asked=planned.folds_asked)
    if folds is None:
        unseen = int((held_out | (manifest.held_out & (manifest.given >= 0))).sum())
        units += len(config.settings.averaged) * unseen / rows
    # Each fold trains on all rows but those that it holds out, and the exported classifier once more on all.
    of_folds = None if folds is None else sum(units_of) * (num_folds(folds) - int((folds >= 0).sum()) / rows)
    return {phase.name: phase.epochs for phase in phases_of[0]}, units, of_folds, rows


def _labels_left(chosen: ScanOptions, manifest: Manifest, trusted: Trusted) -> np.ndarray:
    """(N,) int64: what the rows are trained towards if every image is readable, -1 for none.

    Raises:
        InputError: verified labels that are too few for the method, or that leave too few rows to train on; says what
            takes the rows, and the way out.
    """
    labels = training_labels(manifest, np.ones(manifest.num_rows, dtype=bool), trusted)
    stream = trusted_stream_labels(chosen.method, manifest, ~manifest.held_out, trusted) >= 0
    labels = np.where(stream, -1, labels)
    left = int((labels >= 0).sum())
    if left < 2 and stream.any():
        raise InputError(
            f"--method {chosen.method}: {stream.sum()} rows are trusted, by which it learns the labels of the others,"
            f" and {left} are left, of which it needs at least 2; trust fewer rows, or use another method, which trains"
            " on all"
        )
    if left < 2 and trusted.removed.any():
        raise InputError(
            f"--trusted {chosen.trusted} removes {trusted.removed.sum()} rows, and {left} are left to train on, which"
            " needs at least 2; take out some of its lines with the decision remove"
        )
    return labels


def _resolved(
    options: ScanOptions,
    manifest: Manifest,
    earlier: Mapping[str, Any],
    features: Numbers | None,
    labels: np.ndarray,
    trusted: Trusted,
    *,
    has_tried: bool,
) -> ScanConfig:
    """The config with its linear probe: on the encoder that is fine-tuned, or on the one that a trial did not take.

    What a trial says of some rows may be wrong of all of them, and two networks that err in other places know more.

    Raises:
        InputError: an option that does not fit, also more folds than there are rows or groups to hold out.
    """
    config = options.resolve(manifest, earlier, features)
    if config.folds:
        is_asked = options.folds is not None
        folds = num_folds(folds_of_rows(labels, manifest.groups, trusted, config, are_asked=is_asked))
        if folds != config.folds:
            config = options.model_copy(update={"folds": folds}).resolve(manifest, earlier, features)
    if options.holdout != "auto" and config.holdout:
        _check_holdout(labels, manifest.groups, trusted, config)
    if processes.count() > 1:
        return config  # what a process cannot keep on its disk another may; they would wait for each other
    if is_encoder(config.backbone):
        return options.with_probe(config, manifest, options.encoder)
    return options.with_probe(config, manifest, LITE0) if has_tried else config


def _check_holdout(
    labels: np.ndarray, groups: np.ndarray | None, trusted: Trusted, config: ScanConfig
) -> None:
    """Refuse a share that is asked for and of which no row would be left out.

    Raises:
        InputError: names the share.
    """
    if hold_out(labels, groups, trusted, config).any():
        return
    units = num_units(labels, groups, trusted)
    raise InputError(
        f"--holdout {config.holdout:g}: of {units} {'rows' if groups is None else 'groups'} that can be held out that"
        " leaves none out, which needs ten and a share of at least one of them; give a larger share, or --folds, or"
        " --holdout 0 to train on all"
    )


def _with_encoder(
    chosen: ScanOptions,
    manifest: Manifest,
    folder: RunFolder,
    earlier: Mapping[str, Any],
    labels: np.ndarray,
    trusted: Trusted,
    reporter: Reporter,
) -> tuple[ScanOptions, dict[str, Any] | None]:
    """The options with `--encoder auto` replaced where that is for the images to say, and what a trial of them said."""
    if not chosen.may_try_encoder:
        return chosen, None
    if "encoder" in earlier:
        said = (folder.saved_config() or {}).get("encoder_trial")
        return chosen.model_copy(update={"encoder": earlier["encoder"]}), said
    # Before anything takes time.
    run_folder.check_out(folder, overwrite=chosen.overwrite)
    _check_for_either(chosen, manifest, labels, trusted)
    device, size = resolve_device(chosen.device), chosen.image_size
    with on_device(device), one_blas_thread():
        try:
            trial = try_encoder(
                manifest, None if size == "auto" else int(size), device, chosen.seed, reporter.progress
            )
        except InputError as error:
            reporter.message(f"warning: --encoder auto: no trial, and no encoder: {error}")
            trial = None
        trial = processes.from_first(lambda: trial)
    if trial is None:
        return chosen.model_copy(update={"encoder": "none"}), None
    reporter.message(f"--encoder auto: {trial.reason}")
    return chosen.model_copy(update={"encoder": trial.encoder}), trial.to_json()


def _check_for_either(chosen: ScanOptions, manifest: Manifest, labels: np.ndarray, trusted: Trusted) -> None:
    """Refuse options that do not fit, whatever a trial says.

    Raises:
        InputError: as without an encoder.
    """
    refusals = []
    for encoder in ("none", LITE0):
        settled = chosen.model_copy(update={"encoder": encoder})
        try:
            for each in settled.candidates(manifest.task):
                _resolved(each, manifest, {}, None, labels, trusted, has_tried=False)
        except InputError as error:
            refusals.append(error)
    if len(refusals) == 2:
        raise refusals[0]


@contextmanager
def on_device(device: str) -> Iterator[None]:
    """The device of a scan: the caller's random state stays as it was, and a device that fails is one line."""
    with (
        plain_device_errors(device, "a smaller --batch-size or --image-size"),
        own_random_state(torch.device(device)),
    ):
        yield


def _read_source(source: Any, chosen: ScanOptions) -> tuple[Manifest, dict[str, Any]]:
    """The rows, and by which options a test source is read like them.

    Raises:
        InputError: a bad source, nothing to judge its rows by, or an order of classes that nothing has.
    """
    columns: dict[str, Any] = {
        **{name: getattr(chosen, name) for name in ("root", "image_column", "label_column")},
        **chosen.label_lists,
    }
    if chosen.class_order is not None:
        raise InputError(
            "--class-order: that is the order of the columns of --pred-probs; add these, or leave it out"
        )
    if chosen.no_images and chosen.features is None:
        raise InputError(
            "--no-images: there is nothing to judge by; give --features FILE or --pred-probs FILE"
        )
    manifest = Manifest.read(
        source,
        rows=chosen.rows,
        class_map=chosen.class_map,
        merge_classes=chosen.merge_classes,
        has_images=not chosen.no_images,
        **columns,
    )
    return manifest, columns | {"task": manifest.task}  # also where it was found out


def _verified(manifest: Manifest, chosen: ScanOptions, reporter: Reporter) -> Trusted:
    """The verified labels; a wish to check on some of them that cannot be met is refused or said.

    Raises:
        InputError: a bad --trusted file, or --check-trusted without one.
    """
    if chosen.check_trusted and chosen.trusted is None:
        raise InputError("--check-trusted: there is nothing to check on; add --trusted FILE")
    trusted = Trusted.of(manifest, chosen.trusted, check=chosen.checks_trusted)
    if chosen.check_trusted and not trusted.is_scored.any():
        reporter.message(
            f"warning: --check-trusted: fewer than {MIN_DIFFERENT} labels of {chosen.trusted} differ from the given "
            "ones: all are trained on, none is checked on"
        )
    return trusted


def _tell_of_wrong_test_labels(
    manifest: Manifest, trusted: Trusted, test: Manifest | None, reporter: Reporter
) -> None:
    wrong = wrong_test_labels(manifest, trusted, test)
    if wrong:
        measure = "test_accuracy" if manifest.task == "single" else "test_map"
        reporter.message(
            f"warning: {wrong} test labels are not the true_label beside them: {measure} is measured against "
            "wrong labels; name clean ones with --test"
        )


def wrong_test_labels(manifest: Manifest, trusted: Trusted, test: Manifest | None) -> int | None:
    """How many labels that the accuracy is measured by are known to be wrong; None where nothing is known of them.

    Those of the test source, else of the rows of a test split that no person has verified.
    """
    if test is not None:
        return known_wrong(test, np.flatnonzero(test.given >= 0))
    rows = np.flatnonzero(manifest.held_out & (manifest.given >= 0) & (trusted.label < 0))
    return known_wrong(manifest, rows) if len(rows) else None


def read_test(test: Any, manifest: Manifest, **options: Any) -> Manifest:
    """Labelled images that are only measured on.

    They are read by the source's own column names where they have them, else by the usual ones.

    Args:
        test: a source.
        manifest: of the source of the scan.
        options: root, image_column and label_column of that source, and of several labels a row how they are written.

    Raises:
        InputError: a bad source, one without labels, or with a class that the scanned one lacks.
    """
    found = _with_columns(test, manifest.class_map, **options)
    if options.get("label_columns") and not (found.given >= 0).any():
        # The same labels may be lists, as those of the test images of a bench are.
        lists = {"label_columns": None, "task": "multi"}
        found = _with_columns(test, manifest.class_map, **{**options, **lists})
    if found.task != manifest.task:
        raise InputError(
            f"--test {found.source}: it has one label per row, and {manifest.source} several; write both alike"
        )
    labels = np.unique(found.given[found.given >= 0])
    if not len(labels) or not found.class_names:
        raise InputError(
            f"--test {found.source}: none of its rows has a label; give labels, or leave --test out"
        )
    names = found.class_names if found.task == "multi" else [found.class_names[label] for label in labels]
    strangers = [name for name in names if name not in manifest.class_names]
    if strangers:
        raise InputError(
            f"--test {found.source}: its class {strangers[0]!r} is no class of {manifest.source}; leave those rows"
            " out, or take a source that has them"
        )
    return found


def _with_columns(
    test: Any,
    class_map: Mapping[str, str],
    *,
    root: str | Path | None,
    image_column: str | None,
    label_column: str | None,
    **label_lists: Any,
) -> Manifest:
    tries = [(image_column, label_column), (image_column, None), (None, label_column), (None, None)]
    for image, label in dict.fromkeys(tries):
        try:
            return Manifest.read(
                test,
                root=root,
                image_column=image,
                label_column=label,
                class_map=class_map,
                require_labels=False,
                **label_lists,
            )
        except InputError as error:
            last = error
    raise last

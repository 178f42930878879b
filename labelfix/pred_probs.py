"""A scan with --pred-probs: findings from predictions that somebody else's model made, without any training."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.atomic_files import write_json
from labelfix.config import ScanOptions, environment, without_thresholds
from labelfix.data.images.store import auto_image_size, decoded
from labelfix.data.manifest import Manifest
from labelfix.data.own_numbers import (
    FEATURES,
    PRED_PROBS,
    Numbers,
    checked_features,
    checked_probs,
    read_numbers,
    shown,
)
from labelfix.data.verified_labels import Trusted
from labelfix.errors import InputError
from labelfix.estimation.held_out import judged_evidence
from labelfix.estimation.judgement import Thresholds
from labelfix.output_paths import check_output
from labelfix.reporting import Reporter
from labelfix.results import corrections, run_folder
from labelfix.results.around import Around
from labelfix.results.conclude import Readable, conclude
from labelfix.results.corrections import PRED_PROBS_METHOD
from labelfix.results.run_folder import RunFolder
from labelfix.results.summary import summarise

# Without training there is nothing else to choose.
_USED = (
    "pred_probs", "class_order", "features", "no_images", "out", "image_size", "rows", "trusted", "root",
    "image_column", "label_column", "class_map", "merge_classes", "settings", "overwrite", "seed",
)  # fmt: skip
_LARGEST_IMAGE = 64  # pixels: what is decoded shows which images can be read, and stands in for lost ones


@dataclasses.dataclass(frozen=True)
class PredictedScan:
    """A scan with --pred-probs before its first step.

    Attributes:
        manifest: of the source, with its classes in the order of the predictions.
        trusted: its verified labels.
        probs: (N, K) float64, in that order.
        image_size: of the stored images, in pixels.
        chosen: the options.
        numbers: the file of the predictions, or the array.
        features: (N, D) float32, by which near copies and outliers are told; None without any.
        features_sha256: of their file or array; None without any.
        thresholds: of the verdicts.
        folder: of the run.
    """

    manifest: Manifest
    trusted: Trusted
    probs: np.ndarray
    image_size: int
    chosen: ScanOptions
    numbers: Numbers
    features: np.ndarray | None
    features_sha256: str | None
    thresholds: Thresholds
    folder: RunFolder

    @classmethod
    def of(cls, source: Any, chosen: ScanOptions, reporter: Reporter) -> PredictedScan:
        """Read the source and the predictions.

        Raises:
            InputError: bad input, or an option of the training.
        """
        for name, field in ScanOptions.model_fields.items():
            if name not in _USED and getattr(chosen, name) != field.get_default(call_default_factory=True):
                raise InputError(
                    f"--{name.replace('_', '-')}: with {PRED_PROBS} nothing is trained; leave one of them out"
                )
        thresholds, changes = without_thresholds(chosen.settings)
        if changes:
            raise InputError(
                f"--set {next(iter(changes))}: with {PRED_PROBS} nothing is trained; leave one of them out"
            )
        columns = {name: getattr(chosen, name) for name in ("root", "image_column", "label_column")}
        manifest = Manifest.read(
            source,
            rows=chosen.rows,
            has_images=not chosen.no_images,
            class_map=chosen.class_map,
            merge_classes=chosen.merge_classes,
            **columns,
        )
        for warning in manifest.warnings:
            reporter.message(f"warning: {warning}")
        numbers = read_numbers(chosen.pred_probs, PRED_PROBS)
        order = read_class_order(chosen.class_order)
        if order is not None:
            manifest = _with_classes(manifest, order)
            numbers = dataclasses.replace(numbers, names=None)
        probs = checked_probs(numbers, manifest.class_names, manifest.num_rows, manifest.limit)
        trusted = Trusted.of(manifest, chosen.trusted)
        manifest = manifest.without(trusted.removed)
        folder = RunFolder(chosen.run_path(manifest, PRED_PROBS_METHOD))
        check_output(folder.path, {"the source": manifest.places})
        size = chosen.image_size if manifest.has_images else 0
        size = auto_image_size(manifest, _LARGEST_IMAGE) if size == "auto" else size
        given = None if chosen.features is None else read_numbers(chosen.features, FEATURES)
        features = None if given is None else checked_features(given, manifest.num_rows, manifest.limit)
        digest = None if given is None else given.sha256
        return cls(manifest, trusted, probs, size, chosen, numbers, features, digest, thresholds, folder)

    def options(self) -> dict[str, Any]:
        """`config` of config.json; JSON-able."""
        path, features = self.chosen.pred_probs, self.chosen.features
        order = read_class_order(self.chosen.class_order)
        return {
            "method": PRED_PROBS_METHOD,
            "pred_probs": str(path) if isinstance(path, str | Path) else None,
            "pred_probs_sha256": self.numbers.sha256,
            "features": str(features) if isinstance(features, str | Path) else None,
            "features_sha256": self.features_sha256,
            "class_order": None if order is None else list(order),
            "seed": self.chosen.seed,
            "rows": self.chosen.rows,
            "image_size": self.image_size,
            # What every run says of its training.
            "backbone": "none",
            "tune": "none",
            "settings": {},
            "thresholds": dataclasses.asdict(self.thresholds),
            "folds": 0,
            "device": "cpu",
            "precision": "fp32",
        }

    def facts(self) -> dict[str, Any]:
        """The content of config.json; JSON-able."""
        path = self.chosen.trusted
        return run_folder.config_json(
            self.options(),
            {"image_size": str(self.chosen.image_size)},
            self.manifest,
            self.trusted,
            None if path is None else Path(path).expanduser().absolute(),
            None,
            environment(None),
        )


def scan_pred_probs(source: Any, chosen: ScanOptions, reporter: Reporter) -> tuple[RunFolder, dict[str, Any]]:
    """Judge the labels of a source by predictions from elsewhere; the run folder, and its summary.

    Raises:
        InputError: bad input or options, in one line.
    """
    seconds: dict[str, float] = {}
    started = time.monotonic()

    def finished(stage: str) -> None:
        nonlocal started
        seconds[stage], started = round(time.monotonic() - started, 3), time.monotonic()

    planned = PredictedScan.of(source, chosen, reporter)
    manifest, folder = planned.manifest, planned.folder
    finished("read")
    with run_folder.locked(folder, planned.facts(), overwrite=chosen.overwrite) as begin:
        store = decoded(manifest, planned.image_size, reporter, is_trained_on=False)
        finished("decode")
        begin()
        probs = np.where(store.valid[:, None], planned.probs, np.nan)
        findings = conclude(
            judged_evidence(probs, manifest.given, thresholds=planned.thresholds),
            probs.astype(np.float32),
            manifest.given,
            Readable(store.valid, store.errors),
            planned.trusted,
            manifest.class_names,
            around=Around.of(store, None if planned.features is None else planned.features.__getitem__),
        )
        finished("findings")
        metadata = {
            "method": PRED_PROBS_METHOD,
            "seed": chosen.seed,
            "out_of_sample": True,
            "resumed_elsewhere": False,
        }
        findings = dataclasses.replace(findings, removed=manifest.removed, said=manifest.said)
        corrections.write(folder.corrections, manifest, findings, metadata)
        finished("write")
        summary = summarise(manifest, findings, {**metadata, "elapsed_seconds": seconds})
        write_json(folder.summary, summary)
        folder.finish()
    return folder, summary


def plan_pred_probs(source: Any, chosen: ScanOptions, reporter: Reporter) -> dict[str, Any]:
    """What `scan_pred_probs` would do with the same arguments; writes nothing.

    Raises:
        InputError: as there.
    """
    planned = PredictedScan.of(source, chosen, reporter)
    run_folder.check_out(planned.folder, overwrite=chosen.overwrite)
    run_folder.resumed(planned.folder, planned.facts(), overwrite=chosen.overwrite)
    return {
        "source": str(planned.manifest.source),
        "out": str(planned.folder.path),
        **{name: value for name, value in planned.options().items() if not name.endswith("_sha256")},
        "rows": planned.manifest.num_rows,
        "classes": len(planned.manifest.class_names),
    }


def read_class_order(order: Any) -> tuple[str, ...] | None:
    """The class names that --class-order has: a sequence of them, text with commas, or a file with one a line.

    Raises:
        InputError: the file cannot be read; a name is empty or stands there twice.
    """
    if order is None:
        return None
    names = order
    if isinstance(order, str | Path):
        path = Path(order).expanduser()
        try:
            names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else str(order).split(",")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"--class-order {order} cannot be read ({error}); write a name a line in UTF-8"
            ) from None
    found = tuple(str(name).strip() for name in names)
    while found and not found[-1]:
        found = found[:-1]
    if len(found) < 2 or "" in found or len(set(found)) < len(found):
        raise InputError(
            f"--class-order: {shown(found)} are not at least two different names; give each class once, in the order"
            " of the columns: a,b,c or a file with a name a line"
        )
    return found


def _with_classes(manifest: Manifest, order: tuple[str, ...]) -> Manifest:
    """The manifest with its classes in this order, in which there may be classes without rows."""
    place = {name: index for index, name in enumerate(order)}
    missing = [name for name in manifest.class_names if name not in place]
    if missing:
        raise InputError(
            f"--class-order: the class {missing[0]!r} of {manifest.source} is not among {shown(order)}; add it"
        )
    index = np.array([*(place[name] for name in manifest.class_names), -1], np.int64)
    given = index[manifest.given]
    given.flags.writeable = False
    return dataclasses.replace(manifest, class_names=order, given=given)

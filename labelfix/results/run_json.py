"""What a run notes in config.json and summary.json, read where findings are exported, shown or compared.

Checked is what labelfix reads there. A run that was copied without some of it, or written by an earlier version, lacks
keys; none may be of another kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelfix.errors import InputError
from labelfix.json_files import (
    Checks,
    are,
    by_name,
    is_count,
    is_flag,
    is_number,
    is_object,
    is_path,
    is_share,
    is_text,
    load_object,
    maybe,
    read_object,
    wrong_key,
)
from labelfix.output_paths import RUN_KEYS

_CONFIG_NAME, _SUMMARY_NAME = "config.json", "summary.json"
_SMALLEST, _LARGEST = 8, 1024


def is_image_size(value: Any) -> bool:
    """A side that images can have, in pixels."""
    return is_count(value) and _SMALLEST <= value <= _LARGEST


def _is_stored_size(value: Any) -> bool:
    """The same, or 0 where a scan had no images."""
    return is_image_size(value) or (is_count(value) and value == 0)


_SOURCE: Checks = {
    "source": maybe(is_path),
    "root": maybe(is_path),
    "image_column": maybe(is_text),
    "label_column": maybe(is_text),
    "class_map": maybe(by_name(is_text)),
    "has_images": maybe(is_flag),
    "task": maybe(lambda value: value in ("single", "multi")),
    "label_columns": maybe(are(is_text)),
    "label_separator": maybe(is_text),
}
_CONFIG: Checks = {
    "config": maybe({
        "image_size": maybe(_is_stored_size),
        "weights": maybe(is_path),
        "pred_probs": maybe(is_path),
        "features": maybe(is_path),
        "settings": maybe(is_object),
        "folds": maybe(is_count),
    }),
    "asked": maybe(by_name(is_text)),
    "source": maybe(_SOURCE),
    "files": maybe({
        "image_key": maybe(is_text),
        "num_links": maybe(is_count),
        "num_linked_folders": maybe(is_count),
        "trusted": maybe(is_path),
        "test": maybe({"source": maybe(is_path)}),
    }),
    "environment": maybe({"packages": maybe(by_name(is_text))}),
    "encoder_trial": maybe(is_object),
    "resumed_elsewhere": maybe(is_flag),
}  # fmt: skip


def _is_square(value: Any) -> bool:
    return are(are(is_share))(value) and all(len(row) == len(value) for row in value)


# Of runs that may be resumed or repeated.
SCANNED: Checks = {
    "config": {
        "device": is_text, "precision": is_text, "backbone": is_text, "tune": maybe(is_text),
        "image_size": _is_stored_size, "settings": is_object, "folds": is_count,
        "holdout": maybe(is_share), "thresholds": maybe(is_object),
    },
    "source": is_object,
    "encoder_trial": maybe(is_object),
}  # fmt: skip


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 1e-9


def _is_component(value: Any) -> bool:
    shapes = ({"variance": _is_positive}, {"alpha": _is_positive, "beta": _is_positive})
    place = {"weight": is_share, "mean": is_share}
    return is_object(value) and any(wrong_key(value, {**place, **shape}) is None for shape in shapes)


_SUMMARY: Checks = {
    "fit_ok": maybe(is_flag),
    "fit_reason": maybe(is_text),
    "transition_matrix": maybe(_is_square),
    "forward_units_per_row": maybe(is_number),
    "training_seconds": maybe(is_number),
    "test_accuracy": maybe(is_share),
    "diagnostics": maybe({
        "calibration": maybe({"is_calibrated": maybe(is_flag), "reason": maybe(is_text)}),
        "trusted": maybe({"precision": maybe(is_share), "rows": maybe(is_count), "flagged": maybe(is_count)}),
        "mixture": maybe({"clean": _is_component, "noisy": _is_component}),
        "loss_low": maybe(is_number),
        "loss_high": maybe(is_number),
        "loss_kind": maybe(is_text),
        "loss_histogram": maybe(are(is_count)),
    }),
}  # fmt: skip


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json in a folder; empty where there is none.

    Raises:
        InputError: it cannot be read, or is not as labelfix writes it.
    """
    way_out = "put back the one that the scan wrote, or move the corrections to a folder of their own"
    return read_object(folder / _CONFIG_NAME, _CONFIG, way_out) or {}


def read_scan(path: Path) -> dict[str, Any] | None:
    """The config.json of a scan; None where there is none, or one that labelfix did not write.

    Raises:
        InputError: labelfix wrote it, but it is no more as it was.
    """
    try:
        found = load_object(path, {})
    except (OSError, ValueError):
        return None
    if not found.keys() >= RUN_KEYS:
        return None
    wrong = (
        wrong_key(found, _CONFIG) or wrong_key(found, SCANNED) or wrong_key(found, {"environment": is_object})
    )
    if wrong is not None:
        raise InputError(
            f"{path} is no more as labelfix wrote it: {wrong!r} is missing, or of another kind; choose another --out,"
            " or delete the folder"
        )
    return found


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary.json in a folder; empty where there is none.

    Raises:
        InputError: it cannot be read, or is not as labelfix writes it.
    """
    way_out = "put back the one that the scan wrote, or delete it"
    return read_object(folder / _SUMMARY_NAME, _SUMMARY, way_out) or {}

"""cleanlab: labels and predicted probabilities as NumPy arrays, which its functions take as they are.

labels, pred_probs = np.load("labels.npy"), np.load("pred_probs.npy", mmap_mode="r")
cleanlab.filter.find_label_issues(labels, pred_probs)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from labelfix.atomic_files import write_json
from labelfix.exports.base import Export

SUFFIXES: tuple[str, ...] = ("",)
NEEDS: tuple[str, ...] = ("sample_id", "given_label", "predicted_probs")
HOLDS_IMAGES = False
IS_TEXT = False
TAKES_SEVERAL = False


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write n rows of K classes, and class_names.json.

    labels.npy (the given ones), corrected_labels.npy and sample_ids.npy are int64 (n,), pred_probs.npy is float32
    (n, K), and its rows sum to 1.

    Returns:
        out_of_sample: whether the probabilities of each row come from a network that was not trained on it.
    """
    classes = export.class_names
    found: dict[str, list[np.ndarray]] = {"labels": [], "corrected_labels": [], "sample_ids": []}
    count = 0
    with (path / "pred_probs.npy").open("wb") as file:
        _write_header(file, np.float32, (count, len(classes)))
        for batch in export.batches:
            found["labels"].append(export.class_indices(batch.column("given_label").cast("string")))
            found["corrected_labels"].append(export.class_indices(batch.column("label")))
            found["sample_ids"].append(batch.column("sample_id").to_numpy())
            file.write(batch.column("predicted_probs").flatten().to_numpy())
            count += len(batch)
        file.seek(0)
        _write_header(file, np.float32, (count, len(classes)))
    for name, parts in found.items():
        with (path / f"{name}.npy").open("wb") as file:
            _write_header(file, np.int64, (count,))
            file.writelines(rows.data for rows in parts)
    write_json(path / "class_names.json", classes)
    return {"out_of_sample": bool(export.corrections.metadata["out_of_sample"])}


def _write_header(file: BinaryIO, dtype: type, shape: tuple[int, ...]) -> None:
    """The header of a .npy file, which numpy makes as long for any number of rows: they are known only at the end.

    The rows go through `file` too: the error of `np.save` on a full disk does not say that it is full.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)

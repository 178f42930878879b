"""cleanlab: labels and predicted probabilities as NumPy arrays, which its functions take as they are.

labels, pred_probs = np.load("labels.npy"), np.load("pred_probs.npy", mmap_mode="r")
cleanlab.filter.find_label_issues(labels, pred_probs)
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from labelfix.atomic_files import write_json
from labelfix.exports.base import Export

SUFFIXES: tuple[str, ...] = ("",)
NEEDS: tuple[str, ...] = ("sample_id", "given_label", "predicted_probs")
HOLDS_IMAGES = False
IS_TEXT = False


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write n rows of K classes, and class_names.json.

    labels.npy (the given ones), corrected_labels.npy and sample_ids.npy are int64 (n,), pred_probs.npy is float32
    (n, K), and its rows sum to 1.

    Returns:
        out_of_sample: whether the probabilities of each row come from a network that was not trained on it.
    """
    classes = export.class_names
    with (
        _Rows(path / "labels.npy", np.int64, ()) as labels,
        _Rows(path / "corrected_labels.npy", np.int64, ()) as corrected,
        _Rows(path / "sample_ids.npy", np.int64, ()) as samples,
        _Rows(path / "pred_probs.npy", np.float32, (len(classes),)) as probs,
    ):
        for batch in export.batches:
            labels.append(export.class_indices(batch.column("given_label").cast("string")))
            corrected.append(export.class_indices(batch.column("label")))
            samples.append(batch.column("sample_id").to_numpy())
            probs.append(batch.column("predicted_probs").flatten().to_numpy().reshape(-1, len(classes)))
    write_json(path / "class_names.json", classes)
    return {"out_of_sample": bool(export.corrections.metadata["out_of_sample"])}


class _Rows:
    """A .npy file that grows by rows: the header is as long for any number of them, and is written again at the end."""

    def __init__(self, path: Path, dtype: type, shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._dtype, self._shape, self._count = np.dtype(dtype), shape, 0
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()

    def append(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self._count += len(rows)

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._count, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

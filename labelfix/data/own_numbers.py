"""The user's own numbers: a row of probabilities or features for every row of a source, from a file or in memory."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.parquet_file import open_parquet_file
from labelfix.errors import InputError
from labelfix.json_files import are_names, parse_object

PRED_PROBS, FEATURES = "--pred-probs", "--features"
# What the one array or column is called where a file has several.
_USUAL = {
    PRED_PROBS: ("pred_probs", "predicted_probs", "probs", "P"),
    FEATURES: ("features", "feature", "embeddings", "embedding", "X"),
}
_SUFFIXES = (".npy", ".npz", ".parquet")
_SUM_TOLERANCE = 0.01
_NAMES_SHOWN = 5
_BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class Numbers:
    """A matrix of a user's, as it came.

    Attributes:
        title: what messages call it: the option and the file.
        values: (N, D) numbers of any type; mapped from the disk where the file allows it.
        names: of the D columns, where the file says them; else None.
        sha256: hexadecimal, of the file or of the numbers in memory.
    """

    title: str
    values: np.ndarray
    names: tuple[str, ...] | None
    sha256: str

    def first(self, num_rows: int, limit: int | None) -> np.ndarray:
        """The rows of the first `num_rows` of a source.

        Args:
            num_rows: of the source as it was read.
            limit: how many rows were asked for (`--rows`); None for all: then each row needs one.

        Raises:
            InputError: another number of rows.
        """
        if len(self.values) == num_rows or (limit == num_rows and len(self.values) > num_rows):
            return self.values[:num_rows]
        raise InputError(
            f"{self.title} has {len(self.values)} rows, but there are {num_rows} labels; give a row for each, in the"
            " same order"
        )


def read_numbers(given: Any, option: str) -> Numbers:
    """Read a matrix.

    Args:
        given: path of a .npy file (N, D); of an .npz file that holds one such array, or one by a usual name; of a
            Parquet file with a list column, or with a column of numbers for each of the D; or an array, a tensor or a
            frame in memory.
        option: that it was given by, for messages: `PRED_PROBS` or `FEATURES`.

    Raises:
        InputError: no such file, of another kind, not readable, or no matrix of numbers.
    """
    if not isinstance(given, str | Path):
        return _in_memory(given, option)
    path = Path(given).expanduser().absolute()
    title = f"{option} {given}"
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{title}: such a file is one of {', '.join(_SUFFIXES)}")
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if path.suffix.lower() == ".parquet":
            values, names = _of_parquet(path, title, option)
        else:
            values, names = _of_numpy(path, title, option), None
    except FileNotFoundError:
        raise InputError(f"{title} does not exist; check the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{title} cannot be read ({reason}); write it again") from None
    return Numbers(title, _matrix(values, title), names, sha256)


def checked_features(numbers: Numbers, num_rows: int, limit: int | None = None) -> np.ndarray:
    """(N, D) float32 features of the rows of a source, all finite.

    Raises:
        InputError: another number of rows, no column, or a number that is not finite or beyond float32.
    """
    found = numbers.first(num_rows, limit)
    if not found.shape[1]:
        raise InputError(f"{numbers.title} has no column; give a vector for each row")
    features = found if found.dtype == np.float32 else found.astype(np.float32)
    for first in range(0, len(features), _BLOCK_ROWS):
        bad = np.flatnonzero(~np.isfinite(features[first : first + _BLOCK_ROWS]).all(axis=1))
        if len(bad):
            raise InputError(
                f"{numbers.title}: row {first + bad[0]} holds a number that is not finite; leave the row out of the"
                " source, or give it finite features"
            )
    return features


def checked_probs(
    numbers: Numbers, class_names: Sequence[str], num_rows: int, limit: int | None = None
) -> np.ndarray:
    """(N, K) float64 probabilities in the order of the K classes, rows that sum to 1.

    Where the file names its columns they are put into that order.

    Raises:
        InputError: another number of rows or columns, other names, or a row that is no distribution.
    """
    title = numbers.title
    found = numbers.first(num_rows, limit)
    if numbers.names is not None and set(numbers.names) == set(class_names):
        found = found[:, [numbers.names.index(name) for name in class_names]]
    elif numbers.names is not None and len(numbers.names) == len(class_names):
        stranger = next(name for name in numbers.names if name not in class_names)
        raise InputError(
            f"{title}: its column {stranger!r} is no class ({shown(class_names)}); name the columns as the classes are"
        )
    if found.shape[1] != len(class_names):
        raise InputError(
            f"{title} has {found.shape[1]} columns, but there are {len(class_names)} classes ({shown(class_names)});"
            " give a column for each, or name those that are there in order with --class-order"
        )
    probs = found.astype(np.float64)
    _check_distributions(probs, title)
    return probs / probs.sum(axis=1, keepdims=True)


def shown(names: Sequence[str]) -> str:
    """Some names, for a message."""
    some = ", ".join(map(repr, names[:_NAMES_SHOWN]))
    return some if len(names) <= _NAMES_SHOWN else f"{some}, ..."


def _check_distributions(probs: np.ndarray, title: str) -> None:
    bad = np.flatnonzero(~np.isfinite(probs).all(axis=1))
    if len(bad):
        raise InputError(
            f"{title}: row {bad[0]} holds a number that is not finite; predict that row, or leave it out of the source"
        )
    low, high = probs.min(axis=1), probs.max(axis=1)
    bad = np.flatnonzero((low < 0) | (high > 1 + _SUM_TOLERANCE))
    if len(bad):
        worst = low[bad[0]] if low[bad[0]] < 0 else high[bad[0]]
        raise InputError(
            f"{title}: row {bad[0]} holds {worst:.3g}, which is no probability; of logits give the softmax"
        )
    sums = probs.sum(axis=1)
    bad = np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE)
    if len(bad):
        raise InputError(
            f"{title}: row {bad[0]} sums to {sums[bad[0]]:.3g}, not to 1; give probabilities over all classes"
        )


def _in_memory(given: Any, option: str) -> Numbers:
    names = None
    if type(given).__name__ == "DataFrame" and hasattr(given, "columns"):
        names, given = tuple(str(name) for name in given.columns), given.to_numpy()
    elif hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    try:
        values = np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{option}: {str(error).splitlines()[0]}; give an array (N, D)") from None
    values = _matrix(values, option)
    digest = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
    for first in range(0, len(values), _BLOCK_ROWS):
        digest.update(np.ascontiguousarray(values[first : first + _BLOCK_ROWS]).data)
    return Numbers(option, values, names, digest.hexdigest())


def _matrix(values: np.ndarray, title: str) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise InputError(f"{title} holds {values.dtype}; give numbers")
    if values.ndim != 2:
        raise InputError(f"{title} has the shape {values.shape}; give a row for each label: (N, D)")
    return values


def _of_numpy(path: Path, title: str, option: str) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[_picked(list(arrays), title, option, "arrays")]


def _of_parquet(path: Path, title: str, option: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    with open_parquet_file(path) as file:
        schema = file.schema_arrow
        lists = [field.name for field in schema if pa.types.is_nested(field.type)]
        if not lists:
            table = file.read()
            columns = [column.to_numpy() for column in table.columns]
            return np.stack(columns, axis=1), tuple(schema.names)
        column = file.read([_picked(lists, title, option, "list columns")]).column(0).combine_chunks()
    if pa.types.is_struct(column.type) or column.null_count:
        raise ValueError(f"row {column.is_null().to_numpy(zero_copy_only=False).argmax()} has no list")
    if pc.count_distinct(pc.list_value_length(column)).as_py() != 1:
        raise ValueError("its lists differ in length")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1), _own_class_names(schema) if option == PRED_PROBS else None


def _own_class_names(schema: pa.Schema) -> tuple[str, ...] | None:
    """The classes, where labelfix wrote the file: predictions, or the findings of another run."""
    text = (schema.metadata or {}).get(b"labelfix")
    if text is None:
        return None
    return tuple(parse_object(text, {"class_names": are_names})["class_names"])


def _picked(names: Sequence[str], title: str, option: str, what: str) -> str:
    if len(names) == 1:
        return names[0]
    usual = next((name for name in _USUAL[option] if name in names), None)
    if usual is None:
        raise InputError(
            f"{title} holds {len(names)} {what} ({shown(names)}); keep one, or call it {_USUAL[option][0]!r}"
        )
    return usual

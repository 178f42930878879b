"""What the labels of a whole source have to be, before anything is trained on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.marks import HELD_OUT
from labelfix.errors import InputError


def check_one_label_per_path(
    path: Path, names: pa.ChunkedArray, given: np.ndarray, class_names: tuple[str, ...] | None
) -> None:
    """Refuse a file name with two labels; an empty name and a row without a label do not count.

    Args:
        path: the source, for messages.
        names: string (N,), the file names.
        given: (N,) int64, index into `class_names`, -1 where unlabelled.
        class_names: the classes; None where the numbers stand for several labels.

    Raises:
        InputError: names the file, and both labels where there is one for a row.
    """
    rows = _perhaps_repeated(names)
    if not len(rows):
        return
    table = pa.table({"name": names.take(pa.array(rows)), "given": given[rows]})
    table = table.filter(pc.and_(pc.greater_equal(table["given"], 0), pc.not_equal(table["name"], "")))
    groups = table.group_by("name").aggregate([("given", "min"), ("given", "max")])
    twice = groups.filter(pc.not_equal(groups["given_min"], groups["given_max"])).sort_by("name")
    if len(twice):
        row = twice.slice(0, 1).to_pylist()[0]
        if class_names is None:
            raise InputError(f"{path}: {row['name']!r} stands there twice, with other labels; keep one")
        labels = [class_names[row[key]] for key in ("given_min", "given_max")]
        raise InputError(f"{path}: {row['name']!r} has two labels, {labels[0]!r} and {labels[1]!r}; keep one")


def _perhaps_repeated(texts: pa.ChunkedArray) -> np.ndarray:
    """Rows, ascending, of all texts that occur twice, and by chance of a few more: 8 bytes a row, not the texts."""
    from pandas.util import hash_array  # here: few commands that read tables need pandas

    hashes = np.empty(len(texts), np.uint64)
    first = 0
    for chunk in texts.chunks:
        values = chunk.to_numpy(zero_copy_only=False)
        hashes[first : first + len(values)] = hash_array(values, categorize=False)
        first += len(values)
    in_order = np.sort(hashes)
    repeated = in_order[1:][in_order[1:] == in_order[:-1]]
    return np.flatnonzero(np.isin(hashes, repeated)) if len(repeated) else np.empty(0, np.int64)


def check_trusted(path: Path, given: np.ndarray, is_trusted: np.ndarray) -> None:
    """Refuse a trusted row, (N,) bool, without a label.

    Raises:
        InputError: names the row.
    """
    unlabelled = np.flatnonzero(is_trusted & (given < 0))
    if len(unlabelled):
        raise InputError(
            f"{path}: row {unlabelled[0]} is trusted (is_trusted) but has no label; give it one, or take the"
            " mark away"
        )


def check_two_classes(
    path: Path,
    given: np.ndarray,
    held_out: np.ndarray,
    class_names: tuple[str, ...],
    limit: int | None,
    why: str = "",
) -> None:
    """Refuse a source without labelled rows of two classes to train on.

    Args:
        path: the source, for messages.
        given: (N,) int64, index into `class_names`, -1 where unlabelled.
        held_out: (N,) bool, rows that are not trained on.
        class_names: the classes.
        limit: how many rows were asked for; None for all.
        why: what the source itself has to say of a single class.

    Raises:
        InputError: says what is missing.
    """
    is_cut = limit == len(given)
    more = f" among the first {limit} rows; raise --rows" if is_cut else "; at least two are needed"
    found = np.unique(given[given >= 0])
    if len(found) == 0:
        raise InputError(f"{path} holds no label{more}")
    if len(found) == 1:
        raise InputError(f"{path} holds a single class, {class_names[found[0]]!r}{more}{why}")
    trained = np.unique(given[(given >= 0) & ~held_out])
    if len(trained) < 2:
        left = f"only rows of {class_names[trained[0]]!r}" if len(trained) else "no labelled row"
        raise InputError(
            f"{path}: the split column ({', '.join(HELD_OUT)} are held out) leaves {left} to train on"
            f"{more if is_cut else '; give rows of at least two classes another split'}"
        )


def rare_classes(
    path: Path, given: np.ndarray, held_out: np.ndarray, class_names: tuple[str, ...]
) -> list[str]:
    """A sentence naming the classes with fewer than 2 samples to train on; arguments as `check_two_classes`."""
    counts = np.bincount(given[(given >= 0) & ~held_out], minlength=len(class_names))
    rare = [repr(name) for name, count in zip(class_names, counts, strict=True) if count < 2]
    if not rare:
        return []
    shown = ", ".join(rare[:20]) + (f" and {len(rare) - 20} more" if len(rare) > 20 else "")
    what = "samples to train on" if held_out.any() else "samples"
    return [f"{path}: fewer than 2 {what} in {'class' if len(rare) == 1 else 'the classes'} {shown}"]


def rows_alike(targets: np.ndarray) -> np.ndarray:
    """(N,) int64: the same number for rows with the same labels (N, K) float32; -1 for NaN rows."""
    labelled = ~np.isnan(targets).any(axis=1)
    _, number = np.unique(np.where(labelled[:, None], targets, -1), axis=0, return_inverse=True)
    return np.where(labelled, number.reshape(-1), -1)


def check_labels(path: Path, targets: np.ndarray, held_out: np.ndarray, limit: int | None) -> None:
    """Refuse a source of several labels a row of which nothing can be learned.

    Args:
        path: the source, for messages.
        targets: (N, K) float32, NaN rows unlabelled.
        held_out: (N,) bool, rows that are not trained on.
        limit: how many rows were asked for; None for all.

    Raises:
        InputError: no labelled row, or no class that some trained rows have and others lack.
    """
    more = f" among the first {limit} rows; raise --rows" if limit == len(targets) else ""
    labelled = ~np.isnan(targets).any(axis=1)
    if not labelled.any():
        raise InputError(
            f"{path} holds no label{more or '; an empty list is an image with none of the classes'}"
        )
    positive = targets[labelled & ~held_out] >= 0.5
    if not (positive.any(axis=0) & ~positive.all(axis=0)).any():
        raise InputError(
            f"{path} has no class that some of the rows to train on have and others lack"
            f"{more or '; give the labels of every image'}"
        )


def rare_labels(
    path: Path, targets: np.ndarray, held_out: np.ndarray, class_names: tuple[str, ...]
) -> list[str]:
    """A sentence naming the classes that fewer than 2 rows to train on have; arguments as `check_labels`."""
    counts = (np.nan_to_num(targets[~held_out]) >= 0.5).sum(axis=0)
    rare = [repr(name) for name, count in zip(class_names, counts, strict=True) if count < 2]
    if not rare:
        return []
    shown = ", ".join(rare[:20]) + (f" and {len(rare) - 20} more" if len(rare) > 20 else "")
    return [f"{path}: fewer than 2 rows to train on have the label{'s' if len(rare) > 1 else ''} {shown}"]

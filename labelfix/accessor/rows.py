"""What all answers about a frame start from: which of its rows count, and its labels as class indices."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from labelfix.errors import InputError
from labelfix.estimation.eligible import eligible_rows

METADATA, PATH, SUMMARY = "labelfix", "labelfix_path", "labelfix_summary"
LABELS = ("given_label", "corrected_label", "predicted_label")
ELIGIBLE_COLUMNS = ("is_valid", "is_trusted", "given_label", "corrected_label")
_WAY_OUT = "ask a frame of labelfix.read_corrections, or rows of one"


def require(frame: pd.DataFrame, columns: Iterable[str], question: str) -> None:
    """Refuse a frame that lacks what a question needs.

    Args:
        frame: that is asked.
        columns: that have to be there.
        question: name of the accessor's method, for the message.

    Raises:
        InputError: names the first column that is missing.
    """
    for column in columns:
        if column not in frame.columns:
            raise InputError(f"{question}: the frame has no column {column!r}; {_WAY_OUT}")


def is_multi(frame: pd.DataFrame) -> bool:
    """Whether a row may have several labels."""
    return (frame.attrs.get(METADATA) or {}).get("task") == "multi"


def check_one_label(frame: pd.DataFrame, question: str) -> None:
    """Refuse findings where a row may have several labels.

    Raises:
        InputError: says where to look instead.
    """
    if is_multi(frame):
        raise InputError(
            f"{question}: multi-label findings are not supported here; use top(), the columns added_labels,"
            " removed_labels and class_noise_scores, or the review page"
        )


def check_count(n: int, question: str) -> None:
    """Refuse a number of rows that is none.

    Raises:
        InputError: `n` is no whole number of at least 1.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"{question}: n is {n!r}; give a whole number of rows, at least 1")


def eligible(frame: pd.DataFrame) -> np.ndarray:
    """(N,) bool: the valid, labelled, untrusted rows that no person has removed."""
    labelled = frame["given_label"].notna() & frame["corrected_label"].notna()
    masks = (frame["is_valid"], labelled, frame["is_trusted"])
    return eligible_rows(*(mask.to_numpy(bool) for mask in masks))


def suspects(frame: pd.DataFrame) -> np.ndarray:
    """Places (n,) int64 of the eligible rows that have a noise score, highest first, ties in the frame's order."""
    scores = frame["noise_score"].to_numpy(float)
    rows = np.flatnonzero(eligible(frame) & np.isfinite(scores))
    return rows[np.argsort(-scores[rows], kind="stable")]


def class_names(frame: pd.DataFrame, question: str) -> list[str]:
    """The K classes of the run, in class order.

    Raises:
        InputError: the frame has lost its metadata.
    """
    metadata = frame.attrs.get(METADATA)
    if metadata is None:
        raise InputError(f"{question}: the frame has lost its attrs, and with them the classes; {_WAY_OUT}")
    return list(metadata["class_names"])


def class_indices(frame: pd.DataFrame, column: str, question: str) -> np.ndarray:
    """(N,) int64 class index of a label column, -1 where it is null.

    Raises:
        InputError: a label is no class of the run.
    """
    check_one_label(frame, question)
    labels = pd.Categorical(frame[column])
    known = pd.Index(class_names(frame, question)).get_indexer(labels.categories)
    indices = np.append(known, -1)[labels.codes]
    strange = np.flatnonzero((indices < 0) & (labels.codes >= 0))
    if len(strange):
        name = labels.categories[labels.codes[strange[0]]]
        raise InputError(f"{question}: {column} {name!r} is no class of the run; {_WAY_OUT}")
    return indices

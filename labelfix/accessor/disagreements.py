"""Where runs over one source do not agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from labelfix.accessor.rows import check_one_label, eligible
from labelfix.errors import InputError
from labelfix.estimation.metrics import mean_rank

_FINDINGS = ("noise_score", "is_label_issue", "corrected_label")
_KEYS = ("sample_id", "file_name", "given_label")
_NEEDED = (*_KEYS, *_FINDINGS, "is_valid", "is_trusted")
_WAY_OUT = "compare whole frames that labelfix.read_corrections gives of one source"


def disagreements(frame: pd.DataFrame, other: pd.DataFrame | Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """See `FindingsAccessor.disagreements`."""
    check_one_label(frame, "disagreements")
    runs = _runs(frame, other)
    counts = np.logical_and.reduce([eligible(run) for run in runs.values()])
    flags = np.stack([run["is_label_issue"].to_numpy(bool) for run in runs.values()])
    labels = np.stack([_texts(run["corrected_label"]) for run in runs.values()])
    noise = np.stack([run["noise_score"].to_numpy(float) for run in runs.values()])
    rank = np.full(len(counts), np.nan)
    rank[counts] = mean_rank(noise[:, counts])
    columns = {name: frame[name].array for name in _KEYS}
    columns |= {"flagged_by": flags.sum(axis=0), "mean_rank": rank}
    for name, run in runs.items():
        columns |= {f"{column}_{name}": run[column].array for column in _FINDINGS}
    differ = (flags != flags[0]).any(axis=0) | (labels != labels[0]).any(axis=0)
    found = pd.DataFrame(columns, index=frame.index)[counts & differ]
    return found.sort_values("mean_rank", ascending=False, kind="stable")


def _runs(frame: pd.DataFrame, other: pd.DataFrame | Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The frame and the others, by name, all of one source."""
    others = {"other": other} if isinstance(other, pd.DataFrame) else other
    if not isinstance(others, Mapping):
        raise InputError(
            "disagreements takes a frame of labelfix.read_corrections, or a dict of them by name"
        )
    runs = dict(others)
    if not any(run is frame for run in runs.values()):
        if "self" in runs:
            raise InputError(
                "disagreements: this frame goes by the name 'self'; call the other one differently"
            )
        runs = {"self": frame, **runs}
    if len(runs) < 2:
        raise InputError("disagreements needs another run; give its frame")
    for name, run in runs.items():
        _check(name, run)
    for name, run in runs.items():
        _check_source(name, run, frame)
    return runs


def _texts(column: pd.Series) -> np.ndarray:
    """(N,) object: text, None where there is none, so that two columns compare whatever their categories."""
    return np.where(column.isna().to_numpy(), np.array(None), column.to_numpy(object))


def _check(name: str, run: pd.DataFrame) -> None:
    if not isinstance(run, pd.DataFrame):
        raise InputError(f"disagreements: {name!r} is no frame; {_WAY_OUT}")
    missing = [column for column in _NEEDED if column not in run.columns]
    if missing:
        raise InputError(f"disagreements: {name!r} has no column {missing[0]!r}; {_WAY_OUT}")


def _check_source(name: str, run: pd.DataFrame, ours: pd.DataFrame) -> None:
    if len(run) != len(ours):
        raise InputError(f"disagreements: {name!r} has {len(run)} rows, not {len(ours)}; {_WAY_OUT}")
    for column in ("file_name", "given_label"):
        theirs, own = _texts(run[column]), _texts(ours[column])
        different = np.flatnonzero(theirs != own)
        if len(different):
            row = different[0]
            raise InputError(
                f"disagreements: the {column} of row {row} is {theirs[row]!r} in {name!r}, not {own[row]!r}; {_WAY_OUT}"
            )

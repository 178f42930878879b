"""Findings in pandas: read_corrections(), and what its frames can be asked as `df.labelfix`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from labelfix.corrections import Corrections
from labelfix.errors import InputError
from labelfix.metrics import mean_rank

_FINDINGS = ("noise_score", "is_label_issue", "corrected_label")
_KEYS = ("sample_id", "file_name", "given_label")
_NEEDED = (*_KEYS, *_FINDINGS, "is_valid", "is_trusted")
_WAY_OUT = "compare whole frames that labelfix.read_corrections gives of one source"


def read_corrections(path: str | Path) -> pd.DataFrame:
    """Read a corrections file, or that of a run folder, as a pandas frame, labels as categoricals.

    Raises:
        InputError: no such file, or not one that labelfix wrote.
    """
    opened = Corrections.open(path)
    frame = pq.read_table(opened.path).to_pandas()
    frame.attrs["labelfix"] = opened.metadata
    return frame


@pd.api.extensions.register_dataframe_accessor("labelfix")
class FindingsAccessor:
    """What a frame of `read_corrections` can be asked, as `df.labelfix`.

    Args:
        frame: the findings of a run.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def disagreements(self, other: pd.DataFrame | Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """The rows on which this run and others over the same source do not agree.

        Runs disagree on a row that some flag and others do not, or for which they have different corrected labels.
        Only rows that are valid, labelled and not trusted in every run count, for the ranks too.

        Args:
            other: the frame of another run, or frames by name. Where this frame is one of those, it goes by its name
                there.

        Returns:
            A row for each of them, by its index in this frame, most suspect first: sample_id, file_name, given_label;
            flagged_by, how many runs flag it; mean_rank in [0, 1], the mean over the runs of the rank of its noise
            score, high = suspect (see `labelfix.metrics.mean_rank`); and for each run noise_score_NAME,
            is_label_issue_NAME and corrected_label_NAME. NAME is `self` for this frame and `other` for a single other
            one.

        Raises:
            InputError: no other run, or a frame that is none of `read_corrections`, or of another source.
        """
        runs = self._runs(other)
        counts = np.logical_and.reduce([_judged(run) for run in runs.values()])
        flags = np.stack([run["is_label_issue"].to_numpy(bool) for run in runs.values()])
        labels = np.stack([_texts(run["corrected_label"]) for run in runs.values()])
        noise = np.stack([run["noise_score"].to_numpy(float) for run in runs.values()])
        rank = np.full(len(counts), np.nan)
        rank[counts] = mean_rank(noise[:, counts])
        columns = {name: self._frame[name].array for name in _KEYS}
        columns |= {"flagged_by": flags.sum(axis=0), "mean_rank": rank}
        for name, run in runs.items():
            columns |= {f"{column}_{name}": run[column].array for column in _FINDINGS}
        differ = (flags != flags[0]).any(axis=0) | (labels != labels[0]).any(axis=0)
        found = pd.DataFrame(columns, index=self._frame.index)[counts & differ]
        return found.sort_values("mean_rank", ascending=False, kind="stable")

    def _runs(self, other: pd.DataFrame | Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """This frame and the others, by name, all of one source."""
        others = {"other": other} if isinstance(other, pd.DataFrame) else other
        if not isinstance(others, Mapping):
            raise InputError(
                "disagreements takes a frame of labelfix.read_corrections, or a dict of them by name"
            )
        runs = dict(others)
        if not any(run is self._frame for run in runs.values()):
            if "self" in runs:
                raise InputError(
                    "disagreements: this frame goes by the name 'self'; call the other one differently"
                )
            runs = {"self": self._frame, **runs}
        if len(runs) < 2:
            raise InputError("disagreements needs another run; give its frame")
        for name, run in runs.items():
            _check(name, run)
        for name, run in runs.items():
            _check_source(name, run, self._frame)
        return runs


def _judged(run: pd.DataFrame) -> np.ndarray:
    """(N,) bool: the valid, labelled, untrusted rows."""
    return (run["is_valid"] & run["given_label"].notna() & ~run["is_trusted"]).to_numpy(bool)


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

"""Findings in pandas: read_corrections(), and what its frames can be asked as `df.labelfix`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from labelfix.accessor import budget, classes, disagreements, seen
from labelfix.accessor.rows import (
    ELIGIBLE_COLUMNS,
    LABELS,
    METADATA,
    PATH,
    check_count,
    class_indices,
    is_multi,
    require,
    suspects,
)
from labelfix.errors import InputError
from labelfix.results.corrections import Corrections

if TYPE_CHECKING:
    from labelfix.accessor.image_grid import ImageGrid

__all__ = ["FindingsAccessor", "frame_of", "read_corrections"]


def read_corrections(path: str | Path) -> pd.DataFrame:
    """Read a corrections file, or that of a run folder, as a pandas frame, labels as categoricals.

    `df.attrs` holds what the file says of its run under "labelfix", and under "labelfix_path" where it lies.

    Raises:
        InputError: no such file, or not one that labelfix wrote.
    """
    opened = Corrections.open(path)
    frame = frame_of(pa.Table.from_batches(opened.batches(), opened.schema), opened.metadata)
    frame.attrs[PATH] = os.path.abspath(opened.path)
    return frame


def frame_of(table: pa.Table, metadata: dict[str, Any]) -> pd.DataFrame:
    """The findings in a table as `df.labelfix` takes them, with what is said of their run under "labelfix"."""
    frame = table.unify_dictionaries().to_pandas()
    frame.attrs[METADATA] = metadata
    return frame


@pd.api.extensions.register_dataframe_accessor("labelfix")
class FindingsAccessor:
    """What a frame of `read_corrections`, or some rows of one, can be asked, as `df.labelfix`.

    A row is eligible if it is valid, labelled and not trusted. In the examples a small run is asked:

    >>> import labelfix
    >>> df = labelfix.read_corrections("runs/letters")

    Args:
        frame: the findings of a run.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def top(self, n: int = 50, by: str | None = None) -> pd.DataFrame:
        """The most suspect of the eligible rows, highest noise score first, ties in the frame's order.

        >>> df.labelfix.top(3)[["file_name", "given_label", "noise_score"]]
          file_name given_label  noise_score
        1     1.png           a          0.9
        2     2.png           b          0.8
        3     3.png           b          0.7

        Args:
            n: how many rows, at least 1.
            by: given_label, corrected_label or predicted_label: up to `n` rows of each class, in class order.

        Returns:
            At most `n` rows (of each class) of this frame, with all of its columns. Rows without a score are left out.

        Raises:
            InputError: `n` or `by` is out of range, or the frame lacks what is needed.
        """
        require(self._frame, (*ELIGIBLE_COLUMNS, "noise_score"), "top")
        check_count(n, "top")
        rows = suspects(self._frame)
        if by is None:
            return self._frame.iloc[rows[:n]]
        if by not in LABELS:
            raise InputError(f"top: by is {by!r}; give one of {', '.join(LABELS)}")
        require(self._frame, (by,), "top")
        if is_multi(self._frame):
            raise InputError(
                f"top: by={by} takes one label per row, and these are multi-label findings; leave it out"
            )
        labels = class_indices(self._frame, by, "top")[rows]
        rows, labels = rows[labels >= 0], labels[labels >= 0]
        rank = pd.Series(labels).groupby(labels).cumcount().to_numpy()
        first = np.argsort(labels, kind="stable")
        return self._frame.iloc[rows[first[rank[first] < n]]]

    def confusion(self, normalize: bool = False) -> pd.DataFrame:
        """How many eligible rows of each given label were left with each corrected one.

        >>> df.labelfix.confusion()
        corrected_label  a  b  c  d
        given_label
        a                1  1  0  0
        b                1  2  0  0
        c                0  0  2  0
        d                0  0  0  0

        Args:
            normalize: shares of each given label's rows instead of counts, 0 to 1; NaN where it has none.

        Returns:
            K x K, given labels down, corrected ones across, both in class order: int64, or float64 where normalised.

        Raises:
            InputError: the frame lacks what is needed.
        """
        return classes.confusion(self._frame, normalize=normalize)

    def noise_matrix(self) -> pd.DataFrame:
        """How labels go wrong: the share of each true class that was given each label.

        T[j, i] = sum_n q_nj [given_n = i] / sum_n q_nj over the eligible rows, q their `label_distribution`; a class
        without mass keeps its label. On a whole frame this is `transition_matrix` of summary.json.

        >>> round(float(df.labelfix.noise_matrix().loc["a", "b"]), 3)
        0.462

        Returns:
            K x K float64 in 0 to 1, true classes down, given labels across, both in class order; rows sum to 1.

        Raises:
            InputError: the frame lacks what is needed.
        """
        return classes.noise_matrix(self._frame)

    def class_summary(self) -> pd.DataFrame:
        """What was found in the eligible rows of each given label.

        >>> df.labelfix.class_summary()[["rows", "flagged", "corrected", "rows_after"]]
                     rows  flagged  corrected  rows_after
        given_label
        a               2        1          1           2
        b               3        2          1           3
        c               2        0          0           2
        d               0        0          0           0

        Returns:
            K rows in class order, classes without rows among them: rows, a count; noise_rate, the mean noise score, 0
            to 1; flagged and corrected, counts; rows_after, how many eligible rows have the label as their corrected
            one; mean_confidence, the mean corrected_confidence, 0 to 1. The means are NaN where a class has no rows,
            or one of them has no score.

        Raises:
            InputError: the frame lacks what is needed.
        """
        return classes.class_summary(self._frame)

    def budget(self, n: int) -> budget.ReviewBudget:
        """How many wrong labels a review of the `n` most suspect eligible rows is expected to find.

        That is the sum of their noise scores, and as good as these are probabilities: `rests_on` says what is known
        of that. `low` and `high` are the 95 % that chance leaves open where verified labels have calibrated the
        scores. Where none have, or summary.json is gone, the run holds nothing that says how far they are off: `low` is
        0 and `high` is `n`.

        >>> review = df.labelfix.budget(3)
        >>> review.expected_errors, review.low, review.high, review.share_of_errors
        (2.4, 0, 3, 0.6486)

        Args:
            n: how many rows, at least 1; all that have a score where there are fewer.

        Returns:
            rows, expected_errors (to two decimals), low, high, share_of_errors (of all that are expected in this
            frame) and rests_on.

        Raises:
            InputError: `n` is out of range, no row has a score, or the frame lacks what is needed.
        """
        return budget.budget(self._frame, n)

    def duplicates(self, *, contradicting: bool = False) -> pd.DataFrame:
        """The rows that have a copy among the rows of this frame, copies beside each other.

        >>> df.labelfix.duplicates()[["file_name", "given_label", "duplicate_group"]]
        Empty DataFrame
        Columns: [file_name, given_label, duplicate_group]
        Index: []

        Args:
            contradicting: only copies that were not all given the same label.

        Raises:
            InputError: the frame lacks what is needed.
        """
        return seen.duplicates(self._frame, contradicting=contradicting)

    def leaks(self) -> pd.DataFrame:
        """The copies that lie on several sides of a split: in training and in test, validation, or both.

        >>> copied = df.assign(duplicate_group=0, split=["test"] + ["train"] * 10)
        >>> len(copied.labelfix.leaks())
        11

        Raises:
            InputError: the frame lacks what is needed: `duplicate_group`, and the source's own column `split`.
        """
        return seen.leaks(self._frame)

    def outliers(self, n: int = 50) -> pd.DataFrame:
        """The `n` rows with the highest outlier scores, highest first, ties in the frame's order.

        >>> seen = df.assign(outlier_score=1 - df["noise_score"])
        >>> seen.labelfix.outliers(2)[["file_name", "outlier_score"]]
          file_name  outlier_score
        0     0.png            0.9
        4     4.png            0.8

        Raises:
            InputError: `n` is out of range, or no row has such a score: the run saw no features.
        """
        return seen.outliers(self._frame, n)

    def show(self, n: int = 25, *, size: int = 112, source: Any = None) -> ImageGrid:
        """The images of the first rows of this frame, in its order, as a grid in a notebook.

        Under each stand its given label, the corrected one where that is another, the noise score and the sample_id.
        Ask for the suspects first: `df.labelfix.top(25).labelfix.show()`.

        The images are read again from the source of the run, once it has proved to be unchanged; of a source that was
        in memory they are those in the cache, as the network saw them.

        >>> df.labelfix.top(4).labelfix.show()
        ImageGrid of 4 images

        Args:
            n: at most so many images, at least 1.
            size: of an image, 16 to 1,024 pixels.
            source: where the data are now, if not where they were: anything that `labelfix.scan` takes.

        Returns:
            What a notebook draws; its `html` loads nothing from anywhere. An image that cannot be read has the reason
            in its place.

        Raises:
            InputError: `n` or `size` is out of range, the source is gone or has changed, or the frame lacks what is
                needed.
        """
        # Jinja2 and Pillow, which nothing else here needs.
        from labelfix.accessor.image_grid import image_grid

        return image_grid(self._frame, n, size, source)

    def disagreements(self, other: pd.DataFrame | Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """The rows on which this run and others over the same source do not agree.

        Runs disagree on a row that some flag and others do not, or for which they have different corrected labels.
        Only rows that are eligible in every run count, for the ranks too.

        >>> import labelfix
        >>> again = labelfix.read_corrections("runs/letters")
        >>> len(df.labelfix.disagreements(again))
        0

        Args:
            other: the frame of another run, or frames by name. Where this frame is one of those, it goes by its name
                there.

        Returns:
            A row for each of them, by its index in this frame, most suspect first: sample_id, file_name, given_label;
            flagged_by, how many runs flag it; mean_rank in [0, 1], the mean over the runs of the rank of its noise
            score, high = suspect (see `labelfix.estimation.metrics.mean_rank`); and for each run noise_score_NAME,
            is_label_issue_NAME and corrected_label_NAME. NAME is `self` for this frame and `other` for a single other
            one.

        Raises:
            InputError: no other run, or a frame that is none of `read_corrections`, or of another source.
        """
        return disagreements.disagreements(self._frame, other)

"""Rows that a network never sees: one part held out of a single training, or every part in turn (cross-fitting)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from labelfix import processes
from labelfix.config import ScanConfig
from labelfix.data.verified_labels import Trusted
from labelfix.errors import InputError
from labelfix.json_files import is_count, wrong_key
from labelfix.methods import method_class
from labelfix.reporting import Reporter
from labelfix.training import checkpoint
from labelfix.training.batches import Source, seed_of
from labelfix.training.resume import train
from labelfix.training.setup import Watched, make_trainer
from labelfix.training.trainer import EpochReport, Trainer

_ASSIGN_SEED = 6
_LEAST_UNITS = 10  # rows, or groups, of which one part may be held out
_MOST_PARTS = 100  # of which several are held out


@dataclass(frozen=True)
class CrossFit:
    """Out-of-sample predictions: of each row by the network of the fold that held it out.

    Attributes:
        fold_of_row: (N,) int64, -1 for rows in no fold.
        logits: (N, K) float32 of each row by the network of its fold; NaN for rows in no fold.
        reports: of every fold's epochs, by its number.
        forward_units: network passes of all folds together, in rows.
    """

    fold_of_row: np.ndarray
    logits: np.ndarray
    reports: dict[int, list[EpochReport]]
    forward_units: int

    @property
    def is_finite(self) -> bool:
        """Whether no fold diverged."""
        held_out = self.logits[self.fold_of_row >= 0]
        return bool(np.isfinite(held_out).all()) and all(some[-1].is_finite for some in self.reports.values())


def hold_out(
    labels: np.ndarray, groups: np.ndarray | None, trusted: Trusted, config: ScanConfig
) -> np.ndarray:
    """The rows that a single training leaves out, by the seed of the scan: so large a part of every class.

    The rows are dealt into parts of which some are left out, 3 of 20 for a share of 0.15. Rows with a verified label
    train, unless they are kept to check the findings on, and so does a class that would have no other row.

    Args:
        labels: (N,) int64 that are trained towards, -1 for none.
        groups: (N,) int64 of rows that are held out together; None where every row stands alone.
        trusted: verified labels.
        config: of the scan.

    Returns:
        (N,) bool; none with folds, of fewer than 10 rows or groups, and where the share is of less than one of them.
    """
    nothing = np.zeros(len(labels), dtype=bool)
    if not config.holdout:
        return nothing
    offered = _offered(labels, trusted)
    units, least = _num_units(offered, groups), round(1 / config.holdout)
    if units < max(least, _LEAST_UNITS):
        return nothing
    share = Fraction(config.holdout).limit_denominator(min(max(least, _MOST_PARTS), units))
    part_of_row = assign_folds(offered, groups, share.denominator, seed_of(config.seed, _ASSIGN_SEED))
    # Evenly apart: parts follow each other within a class, and none is to give more of its rows than another.
    apart = np.arange(share.denominator) * share.numerator % share.denominator < share.numerator
    left_out = np.roll(apart, most_varied(part_of_row, groups, apart))
    held_out = (part_of_row >= 0) & left_out[part_of_row]
    kept = labels[(labels >= 0) & ~held_out]
    held_out &= np.isin(labels, kept)
    return held_out if len(kept) >= 2 else nothing


def folds_of_rows(
    labels: np.ndarray,
    groups: np.ndarray | None,
    trusted: Trusted,
    config: ScanConfig,
    *,
    are_asked: bool = True,
) -> np.ndarray | None:
    """The fold that holds each row out, by the seed of the scan.

    Rows with a verified label train in every fold, unless they are kept to check the findings on.

    Args:
        labels: (N,) int64 that are trained towards, -1 for none.
        groups: (N,) int64 of rows that are held out together; None where every row stands alone.
        trusted: verified labels.
        config: of the scan.
        are_asked: whether a person wants so many; else there are no more than rows or groups to hold out, and none
            where these are too few for two.

    Returns:
        (N,) int64, -1 for rows that are in no fold; None without folds.

    Raises:
        InputError: too few rows or groups to hold out, or too few rows left to train on, of folds that are asked for
            or that the method is nothing without.
    """
    if not config.folds:
        return None
    offered = _offered(labels, trusted)
    needs_folds = bool(method_class(config.method).default_folds)
    folds = config.folds if are_asked else max(2, min(config.folds, _num_units(offered, groups)))
    try:
        _check_unverified(labels, offered, groups, needs_folds=needs_folds)
        return _dealt(labels, offered, groups, folds, seed_of(config.seed, _ASSIGN_SEED))
    except InputError:
        if are_asked or needs_folds:
            raise
        return None


def num_folds(fold_of_row: np.ndarray | None) -> int:
    """How many there are; 0 for None."""
    return 0 if fold_of_row is None else int(fold_of_row.max()) + 1


def _check_unverified(
    labels: np.ndarray, offered: np.ndarray, groups: np.ndarray | None, *, needs_folds: bool
) -> None:
    """Refuse verified labels that leave fewer than two rows, or groups of them, to hold out where there are two."""
    verified, left = int(((labels >= 0) & (offered < 0)).sum()), _num_units(offered, groups)
    if not verified or left >= 2 or _num_units(labels, groups) < 2:
        return
    what = "row" if groups is None else "group"
    raise InputError(
        f"{verified} of {int((labels >= 0).sum())} rows to train on have a verified label, and folds hold none of them"
        f" out: they need 2 {what}s of others, and there {'is 1' if left else 'is none'}; verify fewer rows, or"
        f" {'choose another --method' if needs_folds else 'scan without folds'}"
    )


def _dealt(
    labels: np.ndarray, offered: np.ndarray, groups: np.ndarray | None, folds: int, seed: int
) -> np.ndarray:
    """`assign_folds` of the labels that are `offered`; each has to leave two of all to train on."""
    fold_of_row = assign_folds(offered, groups, folds, seed)
    for fold in range(folds):
        rest = int(((labels >= 0) & (fold_of_row != fold)).sum())
        if rest < 2:
            raise InputError(
                f"--folds {folds}: without its part fold {fold + 1} has {rest} rows to train on and needs 2; "
                "make the groups smaller, or scan without folds"
            )
    return fold_of_row


def num_units(labels: np.ndarray, groups: np.ndarray | None, trusted: Trusted) -> int:
    """How many rows, or groups of them, may be held out; arguments as of `folds_of_rows`."""
    return _num_units(_offered(labels, trusted), groups)


def _offered(labels: np.ndarray, trusted: Trusted) -> np.ndarray:
    """(N,) int64: the labels of rows that may be held out, -1 for others."""
    return np.where((trusted.label >= 0) & ~trusted.is_scored, -1, labels)


def _num_units(offered: np.ndarray, groups: np.ndarray | None) -> int:
    rows = np.flatnonzero(offered >= 0)
    return len(rows) if groups is None else len(np.unique(groups[rows]))


def probe_folds(
    labels: np.ndarray,
    groups: np.ndarray | None,
    trusted: Trusted,
    config: ScanConfig,
    held_out: np.ndarray,
) -> tuple[np.ndarray | None, str]:
    """The folds of a linear probe, as of `folds_of_rows`; None, and why, where it has none.

    Args:
        labels: as for `folds_of_rows`.
        groups: as for `folds_of_rows`.
        trusted: verified labels.
        config: of the probe.
        held_out: (N,) bool, rows that the network's training leaves out.
    """
    if not held_out.any():
        return (
            None,
            "there are too few rows, or groups of them, to leave some out, by which it would be weighed",
        )
    try:
        return folds_of_rows(labels, groups, trusted, config), ""
    except InputError as error:
        return None, str(error)


def cross_fit(
    source: Source,
    labels: np.ndarray,
    fold_of_row: np.ndarray,
    num_classes: int,
    config: ScanConfig,
    folder: Path,
    reporter: Reporter,
    watched: Sequence[Watched] = (),
    trusted_labels: np.ndarray | None = None,
    targets: np.ndarray | None = None,
    name: str = "",
) -> CrossFit:
    """Train once per fold with its labels masked, and collect the predictions for them.

    A finished fold is kept in its checkpoint and not trained again; an unfinished one goes on where it stopped.

    Args:
        source: of the images.
        labels: (N,) int64 that are trained towards, -1 for none.
        fold_of_row: (N,) int64, the fold that holds a row out; -1 for rows that every fold trains on, or none.
        num_classes: K.
        config: of the scan.
        folder: of the checkpoints.
        reporter: shows progress.
        watched: what the accuracy is measured on after every epoch.
        trusted_labels: (N,) int64, labels of rows with a stream of their own: `setup.trusted_stream_labels`.
        targets: (N, K) float32 where a row may have several labels: `setup.training_targets`.
        name: of the method, where the folder and the reporter see several.
    """
    logits = np.full((len(labels), num_classes), np.nan, np.float32)
    reports: dict[int, list[EpochReport]] = {}
    units = 0
    folds = num_folds(fold_of_row)
    for fold in range(folds):
        rows = np.flatnonzero(fold_of_row == fold)
        kept = folder / "-".join(filter(None, ("fold", name, str(fold))))
        stage = f"{name} fold {fold + 1} of {folds}".lstrip()
        found = _finished(kept, (len(rows), num_classes))
        if found is None:
            masked = np.where(fold_of_row == fold, -1, labels)
            trained = np.flatnonzero(masked >= 0)
            # No name here: the trainer leaves the device before the next comes.
            found = _held_out(
                make_trainer(
                    source, masked, num_classes, config, trained, fold, trusted_labels, targets=targets
                ),
                rows, kept, reporter, watched, stage,
            )  # fmt: skip
        logits[rows] = found[0].numpy()
        reports[fold] = found[1]
        units += found[2]
    return CrossFit(fold_of_row, logits, reports, units)


def _held_out(
    trainer: Trainer,
    rows: np.ndarray,
    folder: Path,
    reporter: Reporter,
    watched: Sequence[Watched],
    stage: str,
) -> tuple[torch.Tensor, list[EpochReport], int]:
    """Train a fold and keep what `_finished` reads: logits of the rows held out, reports and network passes."""
    reports = train(trainer, folder, reporter, watched, stage)
    units = trainer.forward_units
    predicted = trainer.predict_for_all(trainer.source.augmentation.held_out, rows)
    if processes.rank():
        return predicted.new_full((len(rows), predicted.shape[1]), float("nan")), reports, units
    held_out = predicted[torch.from_numpy(rows)]
    facts = {"reports": [report.to_json() for report in reports], "forward_units": units}
    number = checkpoint.newest_number(folder) + 1
    checkpoint.save(folder, number, {"held_out": held_out}, {"finished": facts})
    return held_out, reports, units


def _finished(folder: Path, shape: tuple[int, int]) -> tuple[torch.Tensor, list[EpochReport], int] | None:
    """Logits of the rows held out, reports and network passes of a fold; None where it is not finished."""
    for tensors, facts in checkpoint.newest_first(folder):
        finished, held_out = facts.get("finished"), tensors.get("held_out")
        if held_out is None or held_out.shape != shape or held_out.dtype is not torch.float32:
            continue
        if not isinstance(finished, dict) or wrong_key(finished, {"forward_units": is_count}):
            continue
        try:
            return held_out, EpochReport.all_from_json(finished.get("reports")), finished["forward_units"]
        except ValueError:
            continue
    return None


def assign_folds(labels: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """Assign rows to folds, class by class, round robin after a seeded shuffle.

    The round goes on from class to class, so that folds are of even size and a class with fewer rows than folds is
    no error. Rows of one group stay together; a group counts for the class of its first row. Of the places that the
    round gives a class in each fold, the largest groups choose first, that of the fold with the fewest rows: so folds
    are as even in rows as groups let them be.

    Args:
        labels: (N,) int64 class of each row, -1 for rows that are in no fold.
        groups: (N,) int64 group of each row; None where every row stands alone.
        folds: K, 2 or more.
        seed: of the shuffle.

    Returns:
        (N,) int64, the fold 0..K-1 in which a row is held out; -1 for none.

    Raises:
        InputError: fewer rows, or groups, than folds.
    """
    rows = np.flatnonzero(labels >= 0)
    held_together = np.arange(len(labels)) if groups is None else groups
    _, first, unit_of_row, sizes = np.unique(
        held_together[rows], return_index=True, return_inverse=True, return_counts=True
    )
    if len(first) == 1 and groups is not None:
        raise InputError(
            f"--folds {folds}: all rows are of one group, or show the same picture, so that none can be held out; see"
            " whether the images are what they should be"
        )
    if len(first) < folds:
        what = "rows" if groups is None else "groups"
        raise InputError(f"--folds {folds}: there are only {len(first)} {what} to hold out; use fewer folds")
    shuffled = np.random.default_rng(seed).permutation(len(first))
    order = shuffled[np.argsort(labels[rows][first][shuffled], kind="stable")]
    fold_of_unit = np.empty(len(first), np.int64)
    fold_of_unit[order] = _evened(np.arange(len(order)) % folds, labels[rows][first][order], sizes[order])
    found = np.full(len(labels), -1)
    found[rows] = fold_of_unit[unit_of_row]
    return found


def _evened(fold_of_unit: np.ndarray, classes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The folds (U,) of units, exchanged within each class so that folds have nearly as many rows.

    The largest come first, each into the fold with the fewest rows that has a place for its class (Graham 1969).

    >>> _evened(np.array([0, 1, 0, 1]), np.array([0, 0, 0, 0]), np.array([9, 1, 8, 1])).tolist()
    [0, 0, 1, 1]

    Args:
        fold_of_unit: (U,) int64, a place for each.
        classes: (U,) int64, ascending.
        sizes: (U,) int64, rows of each.
    """
    if (sizes == 1).all():
        return fold_of_unit
    names, place = np.unique(classes, return_inverse=True)
    free = np.zeros((len(names), int(fold_of_unit.max()) + 1), np.int64)
    np.add.at(free, (place, fold_of_unit), 1)
    found, rows = np.full(len(sizes), -1), np.zeros(free.shape[1], np.int64)
    large = np.flatnonzero(sizes > 1)
    for unit in large[np.argsort(-sizes[large], kind="stable")]:
        fold = int(np.where(free[place[unit]] > 0, rows, np.iinfo(np.int64).max).argmin())
        found[unit], rows[fold] = fold, rows[fold] + sizes[unit]
        free[place[unit], fold] -= 1
    for label in np.unique(place[found < 0]):  # single rows take what is left
        found[(place == label) & (found < 0)] = np.repeat(np.arange(free.shape[1]), free[label])
    return found


def most_varied(fold_of_row: np.ndarray, groups: np.ndarray | None, apart: np.ndarray | None = None) -> int:
    """The fold whose rows are of most groups, large ones counted for less; the first where every row stands alone.

    It is worth as many independent rows as (sum n)^2 / sum n^2, n the sizes of its groups (Kish 1965).

    >>> most_varied(np.array([0, 0, 0, 0, 1, 1, 1]), np.array([5, 5, 5, 5, 6, 7, 8]))
    1

    Args:
        fold_of_row: (N,) int64, -1 for none.
        groups: (N,) int64; None where every row stands alone.
        apart: (F,) bool, folds that are taken together, counted from the one that is asked for; None for it alone.
    """
    if groups is None:
        return 0
    rows = np.flatnonzero(fold_of_row >= 0)
    _, first, sizes = np.unique(groups[rows], return_index=True, return_counts=True)
    folds = fold_of_row[rows][first]
    sums, squares = np.bincount(folds, sizes), np.bincount(folds, sizes.astype(float) ** 2)
    if apart is not None and apart.sum() > 1:
        together = np.stack([np.roll(apart, fold) for fold in range(len(apart))])
        sums, squares = together @ sums, together @ squares
    return int((sums**2 / squares).argmax())

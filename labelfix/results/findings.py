"""From a trained method to its evidence, and that of rows that it never saw; `conclude` makes the findings of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.special import softmax

from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.estimation.choice import Choice, most_likely, pool
from labelfix.estimation.evidence import Evidence, Fit
from labelfix.estimation.held_out import judged_evidence
from labelfix.estimation.in_sample import as_held_out, post_stratification_weights
from labelfix.estimation.judgement import Thresholds
from labelfix.estimation.noise_levels import Level
from labelfix.methods.own_model import OwnModel
from labelfix.results.around import Around
from labelfix.results.conclude import Readable, conclude
from labelfix.results.corrections import Findings
from labelfix.training.folds import CrossFit
from labelfix.training.setup import held_out_rows, training_labels
from labelfix.training.trainer import EpochReport, Trainer


def find(
    manifest: Manifest,
    store: ImageStore,
    trusted: Trusted,
    trainer: Trainer,
    last_reports: Sequence[EpochReport],
    held_out: np.ndarray,
    crossed: CrossFit | None,
    thresholds: Thresholds,
    around: Around,
    probe: CrossFit | None = None,
) -> Findings:
    """Evidence, verdicts and the classifier's own view of every row.

    Args:
        manifest: of the source.
        store: its images.
        trusted: its verified labels.
        trainer: after its last epoch.
        last_reports: of the last epoch of every training.
        held_out: (N,) bool, rows that the trainer left out to tell what it remembers.
        crossed: predictions of the folds' networks, None without folds; rows in no fold take the trainer's logits.
        thresholds: of the verdicts.
        around: what was seen of the rows beside their labels.
        probe: predictions of the linear probe beside the network, None without one.
    """
    plain = trainer.predict("plain")
    logits = plain.cpu().numpy()
    if crossed is not None:
        logits = np.where((crossed.fold_of_row >= 0)[:, None], crossed.logits, logits)
    probs = softmax(logits.astype(np.float64), axis=1).astype(np.float32)
    kept = np.zeros(manifest.num_rows, dtype=bool)
    reason, method = diverged(last_reports, probs[store.valid]), trainer.method
    if not reason:
        rows = Rows.of(manifest, store, trusted, held_out)
        averaged = method.ensembled_probs.cpu().numpy()
        folds = None if crossed is None else crossed.fold_of_row
        if folds is not None:
            evidence = of_folds(rows, averaged, method.score, thresholds, folds, probs)
        elif isinstance(method, OwnModel) and method.speaks_for_itself:
            evidence = of_own_model(rows, method.own_evidence(plain), thresholds, probs)
        else:
            told = None
            if probe is not None and probe.is_finite:
                told = rows.probed(probe, softmax(probe.logits.astype(np.float64), axis=1))
            unseen = as_if_unseen(rows, averaged, thresholds, told)
            evidence = of_training(rows, unseen, method.score, thresholds, probs)
        kept = rows.of_unknown_class(folds)
        evidence.diagnostics.update(method.diagnostics(plain))
    else:
        nothing = np.full(manifest.num_rows, np.nan)
        evidence = Evidence(nothing, np.full(probs.shape, np.nan, np.float32), Fit(ok=False, reason=reason))
    found = conclude(
        evidence,
        probs,
        manifest.given,
        Readable(store.valid, store.errors),
        trusted,
        manifest.class_names,
        kept=kept,
        around=around,
    )
    return replace(found, removed=manifest.removed, said=manifest.said)


NETWORK, PROBE = "network", "probe"  # whose predictions are weighed

Score = Callable[[np.ndarray, np.ndarray], np.ndarray | None]
"""Probabilities (N, K) and given labels (N,) to what ranks the rows (N,); None for what is best known."""


def diverged(last_reports: Sequence[EpochReport], probs: np.ndarray) -> str:
    """Why a training has no findings: its losses, or what it says of the valid rows (V, K), are not finite; else empty.

    Args:
        last_reports: of the last epoch of every training.
        probs: of the network.
    """
    bad = next((report for report in last_reports if not report.is_finite), None)
    if bad is None and np.isfinite(probs).all():
        return ""
    epoch = last_reports[-1].epoch if bad is None else bad.epoch
    return f"training diverged in epoch {epoch}; give a lower --set learning_rate"


@dataclass(frozen=True)
class Rows:
    """What became of the rows.

    Attributes:
        given: (N,) int64 labels that are to be judged, -1 for none, and for rows with a verified label.
        trained: (N,) int64 labels that the last training was on, -1 for none.
        held_out: (N,) bool, rows that this training left out at random.
        of_split: (N,) bool, rows that no training was on.
        num_classes: K.
        of_one_class: whether the labels say that rows lack, 0, or have, 1, one of several classes.
    """

    given: np.ndarray
    trained: np.ndarray
    held_out: np.ndarray
    of_split: np.ndarray
    num_classes: int
    of_one_class: bool = False

    @classmethod
    def of(cls, manifest: Manifest, store: ImageStore, trusted: Trusted, held_out: np.ndarray) -> Rows:
        """From the source, which images of it can be read, verified labels, and the rows left out of training."""
        labels = training_labels(manifest, store.valid, trusted)
        of_split = held_out_rows(manifest, store.valid, manifest.given)
        is_judged = ((labels >= 0) | of_split) & ((trusted.label < 0) | trusted.is_scored)
        return cls(
            np.where(is_judged, manifest.given, -1),
            np.where(held_out, -1, labels),
            held_out,
            of_split,
            len(manifest.class_names),
        )

    def probed(self, probe: CrossFit, probs: np.ndarray) -> np.ndarray:
        """What a linear probe says of the rows (N, K), NaN for those of a class that its fold knew nothing of.

        Args:
            probe: its folds, which trained on the rows that the network left out too.
            probs: (N, K) of them.
        """
        trained = replace(self, trained=np.where(self.held_out, self.given, self.trained))
        unknown = trained.of_unknown_class(probe.fold_of_row)
        return np.where(unknown[:, None], np.nan, probs)

    def of_unknown_class(self, fold_of_row: np.ndarray | None) -> np.ndarray:
        """(N,) bool, rows whose given class no row had on which their network was trained: it knows nothing of it."""
        folds = np.full(len(self.trained), -1) if fold_of_row is None else fold_of_row
        unknown = np.zeros(len(self.trained), dtype=bool)
        for label in range(self.num_classes):
            of_class = self.given == label
            holding = np.unique(folds[self.trained == label])
            if len(holding) == 0:
                unknown |= of_class
            elif len(holding) == 1 and holding[0] >= 0:
                unknown |= of_class & (folds == holding[0])
        return unknown


@dataclass(frozen=True)
class AsIfUnseen:
    """What is said of every row as if nobody had seen its label.

    Attributes:
        probs: (N, K) float64, NaN where there are none.
        choice: whose predictions these are beside a probe; None without one.
        row_weights: (N,) float64, how many rows each row stands for that was left out, 1 in the mean; 0 for others.
        probe: (N, K) of a probe that is believed, which saw none of the rows; None without.
    """

    probs: np.ndarray
    choice: Choice | None
    row_weights: np.ndarray
    probe: np.ndarray | None = None


def as_if_unseen(
    rows: Rows, averaged: np.ndarray, thresholds: Thresholds, probe: np.ndarray | None = None
) -> AsIfUnseen:
    """What a single training says of every row as if it had not seen the labels, and who else is believed.

    What it remembers of labels is told from the rows that it left out. Beside a probe, those rows also tell whose
    predictions are believed, or whether both together are; and a probe that is believed tells whether they are like the
    others, and which rows are surest.

    Args:
        rows: what became of them.
        averaged: (N, K) predictions averaged over the training, zeros where there are none.
        thresholds: of the verdicts.
        probe: (N, K) held-out predictions of a linear probe, NaN where it has none; None without one.
    """
    averaged = averaged.astype(np.float64)
    mass = averaged.sum(axis=1, keepdims=True)
    averaged = np.where(mass > 0, averaged / np.where(mass > 0, mass, 1), np.nan)
    trained = np.where(rows.of_split, -1, rows.given)
    row_weights = rows.held_out.astype(np.float64)
    if probe is None:
        return AsIfUnseen(
            as_held_out(averaged, trained, row_weights, by_label=rows.of_one_class), None, row_weights
        )
    left_out = np.flatnonzero(rows.held_out & (rows.given >= 0))
    offered = {NETWORK: averaged[left_out], PROBE: probe[left_out]}
    choice = most_likely(offered, rows.given[left_out], thresholds)
    is_believed = PROBE in choice.taken
    if is_believed:
        row_weights = post_stratification_weights(rows.held_out, trained, probe, by_label=rows.of_one_class)
    averaged = as_held_out(averaged, trained, row_weights, by_label=rows.of_one_class)
    pooled = pool([averaged if name == NETWORK else probe for name in choice.taken])
    probs = np.where(np.isfinite(pooled), pooled, averaged)
    return AsIfUnseen(probs, choice, row_weights, probe if is_believed else None)


def of_training(
    rows: Rows,
    unseen: AsIfUnseen,
    score: Score,
    thresholds: Thresholds,
    probs: np.ndarray,
    levels: Sequence[Level] | None = None,
) -> Evidence:
    """The evidence of a single training.

    Args:
        rows: what became of them.
        unseen: what it says of them.
        score: by which rows are ranked, see `Method.score`.
        thresholds: of the verdicts.
        probs: (N, K) of the trained network.
        levels: of noise that was fitted on these answers and others.
    """
    unknown = rows.of_unknown_class(None)
    given = np.where(unknown, -1, rows.given)
    trained = np.where(rows.of_split, -1, given)
    # A network knows the labels that it was trained on: by its own word none of them would stand with one left out.
    ranked = score(as_held_out(probs, trained, unseen.row_weights, by_label=rows.of_one_class), rows.given)
    judged = partial(
        judged_evidence,
        unseen.probs,
        score=ranked,
        thresholds=thresholds,
        levels=levels,
        another=unseen.probe,
    )
    evidence = judged(trained, unseen=unseen.row_weights)
    if unseen.choice is not None:
        evidence.diagnostics["networks"] = unseen.choice.to_json()
    if rows.of_split.any():
        # What a test split says of itself changes no other row.
        others = judged(given, unseen=np.where(rows.of_split, 1.0, unseen.row_weights))
        evidence = _with_rows(evidence, others, rows.of_split)
    return _with_unknown(evidence, rows.given, unknown)


def of_own_model(rows: Rows, evidence: Evidence, thresholds: Thresholds, probs: np.ndarray) -> Evidence:
    """What a method's own model says; of rows that it was not trained on, what their predictions say.

    Args:
        rows: what became of them.
        evidence: of the method's own model.
        thresholds: of the verdicts.
        probs: (N, K) of the trained network.
    """
    unseen = rows.of_split | rows.held_out
    if not unseen.any():
        return evidence
    others = judged_evidence(probs, np.where(unseen, rows.given, -1), thresholds=thresholds)
    return _with_rows(evidence, others, unseen)


def _with_rows(evidence: Evidence, others: Evidence, rows: np.ndarray) -> Evidence:
    """The evidence with noise and beliefs of other evidence in some rows (N,) bool."""
    return replace(
        evidence,
        noise=np.where(rows, others.noise, evidence.noise),
        probs=np.where(rows[:, None], others.probs, evidence.probs).astype(np.float32),
    )


def _with_unknown(evidence: Evidence, given: np.ndarray, unknown: np.ndarray) -> Evidence:
    """The evidence with rows whose network knew nothing of their class: wrong as often as any, and not flagged.

    Args:
        evidence: of the others.
        given: (N,) int64 labels, -1 for none.
        unknown: (N,) bool, which rows.
    """
    rows = np.flatnonzero(unknown & (given >= 0))
    if not len(rows) or not np.isfinite(evidence.noise).any():
        return evidence
    usual = min(evidence.diagnostics["estimate"]["noise_rate"], evidence.rule.flag_above)
    noise, probs = evidence.noise.copy(), evidence.probs.copy()
    noise[rows] = usual
    probs[rows] = usual / (probs.shape[1] - 1)
    probs[rows, given[rows]] = 1 - usual
    return replace(evidence, noise=noise, probs=probs)


def of_folds(
    rows: Rows,
    averaged: np.ndarray,
    score: Score,
    thresholds: Thresholds,
    fold_of_row: np.ndarray,
    probs: np.ndarray,
    levels: Sequence[Level] | None = None,
) -> Evidence:
    """The evidence of rows that were held out: of the folds, and of `split`.

    Args:
        rows: what became of them.
        averaged: (N, K) predictions averaged over the training on all rows.
        score: by which rows are ranked, see `Method.score`.
        thresholds: of the verdicts.
        fold_of_row: (N,) int64, the fold that held a row out, -1 for none.
        probs: (N, K) of the folds' networks, or of that training.
        levels: of noise that was fitted on these answers and others.
    """
    held_out = (fold_of_row >= 0) | rows.of_split
    unknown = rows.of_unknown_class(fold_of_row)
    given = np.where(held_out & ~unknown, rows.given, -1)
    shown = np.where(held_out[:, None], probs.astype(np.float64), np.nan)
    evidence = judged_evidence(
        shown, given, averaged, score(shown, given), thresholds=thresholds, levels=levels
    )
    return _with_unknown(evidence, rows.given, unknown)

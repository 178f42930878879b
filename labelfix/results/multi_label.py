"""Findings where a row may have several labels: every class is a question of its own, judged as any other labels are.

Of each class the rows have it or lack it, by their given labels, by a network's probabilities, and in truth. So what
is known of labels of two classes (estimation, calibration, verified rows, verdicts, copies) says for every class which
rows lack it that should have it, and which have it that should not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit

from labelfix.atomic_files import atomic_path
from labelfix.data.findings_schema import multi_label_fields
from labelfix.data.images.issues import ISSUES
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.estimation.choice import Choice
from labelfix.estimation.eligible import eligible_rows
from labelfix.estimation.evidence import Evidence, Fit, Rule
from labelfix.estimation.judgement import Thresholds
from labelfix.estimation.noise_levels import Level
from labelfix.estimation.one_class import as_given, has_both, tells_apart
from labelfix.estimation.together import shared_noise
from labelfix.methods.pencil_multi_label import MultiLabelPencil
from labelfix.results.around import Around
from labelfix.results.conclude import Readable, conclude
from labelfix.results.copies import copies_summary
from labelfix.results.corrections import (
    METADATA_KEY,
    ROW_GROUP,
    Findings,
    error_array,
    label_array,
    label_lists,
    number_lists,
)
from labelfix.results.findings import (
    NETWORK,
    AsIfUnseen,
    Rows,
    as_if_unseen,
    diverged,
    of_folds,
    of_own_model,
    of_training,
)
from labelfix.results.summary import image_issue_counts
from labelfix.training.folds import CrossFit
from labelfix.training.trainer import EpochReport, Trainer

HALF = 0.5  # probability from which a row has a class
_MOST_NAMES = 5


@dataclass(frozen=True)
class MultiLabelFindings:
    """Everything the table holds of N rows and K classes.

    Attributes:
        given: (N, K) bool, what the rows have by their given labels; False where they are not labelled.
        labelled: (N,) bool.
        noise: (N, K) float64, probability that the given state of a class is wrong; NaN for none.
        beliefs: (N, K) float32, probability that a row has a class, with the given labels known; NaN for none.
        probs: (N, K) float32, the classifier's own view; NaN where it has none.
        flagged: (N, K) bool.
        corrected: (N, K) bool, what the rows have from now on.
        decided: (N,) bool, rows for which there is a corrected label.
        trusted: (N,) bool.
        valid: (N,) bool.
        errors: why a row is not valid, by row.
        removed: (N,) bool, rows that no label fits, as a person says.
        said: (N, K) bool and (N,) bool, `given` and `labelled` as the source has them, of removed rows too.
        fits: of every class.
        rules: of every class.
        diagnostics: of every class; JSON-able.
        err_alike: whether one noise was found for all classes.
        around: what was seen of the rows beside their labels.
    """

    given: np.ndarray
    labelled: np.ndarray
    noise: np.ndarray
    beliefs: np.ndarray
    probs: np.ndarray
    flagged: np.ndarray
    corrected: np.ndarray
    decided: np.ndarray
    trusted: np.ndarray
    valid: np.ndarray
    errors: dict[int, str]
    removed: np.ndarray
    said: tuple[np.ndarray, np.ndarray]
    fits: tuple[Fit, ...]
    rules: tuple[Rule, ...]
    diagnostics: tuple[dict[str, Any], ...]
    err_alike: bool
    around: Around

    @property
    def eligible(self) -> np.ndarray:
        """(N,) bool: valid, labelled and not trusted."""
        return eligible_rows(self.valid, self.labelled, self.trusted)

    @property
    def fit_ok(self) -> bool:
        """Whether the findings of any class can be believed; of the others no label changes."""
        return any(fit.ok for fit in self.fits)

    @property
    def noise_rate(self) -> float | None:
        """Mean noise of all classes of the eligible rows; None where there is none."""
        noise = self.noise[self.eligible]
        return float(noise.mean()) if len(noise) and np.isfinite(noise).all() else None

    def reason(self, names: Sequence[str]) -> str:
        """What was found, in plain words."""
        failed = [name for name, fit in zip(names, self.fits, strict=True) if not fit.ok]
        if len(failed) == len(names):
            return self.fits[0].reason
        changed = self.corrected != self.given
        rows = self.eligible
        added = int((changed & ~self.given)[rows].sum())
        gone = int((changed & self.given)[rows].sum())
        mended = int(changed[rows].any(axis=0).sum())
        told = f"{added} labels are added and {gone} removed, of {mended} of the {len(names)} classes"
        if not failed:
            return told + self._kept(names)
        more = f" and {len(failed) - _MOST_NAMES} more" if len(failed) > _MOST_NAMES else ""
        shown = ", ".join(map(repr, failed[:_MOST_NAMES]))
        return f"{told}; nothing could be found of {shown}{more}: {self.fits[names.index(failed[0])].reason}"

    def _kept(self, names: Sequence[str]) -> str:
        """Of the classes of which it cannot be said whether their labels are right; empty without any."""
        kept = [
            (name, fit.reason)
            for name, fit, facts in zip(names, self.fits, self.diagnostics, strict=True)
            if fit.keeps_labels and facts.get("estimate", {}).get("finding") != "clean"
        ]
        return f"; {len(kept)} keep theirs, such as {kept[0][0]!r}: {kept[0][1]}" if kept else ""


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
) -> MultiLabelFindings:
    """Evidence and verdicts of every class, and the classifier's own view of every row; as `findings.find`."""
    assert manifest.targets is not None
    plain = trainer.predict("plain")
    logits = plain.cpu().numpy()
    if crossed is not None:
        logits = np.where((crossed.fold_of_row >= 0)[:, None], crossed.logits, logits)
    probs = expit(logits.astype(np.float64)).astype(np.float32)
    rows = Rows.of(manifest, store, trusted, held_out)
    if probe is not None and not probe.is_finite:
        probe = None
    judge = _Classes(manifest, trusted, trainer, rows, crossed, thresholds, probs, probe)
    failed = diverged(last_reports, probs[store.valid])
    readable = Readable(store.valid, store.errors)
    told = None if failed or judge.speaks_for_itself else judge.told()
    found = []
    for label, name in enumerate(manifest.class_names):
        if failed:
            evidence, kept = judge.nothing(failed)
        else:
            evidence, kept = judge.own_evidence(label) if told is None else judge.evidence(label, told)
        found.append(
            conclude(
                evidence, _two(probs[:, label]), judge.state(label), readable, judge.trusted_state(label),
                (f"without {name}", name), kept=kept, around=around,
            )
        )  # fmt: skip
    err_alike = told is not None and told.shared is not None
    return _together(manifest, store, trusted, found, probs, err_alike, around)


@dataclass(frozen=True)
class _Told:
    """What is said of every class of the rows, before their labels are judged by it.

    Attributes:
        unseen: (N, K) float64 probabilities of having each class as of networks that never saw the row; NaN for none.
        averaged: (N, K) float64, averaged over the training; NaN for none.
        row_weights: (N, K) float64, how many rows each row stands for that the networks never saw; 0 for others.
        choices: of each class whose predictions are believed; None without a probe.
        shared: noise of all classes together; None where they do not err alike.
    """

    unseen: np.ndarray
    averaged: np.ndarray
    row_weights: np.ndarray
    choices: tuple[Choice | None, ...]
    shared: Sequence[Level] | None


@dataclass(frozen=True)
class _Classes:
    """What is known of every class, one at a time as labels 0 (lacks it) and 1 (has it)."""

    manifest: Manifest
    trusted: Trusted
    trainer: Trainer
    rows: Rows
    crossed: CrossFit | None
    thresholds: Thresholds
    probs: np.ndarray
    probe: CrossFit | None

    def state(self, label: int) -> np.ndarray:
        """(N,) int64 as given, -1 unlabelled."""
        assert self.manifest.targets is not None
        return np.where(self.manifest.given >= 0, self.manifest.targets[:, label] >= HALF, -1).astype(
            np.int64
        )

    def trusted_state(self, label: int) -> Trusted:
        """The verified labels of a class."""
        verified = self.manifest.targets if self.trusted.targets is None else self.trusted.targets
        assert verified is not None
        state = np.where(self.trusted.label >= 0, verified[:, label] >= HALF, -1).astype(np.int64)
        return dataclasses.replace(self.trusted, label=state, targets=None)

    def of_class(self, label: int) -> Rows:
        """What became of the rows, for one class."""
        given, verified = self.state(label), self.trusted_state(label)
        trained = np.where((verified.label >= 0) & ~verified.is_scored, verified.label, given)
        return dataclasses.replace(
            self.rows,
            given=np.where(self.rows.given >= 0, given, -1),
            trained=np.where(self.rows.trained >= 0, trained, -1),
            num_classes=2,
            of_one_class=True,
        )

    @property
    def folds(self) -> np.ndarray | None:
        """(N,) int64, the fold that held a row out, -1 for none; None without folds."""
        return None if self.crossed is None else self.crossed.fold_of_row

    @property
    def speaks_for_itself(self) -> bool:
        """Whether the method's own model is asked, as its paper does."""
        method = self.trainer.method
        return self.folds is None and isinstance(method, MultiLabelPencil) and method.speaks_for_itself

    def own_evidence(self, label: int) -> tuple[Evidence, np.ndarray]:
        """What the method's own model says of a class; as `evidence`."""
        rows, method = self.of_class(label), self.trainer.method
        assert isinstance(method, MultiLabelPencil)
        probs = _two(as_given(self.probs[:, label], rows.given, self._unseen(rows)))
        evidence = of_own_model(rows, method.own_evidence_of(label), self.thresholds, probs)
        return evidence, rows.of_unknown_class(None)

    def told(self) -> _Told:
        """What networks say of every class of the rows that they never saw, and the noise that its labels share."""
        unseen, averaged, row_weights = (np.empty(self.probs.shape) for _ in range(3))
        given, choices = np.empty(self.probs.shape, np.int64), []
        for label in range(self.probs.shape[1]):
            rows = self.of_class(label)
            never, given[:, label] = self._unseen(rows), np.where(rows.of_split, -1, rows.given)
            averaged[:, label] = self._averaged(label, rows.given, never)
            if self.folds is None:
                network, probed = np.nan_to_num(_two(averaged[:, label])), self._probed(label, rows)
                found = as_if_unseen(rows, network, self.thresholds, probed)
                choices.append(found.choice)
                unseen[:, label], row_weights[:, label] = found.probs[:, 1], found.row_weights
            else:
                choices.append(None)
                known = as_given(self.probs[:, label], rows.given, never)
                unseen[:, label], row_weights[:, label] = np.where(never, known, np.nan), never
        thresholds = self.thresholds
        told = np.where(self.rows.of_split[:, None], 1.0, row_weights)
        shared = shared_noise(unseen, given, told, thresholds.sure, thresholds.anchor_share)
        return _Told(unseen, averaged, row_weights, tuple(choices), shared)

    def _unseen(self, rows: Rows) -> np.ndarray:
        """(N,) bool, rows that no network saw that speaks of them."""
        return (rows.held_out if self.folds is None else self.folds >= 0) | rows.of_split

    def evidence(self, label: int, told: _Told) -> tuple[Evidence, np.ndarray]:
        """Of a class, and (N,) bool the rows that keep their label as their network never saw another of its kind."""
        method, rows = self.trainer.method, self.of_class(label)
        unseen, of_class, choice = self._unseen(rows), told.unseen[:, label], told.choices[label]
        probs = _two(as_given(self.probs[:, label], rows.given, unseen))
        # Probabilities of a class of too few rows are not calibrated, and the noise of the others does not fit them.
        levels = told.shared if has_both(rows.given[unseen & np.isfinite(of_class)]) else None
        if self.folds is not None:
            averaged = _two(told.averaged[:, label])
            evidence = of_folds(rows, averaged, method.score, self.thresholds, self.folds, probs, levels)
        else:
            known = AsIfUnseen(_two(of_class), choice, told.row_weights[:, label])
            evidence = of_training(rows, known, method.score, self.thresholds, probs, levels)
            if choice is not None and NETWORK not in choice.taken:
                unseen = np.isfinite(of_class)
        # Rows of a test split alone say nothing of the others, which the network was trained on.
        checks = self.folds is not None or rows.held_out.any()
        if checks and not tells_apart(of_class, rows.given, unseen):
            evidence = _without_corrections(evidence)
        return evidence, rows.of_unknown_class(self.folds)

    def _probed(self, label: int, rows: Rows) -> np.ndarray | None:
        """(N, 2) what the linear probe says of a class of rows that it never saw; None without one."""
        if self.probe is None:
            return None
        told = expit(self.probe.logits[:, label].astype(np.float64))
        return rows.probed(self.probe, _two(as_given(told, rows.given, np.isfinite(told))))

    def nothing(self, reason: str) -> tuple[Evidence, np.ndarray]:
        """No evidence at all, and why."""
        count = self.manifest.num_rows
        nothing = np.full((count, 2), np.nan, np.float32)
        return Evidence(np.full(count, np.nan), nothing, Fit(ok=False, reason=reason)), np.zeros(count, bool)

    def _averaged(self, label: int, given: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        """(N,) averaged predictions of having a class; NaN for rows without."""
        averaged = self.trainer.method.ensembled_probs.cpu().double().numpy()
        known = averaged.sum(axis=1) > 0
        return as_given(np.where(known, averaged[:, label], np.nan), given, unseen)


def _without_corrections(evidence: Evidence) -> Evidence:
    """Of a class whose rows the network does not tell from others; flagged is what is more probably wrong than not."""
    reason = "too weak to say: the network does not tell rows that have it from others; none is changed"
    return dataclasses.replace(
        evidence,
        fit=dataclasses.replace(evidence.fit, keeps_labels=True, reason=reason),
        rule=dataclasses.replace(
            evidence.rule, relabel_odds=np.inf, flag_above=max(evidence.rule.flag_above, HALF)
        ),
    )


def _two(probs: np.ndarray) -> np.ndarray:
    """(N, 2) probabilities of lacking and of having a class, from those of having it (N,)."""
    return np.stack([1 - probs, probs], axis=1)


def _together(
    manifest: Manifest,
    store: ImageStore,
    trusted: Trusted,
    found: Sequence[Findings],
    probs: np.ndarray,
    err_alike: bool,
    around: Around,
) -> MultiLabelFindings:
    assert manifest.targets is not None
    count = manifest.num_rows
    labels = np.stack([one.verdicts.corrected for one in found], axis=1)
    removed = np.zeros(count, bool) if manifest.removed is None else manifest.removed
    said = manifest.said_targets
    return MultiLabelFindings(
        given=np.nan_to_num(manifest.targets) >= HALF,
        labelled=manifest.given >= 0,
        noise=np.stack([one.evidence.noise for one in found], axis=1),
        beliefs=np.stack([one.evidence.probs[:, 1] for one in found], axis=1),
        probs=probs,
        flagged=np.stack([one.verdicts.flagged for one in found], axis=1),
        corrected=labels == 1,
        decided=(labels >= 0).all(axis=1) & ~removed,
        trusted=trusted.label >= 0,
        valid=store.valid,
        errors=store.errors,
        removed=removed,
        said=(np.nan_to_num(said) >= HALF, ~np.isnan(said).any(axis=1)),
        fits=tuple(one.verdicts.fit for one in found),
        rules=tuple(one.evidence.rule for one in found),
        diagnostics=tuple(one.evidence.diagnostics for one in found),
        err_alike=err_alike,
        around=around,
    )


def write(path: Path, manifest: Manifest, findings: MultiLabelFindings, metadata: dict[str, Any]) -> None:
    """Write the table atomically, one row group in memory at a time; as `corrections.write`."""
    names = manifest.class_names
    text = _metadata(manifest, findings, metadata)
    fields = [*multi_label_fields(len(names)), *manifest.pass_through_fields]
    table_schema = pa.schema(fields, metadata={METADATA_KEY: text})
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, table_schema) as writer:
        first = 0
        for batch in manifest.batches(ROW_GROUP):
            rows = slice(first, first + batch.num_rows)
            found = columns(names, findings, batch.column(0), rows)
            chunk = pa.RecordBatch.from_arrays([*found, *batch.columns[2:]], schema=table_schema)
            writer.write_batch(chunk, row_group_size=ROW_GROUP)
            first = rows.stop


def _metadata(manifest: Manifest, findings: MultiLabelFindings, metadata: dict[str, Any]) -> bytes:
    names = manifest.class_names
    above = ", ".join(
        f"{name} {rule.flag_above:.9g}" for name, rule in zip(names, findings.rules, strict=True)
    )
    sentence = (
        f"flagged: a class_noise_scores > the number of its class ({above}); corrected: flagged, and the other state of"
        " the class is probable enough against the given one, unless its labels look clean or the network is too weak"
    )
    facts = {
        "schema_version": 1,
        "labelfix_version": version("labelfix"),
        "class_names": list(names),
        "score_direction": "noise_score: high = suspect; label_score = 1 - noise_score",
        "flag_rule": sentence,
        "flag_above": [
            rule.flag_above if fit.ok else 1.0
            for rule, fit in zip(findings.rules, findings.fits, strict=True)
        ],
        "fit_ok": findings.fit_ok,
        "out_of_sample": False,
        "noise_rate": findings.noise_rate,
        "task": manifest.task,
        "source_fingerprint": manifest.fingerprint,
        **metadata,
    }
    return json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()


def columns(
    class_names: Sequence[str], findings: MultiLabelFindings, file_names: pa.Array, rows: slice
) -> Iterator[pa.Array]:
    """The columns of some rows, in the order of `multi_label_fields`."""
    names = pa.array(class_names, pa.string())
    labelled, valid, trusted = findings.labelled[rows], findings.valid[rows], findings.trusted[rows]
    probs, noise = findings.probs[rows], np.clip(findings.noise[rows], 0, 1).astype(np.float32)
    given, corrected = findings.given[rows], findings.corrected[rows]
    seen = valid & np.isfinite(probs).all(axis=1)
    soft = np.where((labelled | trusted)[:, None], findings.beliefs[rows], probs)
    believed = valid & np.isfinite(soft).all(axis=1)
    scored = valid & labelled & np.isfinite(noise).all(axis=1)
    decided = findings.decided[rows]
    worst = np.where(scored[:, None], noise, 0).max(axis=1)
    known = np.where(believed[:, None], soft, 0)
    confidence = np.where(corrected, known, 1 - known).min(axis=1)
    both = decided & labelled
    said, was_labelled = (part[rows] for part in findings.said)
    yield pa.array(np.arange(rows.start, rows.start + len(valid)))
    yield file_names
    yield label_lists(said, was_labelled, names)
    yield pa.array(worst, mask=~scored)
    yield pa.array(1 - worst, mask=~scored)
    yield pa.array(findings.flagged[rows].any(axis=1))
    yield label_lists(corrected, decided, names)
    yield pa.array(confidence.astype(np.float32), mask=~(decided & believed))
    yield number_lists(soft, believed)
    yield label_lists(np.where(seen[:, None], probs, 0) >= HALF, seen, names)
    yield number_lists(probs, seen)
    yield pa.array(trusted)
    yield pa.array(valid)
    yield error_array(findings.errors, rows.start, valid)
    yield from _around(findings.around, rows, len(valid))
    yield number_lists(noise, scored)
    yield label_lists(corrected & ~given, both, names)
    yield label_lists(given & ~corrected, both, names)


def _around(around: Around, rows: slice, count: int) -> Iterator[pa.Array]:
    copies, nowhere = around.copies[rows], np.full(count, np.nan, np.float32)
    outlier = nowhere if around.outlier_score is None else around.outlier_score[rows]
    issue = np.full(count, -1) if around.image_issue is None else around.image_issue[rows]
    yield pa.array(copies, mask=copies < 0)
    yield pa.array(outlier, mask=~np.isfinite(outlier))
    yield label_array(issue, issue >= 0, pa.array(ISSUES, pa.string()))


def summarise(manifest: Manifest, findings: MultiLabelFindings, facts: dict[str, Any]) -> dict[str, Any]:
    """The content of summary.json, as `summary.summarise` has it, with what it says of every class."""
    names, rows = manifest.class_names, findings.eligible
    changed = (findings.corrected != findings.given) & rows[:, None]
    around = findings.around
    return {
        **facts,
        "task": "multi",
        "fit_ok": findings.fit_ok,
        "fit_reason": findings.reason(names),
        "noise_rate": findings.noise_rate,
        "noise_rate_by_class": {name: _mean(findings.noise[rows, label]) for label, name in enumerate(names)},
        "rates_by_class": {
            name: _rates(findings, label, changed[:, label]) for label, name in enumerate(names)
        },
        "class_names": list(names),
        "transition_matrix": None,
        "counts": {
            "rows": manifest.num_rows,
            "judged": int(rows.sum()),
            "flagged": int(findings.flagged.any(axis=1).sum()),
            "corrected": int(changed.any(axis=1).sum()),
            "added_labels": int((changed & ~findings.given).sum()),
            "removed_labels": int((changed & findings.given).sum()),
            "unlabelled": int((~findings.said[1]).sum()),
            "removed": int(findings.removed.sum()),
            "trusted": int(findings.trusted.sum()),
            "held_out": int(manifest.held_out.sum()),
            "invalid": int((~findings.valid).sum()),
        },
        "image_issues": image_issue_counts(around),
        "copies": {**copies_summary(manifest, around.copies), **around.facts},
        "diagnostics": {
            "err_alike": findings.err_alike,
            "by_class": dict(zip(names, findings.diagnostics, strict=True)),
        },
    }


def _rates(findings: MultiLabelFindings, label: int, changed: np.ndarray) -> dict[str, Any]:
    """What is estimated and done of one class; rates in 0..1, None where there is nothing to estimate."""
    rows, has = findings.eligible, findings.given[:, label]
    noise = findings.noise[:, label]
    fit = findings.fits[label]
    return {
        "given": int((rows & has).sum()),
        "missing_rate": _mean(noise[rows & ~has]),
        "wrong_rate": _mean(noise[rows & has]),
        "added": int((changed & ~has).sum()),
        "removed": int((changed & has).sum()),
        "flag_above": findings.rules[label].flag_above,
        "fit_ok": fit.ok,
        "reason": fit.reason,
    }


def _mean(noise: np.ndarray) -> float | None:
    return float(noise.mean()) if len(noise) and np.isfinite(noise).all() else None

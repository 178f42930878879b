"""score_labels(): the findings of labels and numbers that are there already: predictions or features of one's own."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labelfix.accessor import frame_of, read_corrections
from labelfix.accessor.rows import PATH, SUMMARY
from labelfix.data.images.store import ImageStore
from labelfix.data.own_numbers import (
    FEATURES,
    PRED_PROBS,
    checked_features,
    checked_probs,
    read_numbers,
    shown,
)
from labelfix.data.readers.labels import class_order, label_texts
from labelfix.data.verified_labels import Trusted, scored_rows
from labelfix.errors import InputError
from labelfix.estimation.held_out import judged_evidence
from labelfix.results import corrections
from labelfix.results.around import Around
from labelfix.results.conclude import Readable, conclude
from labelfix.results.corrections import PRED_PROBS_METHOD, Findings

_KEPT = ("fit_ok", "fit_reason", "noise_rate", "diagnostics")
_LABELS = Path("labels")  # what messages call them
_INTEGER = re.compile(r"[0-9]{1,9}")


def score_labels(
    labels: Any,
    probs: Any = None,
    *,
    features: Any = None,
    groups: Any = None,
    class_names: Sequence[str] | None = None,
    trusted: Any = None,
    method: str = "auto",
    seed: int = 0,
) -> pd.DataFrame:
    """Find the wrong labels by the predictions of a model that never saw the rows, such as those of cross-validation.

    What is wrong, and what it should be, is estimated as with folds (see the page "Estimation"): no training, nothing
    drawn, the same result for the same numbers. Where there are only features a head is trained on them in folds, as
    `labelfix scan --features` does.

    >>> import labelfix
    >>> probs = [[0.9, 0.1]] * 30 + [[0.2, 0.8]] * 30
    >>> df = labelfix.score_labels(["cat"] * 29 + ["dog"] * 31, probs)
    >>> df.labelfix.top(1)[["given_label", "predicted_label"]].values.tolist()
    [['dog', 'cat']]

    Args:
        labels: N given labels, texts or integers; None, NaN or "" (of integers -1) where there is none.
        probs: (N, K) out-of-sample probabilities, rows that sum to 1: an array, a tensor, a frame, or a file as for
            `--pred-probs`; None to predict by `features`.
        features: (N, D) features, as for `--features`. Beside `probs` they tell near copies, which are judged together,
            and outliers.
        groups: N groups of rows that are held out together, texts or numbers; for `features`. Default none.
        class_names: the K classes in the order of the columns of `probs`. By default the classes that occur in
            `labels`, in numeric order where all are integers, else in code-point order, as scikit-learn has them; and
            where the labels are integers below K, the classes 0 to K-1.
        trusted: (N,) bool, rows whose given label a person has verified; or N verified labels, None where nobody has.
            Such rows are never flagged. Default none.
        method: how the head on `features` is trained; auto compares several.
        seed: of its training.

    Returns:
        A frame with the columns of corrections.parquet, a row for every label in their order, that answers as
        `df.labelfix`. `df.attrs["labelfix"]` holds what the metadata of the file would, `df.attrs["labelfix_summary"]`
        the finding in words (`fit_reason`) and numbers (`diagnostics`: `estimate`, `controls`).

    Raises:
        InputError: labels and probabilities that do not fit each other, or are none; names the row.
    """
    texts = _texts(labels)
    if probs is None:
        return _by_features(texts, features, groups, trusted, method, seed)
    if groups is not None:
        raise InputError(
            "groups: with probs nothing is trained, so that none is held out; leave one of them out"
        )
    numbers = read_numbers(probs, PRED_PROBS if isinstance(probs, str | Path) else "probs")
    names = _classes(texts, numbers.names if class_names is None else class_names, numbers.values.shape[1])
    given = _indices(texts, names, "labels")
    found = checked_probs(numbers, names, len(given))
    store, seen = ImageStore.without_images(len(given)), None
    if features is not None:
        option = FEATURES if isinstance(features, str | Path) else "features"
        seen = checked_features(read_numbers(features, option), len(given)).__getitem__
    findings = conclude(
        judged_evidence(found, given),
        found.astype(np.float32),
        given,
        Readable(store.valid, store.errors),
        _trusted(trusted, given, names),
        names,
        around=Around.of(store, seen),
    )
    return _frame(names, given, findings, numbers.sha256)


def _by_features(
    texts: list[str | None], features: Any, groups: Any, trusted: Any, method: str, seed: int
) -> pd.DataFrame:
    """The findings of a scan of the features, in a folder that is gone again afterwards."""
    # torch, which predictions need not.
    from labelfix.pipeline import scan

    if features is None:
        raise InputError("probs and features: neither is given; give one of them")
    table = pd.DataFrame({"label": pd.Series(texts, dtype=object)})
    if groups is not None:
        table["group"] = label_texts(groups, Path("groups"))
    with tempfile.TemporaryDirectory(prefix="labelfix-") as folder:
        verified = None
        if trusted is not None:
            label = _verified(trusted, texts)
            verified = Path(folder, "trusted.csv")
            found = pd.DataFrame({"sample_id": np.arange(len(label)), "label": label})
            found[found["label"].notna()].to_csv(verified, index=False)
        run = scan(
            table,
            features=features,
            no_images=True,
            trusted=verified,
            method=method,
            seed=seed,
            out=Path(folder, "run"),
        )
        frame = read_corrections(run.out)
    del frame.attrs[PATH]
    frame.attrs[SUMMARY] = {name: run.summary[name] for name in _KEPT}
    return frame.drop(columns="group", errors="ignore")


def _texts(labels: Any) -> list[str | None]:
    texts = [None if text is None else text.strip() or None for text in label_texts(labels, _LABELS)]
    if not any(texts):
        raise InputError("labels: none is given; give one for each row of the probabilities")
    whole = all(text is None or text == "-1" or _INTEGER.fullmatch(text) for text in texts)
    return [None if whole and text == "-1" else text for text in texts]


def _classes(texts: Sequence[str | None], named: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The classes, in the order of the columns of the probabilities."""
    if named is not None:
        return tuple(str(name).strip() for name in named)
    known = {text for text in texts if text is not None}
    if len(known) != count and all(_INTEGER.fullmatch(text) and int(text) < count for text in known):
        return tuple(map(str, range(count)))
    if len(known) != count:
        raise InputError(
            f"labels: there are {len(known)} classes ({shown(class_order(known))}), but {count} columns of"
            " probabilities; name the classes in their order with class_names"
        )
    return class_order(known)


def _indices(texts: Sequence[str | None], names: Sequence[str], title: str) -> np.ndarray:
    place = {name: index for index, name in enumerate(names)}
    if len(place) < len(names) or len(names) < 2:
        raise InputError(f"class_names: {shown(names)} are not at least two different names; correct them")
    indices = np.array([-1 if text is None else place.get(text, -2) for text in texts], np.int64)
    bad = np.flatnonzero(indices < -1)
    if len(bad):
        raise InputError(f"{title}: row {bad[0]} has {texts[bad[0]]!r}, which is no class ({shown(names)})")
    return indices


def _trusted(trusted: Any, given: np.ndarray, names: Sequence[str]) -> Trusted:
    """Verified labels; half of those of a class check the findings where many differ, as with a --trusted file."""
    nowhere = np.zeros(len(given), dtype=bool)
    if trusted is None:
        return Trusted(np.full(len(given), -1), nowhere, "", nowhere)
    texts = [None if label < 0 else names[label] for label in given.tolist()]
    label = _indices(_verified(trusted, texts), names, "trusted")
    rows = np.flatnonzero(label >= 0)
    is_scored = nowhere.copy()
    is_scored[scored_rows(rows, label[rows], given, nowhere)] = True
    return Trusted(label, is_scored, "", nowhere)


def _verified(trusted: Any, texts: Sequence[str | None]) -> list[str | None]:
    """The verified label of each row, None for none; of a mask the given ones (`texts`)."""
    values = np.asarray(trusted)
    if len(values) != len(texts):
        raise InputError(
            f"trusted: it has {len(values)} entries, but there are {len(texts)} labels; give one for each"
        )
    if values.dtype == bool:
        return [text if is_right else None for text, is_right in zip(texts, values.tolist(), strict=True)]
    return [None if text is None else text.strip() or None for text in label_texts(trusted, Path("trusted"))]


def _frame(names: tuple[str, ...], given: np.ndarray, findings: Findings, sha256: str) -> pd.DataFrame:
    fingerprint = hashlib.sha256(f"{sha256} {names}".encode() + given.tobytes()).hexdigest()
    metadata = corrections.full_metadata(
        names,
        given,
        findings,
        {
            "task": "single",
            "method": PRED_PROBS_METHOD,
            "seed": 0,
            "source_fingerprint": fingerprint,
            "out_of_sample": True,
            "resumed_elsewhere": False,
        },
    )
    frame = frame_of(corrections.table(names, given, findings, metadata), metadata)
    fit = findings.verdicts.fit
    known = (fit.ok, fit.reason, metadata["noise_rate"], findings.evidence.diagnostics)
    frame.attrs[SUMMARY] = dict(zip(_KEPT, known, strict=True))
    return frame

"""Cross-fitting: how rows are assigned to folds, what a scan with folds finds, and what it survives."""

from __future__ import annotations

import json
import re
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import assume, settings, strategies
from hypothesis import given as for_all
from processes import kill, start
from processes import labelfix as command
from references import softmax
from refusals import refuses
from runs import findings_of, result_bytes, table, weights_of, write

import labelfix
from labelfix.config import ScanOptions
from labelfix.data.images.store import ImageStore
from labelfix.estimation.held_out import judged_evidence
from labelfix.reporting import Silent
from labelfix.scan_plan import ScanPlan
from labelfix.training.batches import seed_of
from labelfix.training.folds import _ASSIGN_SEED, assign_folds, folds_of_rows, hold_out, most_varied
from labelfix.training.setup import make_trainer, open_images, training_labels

QUICK = {
    "method": "cross-entropy", "epochs": 2, "folds": 3, "batch_size": 64, "image_size": 8, "precision": "fp32",
}  # fmt: skip


def scan(source, out, **options):
    return labelfix.scan(source, out=out, **{**QUICK, **options})


def epochs_of(run) -> pd.DataFrame:
    return pd.read_parquet(run.out / "epochs.parquet").drop(columns="elapsed_seconds")


# ---------------------------------------------------------------- assigning folds


@strategies.composite
def assignments(draw):
    """Labels, groups or None, a number of folds that they are enough for, and the folds assigned."""
    labels = np.array(draw(strategies.lists(strategies.integers(-1, 4), min_size=2, max_size=60)))
    size = len(labels)
    codes = strategies.lists(strategies.integers(0, 25), min_size=size, max_size=size)
    groups = draw(strategies.none() | codes.map(np.array))
    units = np.arange(size) if groups is None else groups
    most = len(set(units[labels >= 0]))
    assume(most >= 2)
    folds = draw(strategies.integers(2, min(7, most)))
    return labels, groups, folds, assign_folds(labels, groups, folds, draw(strategies.integers(0, 9)))


def is_even(fold_of, folds: int) -> bool:
    sizes = np.bincount(list(fold_of), minlength=folds)
    return sizes.max() - sizes.min() <= 1


@settings(max_examples=150, deadline=None)
@for_all(assignments())
def test_every_labelled_row_is_in_one_fold_and_folds_and_classes_are_even(found):
    labels, groups, folds, fold_of = found
    assert fold_of.shape == labels.shape
    assert fold_of.dtype == np.int64
    np.testing.assert_array_equal(fold_of >= 0, labels >= 0)
    np.testing.assert_array_equal(fold_of[labels < 0], -1)
    of_unit, class_of_unit = {}, {}
    for row in np.flatnonzero(labels >= 0):
        unit = row if groups is None else groups[row]
        assert of_unit.setdefault(unit, fold_of[row]) == fold_of[row]  # a group is never split
        class_of_unit.setdefault(unit, labels[row])
    assert set(of_unit.values()) == set(range(folds))
    assert is_even(of_unit.values(), folds)
    for label in set(class_of_unit.values()):
        assert is_even([fold for unit, fold in of_unit.items() if class_of_unit[unit] == label], folds)


def test_a_class_smaller_than_the_number_of_folds_is_no_error():
    fold_of = assign_folds(np.array([0] * 20 + [1, 2]), None, 5, seed=0)
    assert is_even(fold_of, 5)


def test_the_seed_alone_decides():
    labels = np.arange(100) % 4
    first, again, other = (assign_folds(labels, None, 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("groups", "there_are"), [(None, "6 rows"), (np.array([0, 0, 1, 1, 2, 2, 9]), "3 groups")]
)
def test_more_folds_than_rows_or_groups_is_one_line(groups, there_are):
    labels = np.array([0, 1, 0, 1, 0, 1, -1])
    line = refuses(lambda: assign_folds(labels, groups, 7, seed=0))
    assert line == f"--folds 7: there are only {there_are} to hold out; use fewer folds"


# ---------------------------------------------------------------- a scan

UNLABELLED, INVALID, TRUSTED, SPLIT = [3, 50], [7], np.arange(20, 32), np.arange(100, 130)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """A scan in 3 folds of every kind of row, in groups of two and three, and the same without folds."""
    folder = tmp_path_factory.mktemp("crossed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        frame, _ = table(folder)
        frame.loc[UNLABELLED, "label"] = ""
        (folder / frame.file_name[INVALID[0]]).write_text("no image")
        frame["is_trusted"] = np.where(frame.index.isin(TRUSTED), "1", "")
        frame["split"] = np.where(frame.index.isin(SPLIT), "test", "train")
        frame["group"] = [f"video {row // 3}" if row < 150 else "" for row in frame.index]
        source = write(folder, frame)
        run = scan(source, folder / "run")
        plain = scan(source, folder / "plain", folds=None, holdout=0)
        job = ScanPlan.of(source, {**QUICK, "out": folder / "other"}, Silent())
        store = ImageStore.open_or_build(job.manifest, 8)
        labels = training_labels(job.manifest, store.valid, job.trusted)
        held_out = folds_of_rows(labels, job.manifest.groups, job.trusted, job.config)
        images = open_images(store, job.config)
    return SimpleNamespace(
        folder=folder, frame=frame, source=source, run=run, plain=plain, found=findings_of(run),
        probs=np.stack([np.full(10, np.nan) if p is None else p for p in findings_of(run).predicted_probs]),
        config=job.config, images=images, labels=labels, fold_of=held_out,
    )  # fmt: skip


def test_rows_that_are_eligible_and_trained_on_are_held_out_in_whole_groups(crossed):
    kinds = [*UNLABELLED, *INVALID, *TRUSTED, *SPLIT]
    expected = ~crossed.frame.index.isin(kinds)
    np.testing.assert_array_equal(crossed.fold_of >= 0, expected)
    grouped = crossed.frame.assign(fold=crossed.fold_of)[expected & (crossed.frame.group != "")]
    assert (grouped.groupby("group").fold.nunique() == 1).all()
    assert grouped.fold.nunique() == 3


def test_every_row_is_predicted_by_a_network_that_never_saw_it(crossed):
    expected = np.full((240, 10), np.nan)
    for fold in range(3):
        rows = np.flatnonzero(crossed.fold_of == fold)
        masked = np.where(crossed.fold_of == fold, -1, crossed.labels)
        with torch.random.fork_rng():
            trainer = make_trainer(crossed.images, masked, 10, crossed.config, np.arange(240), fold)
        for _ in trainer.epochs():
            pass
        expected[rows] = softmax(trainer.predict("plain").numpy())[rows]
    held_out = crossed.fold_of >= 0
    np.testing.assert_allclose(crossed.probs[held_out], expected[held_out], atol=1e-6)
    exported = findings_of(crossed.plain)
    own = np.stack([np.full(10, np.nan) if p is None else p for p in exported.predicted_probs])
    assert (np.abs(own - expected)[held_out].max(axis=1) > 1e-3).all()
    others = crossed.found.is_valid & ~held_out
    np.testing.assert_array_equal(crossed.probs[others], own[others])
    assert np.isnan(crossed.probs[INVALID]).all()


def test_the_exported_classifier_is_that_of_a_scan_without_folds(crossed):
    assert weights_of(crossed.run) == weights_of(crossed.plain)
    reported = [
        json.loads(pq.read_schema(run.corrections).metadata[b"labelfix"])
        for run in (crossed.run, crossed.plain)
    ]
    assert [facts["out_of_sample"] for facts in reported] == [True, False]
    assert crossed.run.summary["out_of_sample"]


def test_the_evidence_is_read_once_from_the_predictions_of_all_folds(crossed):
    """In the order of 1 - p(given), as this method ranks rows that were held out, and judged by all of them."""
    given = pd.to_numeric(crossed.frame.label).fillna(-1).to_numpy(int)
    scored = (crossed.fold_of >= 0) | np.isin(np.arange(240), SPLIT)
    probs = np.where(scored[:, None], crossed.probs, np.nan)
    own = crossed.probs[np.arange(240), given]
    expected = judged_evidence(probs, np.where(scored, given, -1), score=1 - own)
    np.testing.assert_allclose(crossed.found.noise_score[scored], expected.noise[scored], atol=1e-3)
    found = np.stack(crossed.found.label_distribution[scored])
    np.testing.assert_allclose(found, expected.probs[scored], atol=1e-3)
    assert crossed.run.summary["noise_rate"] == pytest.approx(expected.noise[scored].mean(), abs=1e-3)
    assert crossed.run.summary["diagnostics"]["estimate"]["finding"] in ("noisy", "clean", "unclear")


def test_epochs_tell_of_every_fold_and_of_the_training_on_all_rows(crossed):
    epochs = epochs_of(crossed.run)
    assert epochs.epoch.tolist() == [1, 2] * 4
    assert epochs.fold.fillna(-1).tolist() == [0, 0, 1, 1, 2, 2, -1, -1]
    assert epochs[["loss_cross_entropy", "test_accuracy", "trusted_accuracy"]].notna().all(axis=None)
    assert epochs.loss_cross_entropy.nunique() == 8
    alone = epochs_of(crossed.plain)
    assert alone.fold.isna().all()
    columns = [name for name in epochs if name != "fold"]
    pd.testing.assert_frame_equal(epochs[columns][6:].reset_index(drop=True), alone[columns])


def test_the_effort_of_the_folds_is_reported_beside_that_of_the_classifier(crossed):
    summary = crossed.run.summary
    trained = (crossed.labels >= 0).sum()
    passes = 3 * trained - (crossed.fold_of >= 0).sum()
    assert summary["forward_units_per_row"] == pytest.approx(3 * 2 * passes / trained, abs=0.01)
    assert summary["classifier_forward_units_per_row"] == 3 * 2
    # Rows of a split are predicted in an epoch of the average.
    assert 3 * 2 < crossed.plain.summary["forward_units_per_row"] < 3 * 2.1
    assert "classifier_forward_units_per_row" not in crossed.plain.summary


def test_a_dry_run_estimates_the_effort_of_the_folds_and_of_the_classifier(crossed):
    names = ("forward_units_per_row", "classifier_forward_units_per_row")
    for folds, summary in ((3, crossed.run.summary), (None, crossed.plain.summary)):
        options = {**QUICK, "folds": folds, "holdout": 0, "out": crossed.folder / "planned"}
        planned = labelfix.plan(crossed.source, **options)
        assert planned["folds"] == (folds or 0)
        assert planned["phases"] == {"train": 2}
        assert [name for name in names if name in planned] == [name for name in names if name in summary]
        for name in set(names) & set(planned):  # it has not found out yet that one image cannot be read
            assert planned[name] == pytest.approx(summary[name], rel=0.01)
    assert not (crossed.folder / "planned").exists()


# ---------------------------------------------------------------- verified rows


def test_verified_rows_kept_for_scoring_are_held_out_and_measured_by_their_own_score(tmp_path):
    """All others with a verified label train in every fold."""
    frame, true = table(tmp_path, 300, "symmetric-exclusive:0.3")
    file = pd.DataFrame({"sample_id": range(160), "label": true[:160]})
    kept = np.concatenate([np.flatnonzero(true[:160] == name)[1::2] for name in np.unique(true)])
    trusted, source = write(tmp_path, file, "trusted.csv"), write(tmp_path, frame)
    options = {**QUICK, "method": "confident-learning", "folds": 2, "epochs": 6, "trusted": trusted}
    job = ScanPlan.of(source, {**options, "out": tmp_path / "none"}, Silent())
    labels = np.where(job.trusted.is_scored, job.manifest.given, job.trusted.label)
    labels[160:] = job.manifest.given[160:]
    fold_of = folds_of_rows(labels, job.manifest.groups, job.trusted, job.config)
    assert sorted(np.flatnonzero(fold_of[:160] >= 0)) == sorted(kept)
    assert (fold_of[160:] >= 0).all()
    run = labelfix.scan(source, out=tmp_path / "run", **options)
    df = findings_of(run)
    wrong = frame.label.to_numpy(object) != true
    np.testing.assert_array_equal(df.noise_score[:160], wrong[:160])
    raw = 1 - np.stack(df.predicted_probs)[np.arange(300), job.manifest.given]
    shown, labels = np.stack(df.predicted_probs), np.where(fold_of >= 0, job.manifest.given, -1)
    shown[fold_of < 0] = np.nan
    before = judged_evidence(shown, labels, score=raw).noise[kept]
    reported = run.summary["diagnostics"]["calibration"]
    assert reported["brier_before"] == pytest.approx(np.mean((before - wrong[kept]) ** 2), abs=1e-3)
    assert reported["is_calibrated"]
    flagged, changed, labels = by_the_rule(run)
    np.testing.assert_array_equal(df.is_label_issue, flagged)
    expected = np.where(changed, labels, np.where(df.is_trusted, df.corrected_label, df.given_label))
    np.testing.assert_array_equal(df.corrected_label, expected)


def test_corrections_that_harm_the_verified_rows_are_a_failed_fit(tmp_path):
    """Wrong labels that are sworn to be right: the held-out scores of those rows would change them."""
    frame, true = table(tmp_path, 400)
    given = frame.label.to_numpy(object)
    sworn = given.copy()
    right = np.flatnonzero(given == true)[:24]
    sworn[right] = [str((int(label) + 1) % 10) for label in true[right]]
    rows = np.sort(np.concatenate([right, np.flatnonzero(given != true)]))
    trusted = write(tmp_path, pd.DataFrame({"sample_id": rows, "label": sworn[rows]}), "trusted.csv")
    options = {"method": "confident-learning", "folds": 4, "epochs": 15, "batch_size": 32}
    run = scan(write(tmp_path, frame), tmp_path / "run", trusted=trusted, **options)
    kept = np.concatenate([rows[sworn[rows] == name][1::2] for name in np.unique(sworn[rows])])
    before = (given == sworn)[kept].sum()
    reason = run.summary["fit_reason"]
    assert reason.startswith(f"of {len(kept)} verified rows {before} were given the right label"), reason
    assert not run.summary["fit_ok"]
    assert run.summary["counts"]["flagged"] == 0


# ---------------------------------------------------------------- the rule


def by_the_rule(run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the table and the sentence in its metadata say: rows flagged and changed (N,) bool, the labels they take."""
    df, facts = findings_of(run), json.loads(pq.read_schema(run.corrections).metadata[b"labelfix"])
    numbers = (re.search(f"{words} ([0-9.e+-]+)", facts["flag_rule"]) for words in (">", "at least"))
    flag_above, odds = (np.inf if found is None else float(found[1]) for found in numbers)
    assert odds >= 1
    names, rows = np.array(facts["class_names"]), np.arange(len(df))
    probs, given = np.stack(df.label_distribution), np.searchsorted(names, df.given_label.to_numpy(str))
    own = probs[rows, given]
    probs[rows, given] = -1
    flagged = (df.noise_score.to_numpy() > flag_above) & ~df.is_trusted.to_numpy()
    return flagged, flagged & (probs.max(axis=1) / odds >= own), names[probs.argmax(axis=1)]


def test_the_table_and_the_rule_in_its_metadata_give_every_flag_and_correction(tmp_path):
    """Also where two rows of a class that is none would both be corrected: they alone keep their label."""
    frame, _ = table(tmp_path, 400)
    stray = [5, 6]
    frame.loc[stray, "label"] = "stray"
    options = {"method": "bmm", "folds": 4, "epochs": 15, "batch_size": 32}
    run = scan(write(tmp_path, frame), tmp_path / "run", **options)
    df = findings_of(run)
    flagged, changed, labels = by_the_rule(run)
    assert changed.sum() > 30
    assert changed[stray].all()
    assert "no row of 'stray': those labels are kept" in run.summary["fit_reason"]
    rule = json.loads(pq.read_schema(run.corrections).metadata[b"labelfix"])["flag_rule"]
    assert rule.endswith("a class that this would empty keeps its labels")
    changed[stray] = False
    np.testing.assert_array_equal(df.is_label_issue, flagged)
    np.testing.assert_array_equal(df.corrected_label, np.where(changed, labels, df.given_label))


# ---------------------------------------------------------------- repeats and kills


def test_two_runs_of_a_method_with_a_mixture_give_the_same_bytes(digits, tmp_path):
    first, again, other = (
        scan(digits[0], tmp_path / name, method="bmm", folds=2, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert result_bytes(first.out) == result_bytes(again.out) != result_bytes(other.out)
    assert findings_of(first).noise_score.between(0, 1).all()


COMMAND = (
    "scan", "images", "--out", "run", "--method", "cross-entropy", "--folds", "2", "--epochs", "2",
    "--batch-size", "64", "--image-size", "8", "--precision", "fp32",
)  # fmt: skip
# 300 rows make 5 steps an epoch, the 150 of a fold make 3; the end of a training is reported once more.
WITHIN_A_FOLD, BEFORE_A_FOLD_IS_KEPT = ("fold 1 of 2", 5), ("fold 1 of 2", 7)
BETWEEN_FOLDS, ON_ALL_ROWS = ("fold 2 of 2", 1), ("train", 7)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The 300 digits of `digits`, scanned in two folds at one go."""
    from conftest import write_digits

    folder = tmp_path_factory.mktemp("uninterrupted")
    write_digits(folder / "images", 300, "symmetric-exclusive:0.2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        return scan(folder / "images", folder / "run", folds=2)


def assert_same(run, uninterrupted) -> None:
    assert result_bytes(run.out) == result_bytes(uninterrupted.out)
    pd.testing.assert_frame_equal(epochs_of(run), epochs_of(uninterrupted))
    assert not (run.out / "checkpoint").exists()


@pytest.mark.parametrize(
    ("point", "number"),
    [
        (WITHIN_A_FOLD, signal.SIGINT),
        (WITHIN_A_FOLD, signal.SIGKILL),
        (BEFORE_A_FOLD_IS_KEPT, signal.SIGKILL),
    ],
    ids=["Ctrl-C in its epochs", "kill in its epochs", "kill after its last epoch"],
)
def test_killed_in_a_fold_and_repeated_gives_the_bytes_of_an_uninterrupted_run(
    digits, tmp_path, uninterrupted, point, number
):
    done = start(*point, number, *COMMAND, cwd=tmp_path)
    assert done.returncode == (130 if number == signal.SIGINT else -number), done.stderr
    assert not (tmp_path / "run" / "checkpoint" / "fold-1").exists()
    assert_same(scan(digits[0], tmp_path / "run", folds=2), uninterrupted)


def test_a_finished_fold_is_kept_and_not_trained_again(digits, tmp_path, uninterrupted):
    def kept(fold: int) -> dict:
        return {path.name: path.stat().st_mtime_ns for path in checkpoint.glob(f"fold-{fold}/*")}

    checkpoint = tmp_path / "run" / "checkpoint"
    kill(*BETWEEN_FOLDS, *COMMAND, cwd=tmp_path)
    first = kept(0)
    assert first
    assert not kept(1)
    kill(*ON_ALL_ROWS, *COMMAND, cwd=tmp_path)
    assert kept(0) == first
    assert kept(1)
    assert list(checkpoint.glob("*.json"))
    assert_same(scan(digits[0], tmp_path / "run", folds=2), uninterrupted)


def test_an_unfinished_run_goes_on_with_the_same_folds_or_anew(digits, tmp_path):
    kill(*ON_ALL_ROWS, *COMMAND, cwd=tmp_path)
    for folds in (3, None):
        words = "holds an unfinished run with another folds"
        refuses(scan, words, source=digits[0], out=tmp_path / "run", folds=folds)
    anew = scan(digits[0], tmp_path / "run", folds=2, seed=1, overwrite=True)
    whole = scan(digits[0], tmp_path / "whole", folds=2, seed=1)
    assert_same(anew, whole)


# ---------------------------------------------------------------- bad input


def test_too_few_and_too_many_folds_are_refused_and_leave_nothing_behind(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.pipeline.decoded", lambda *_args, **_named: pytest.fail("decoded"))
    done = command("scan", "images", "--folds", 1, cwd=tmp_path)
    assert done.returncode == 2
    assert "Invalid value for '--folds'" in done.stderr
    frame, _ = table(tmp_path)
    grouped = write(tmp_path, frame.assign(group=frame.index % 4))
    for source, folds, reason in [
        (digits[0], 0, "must be at least 2"),
        (digits[0], 1, "must be at least 2"),
        (digits[0], 301, "there are only 300 rows to hold out"),
        (grouped, 5, "there are only 4 groups to hold out"),
    ]:
        for call in (scan, labelfix.plan):
            refuses(call, f"--folds {folds}: {reason}", source=source, out=tmp_path / "run", folds=folds)
    assert not (tmp_path / "run").exists()


def on_features(folder, rows=3, out="run", groups=None, call=labelfix.scan, **options):
    """A scan of so many rows by heads on features, of which folds are the default."""
    frame = pd.DataFrame(
        {"file_name": [f"{row}.png" for row in range(rows)], "label": ["a", "b", "b"] * (rows // 3)}
    )
    frame.assign(**({} if groups is None else {"group": groups})).to_csv(folder / "rows.csv", index=False)
    numbers = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    return call(folder / "rows.csv", features=numbers, no_images=True, epochs=2, out=folder / out, **options)


class TestUnasked:
    """Heads are trained in 5 folds unless so many are asked for: in fewer where there are fewer rows to hold out."""

    @pytest.mark.parametrize("method", ["auto", "cross-entropy"])
    @pytest.mark.parametrize(
        ("rows", "groups", "folds"),
        [(3, None, 3), (6, None, 5), (6, [0, 0, 1, 1, 2, 2], 3), (3, [0, 0, 1], 0), (6, [0] * 6, 0)],
    )
    def test_as_many_as_there_are_rows_or_groups(self, tmp_path, method, rows, groups, folds):
        planned = on_features(tmp_path, rows, groups=groups, method=method, call=labelfix.plan)
        assert planned["folds"] == folds
        run = on_features(tmp_path, rows, groups=groups, method=method)
        assert json.loads((run.out / "config.json").read_text())["config"]["folds"] == folds
        found = epochs_of(run).fold.dropna()
        assert sorted(set(found)) == [*range(folds)]
        metadata = json.loads(pq.read_schema(run.corrections).metadata[b"labelfix"])
        assert metadata["out_of_sample"] == (folds > 0)

    def test_none_where_all_rows_turn_out_to_be_copies(self, tmp_path):
        frame, _ = table(tmp_path)
        for row in range(1, 6):
            (tmp_path / f"{row:04d}.png").write_bytes((tmp_path / "0000.png").read_bytes())
        source = write(tmp_path, frame.iloc[:6].assign(label=["a", "b"] * 3))
        options = {"encoder": "lite0", "image_size": 32, "epochs": 2}
        assert labelfix.plan(source, out=tmp_path / "run", **options)["folds"] == 5
        run = labelfix.scan(source, out=tmp_path / "run", **options)
        assert epochs_of(run).fold.isna().all()
        assert "looked for in" not in (run.out / "classifier" / "README.md").read_text()

    def test_those_that_are_asked_for_are_needed(self, tmp_path):
        words = "--folds 5: there are only 3 rows to hold out"
        refuses(on_features, words, folder=tmp_path, folds=5)

    def test_a_method_that_is_nothing_without_says_what_is_missing(self, digits, tmp_path):
        frame, _ = table(tmp_path)
        source = write(tmp_path, frame.assign(group=0))
        options = {"method": "confident-learning", "folds": None, "out": tmp_path / "run"}
        refuses(scan, "all rows are of one group", source=source, **options)

    @pytest.mark.parametrize(("left", "there"), [(0, "is none"), (1, "is 1")])
    @pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 3]], ids=["rows", "groups"])
    def test_verified_rows_that_leave_too_few_to_hold_out(self, tmp_path, left, there, groups):
        frame = pd.DataFrame({"file_name": [*"012345"], "label": [*"aabbab"]})
        frame["is_trusted"] = ["1"] * (6 - left) + [""] * left
        source = write(tmp_path, frame if groups is None else frame.assign(group=groups))
        call = partial(
            labelfix.plan, features=np.eye(6, dtype=np.float32), no_images=True, out=tmp_path / "run"
        )
        told = (
            f"{6 - left} of 6 rows to train on have a verified label",
            f"2 {'rows' if groups is None else 'groups'} of others, and there {there}; verify fewer rows",
        )
        refuses(call, *told, "choose another --method", source=source, method="confident-learning")
        refuses(call, *told, "scan without folds", source=source, method="cross-entropy", folds=3)
        assert call(source, method="cross-entropy")["folds"] == 0

    def test_an_unfinished_run_goes_on(self, tmp_path, monkeypatch):
        whole = on_features(tmp_path, out="whole")
        with monkeypatch.context() as patch:
            patch.setattr("labelfix.pipeline.train", lambda *_args, **_named: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                on_features(tmp_path)
        again = on_features(tmp_path)
        assert again.summary["counts"] == whole.summary["counts"]
        assert epochs_of(again).equals(epochs_of(whole))


def test_training_that_diverges_is_a_failed_fit(digits, tmp_path):
    run = scan(digits[0], tmp_path / "run", folds=2, settings={"learning_rate": "1e9"})
    df = findings_of(run)
    assert not run.summary["fit_ok"]
    assert re.match(r"training diverged in epoch [12]; give a lower --set", run.summary["fit_reason"])
    assert not df.is_label_issue.any()
    assert (df.corrected_label == df.given_label).all()
    assert df.noise_score.isna().all()


def test_a_single_fold_that_diverges_is_a_failed_fit(digits, tmp_path, monkeypatch):
    def poisoned(*args, **named):
        trainer = make_trainer(*args, **named)
        if args[5] == 1:  # the fold
            torch.nn.init.constant_(trainer.method.network.head.weight, float("inf"))
        return trainer

    monkeypatch.setattr("labelfix.training.folds.make_trainer", poisoned)
    run = scan(digits[0], tmp_path / "run")
    assert not run.summary["fit_ok"]
    assert "training diverged in epoch 1" in run.summary["fit_reason"]
    assert not findings_of(run).is_label_issue.any()
    assert epochs_of(run).fold.fillna(-1).tolist() == [0, 0, 1, 2, 2, -1, -1]


# ---------------------------------------------------------------- one part held out of a single training


def held(labels, groups=None, share=0.1, **trusted):
    labels = np.asarray(labels)
    nobody = SimpleNamespace(label=np.full(len(labels), -1), is_scored=np.zeros(len(labels), dtype=bool))
    config = SimpleNamespace(holdout=share, seed=0)
    return hold_out(labels, groups, SimpleNamespace(**{**vars(nobody), **trusted}), config)


def test_a_share_of_every_class_is_held_out():
    labels = np.repeat([0, 1, 2, -1], [200, 100, 60, 40])
    found = held(labels)
    assert np.bincount(labels[found], minlength=3).tolist() == [20, 10, 6]
    assert not found[labels < 0].any()
    np.testing.assert_array_equal(found, held(labels))
    assert not held(labels, share=0.0).any()


@pytest.mark.parametrize("share", [0.15, 0.4, 0.35, 0.005])
@pytest.mark.parametrize("is_grouped", [False, True])
def test_as_large_a_share_is_held_out_as_was_asked_for(share, is_grouped):
    labels = np.repeat(np.arange(10), 200)
    groups = np.random.default_rng(1).permutation(np.repeat(np.arange(500), 4)) if is_grouped else None
    found = held(labels, groups, share)
    assert abs(found.mean() - share) < 0.003
    if not is_grouped:
        assert set(np.bincount(labels[found])) == {round(200 * share)}
    else:
        assert set(np.bincount(groups[found])) <= {0, 4}


@pytest.mark.parametrize("rows", [60, 700, 3200, 7000, 30_000])
@pytest.mark.parametrize("is_grouped", [False, True])
def test_unasked_it_is_one_of_equal_parts(rows, is_grouped):
    labels = np.arange(rows) % 3
    groups = np.random.default_rng(0).integers(0, rows // 3, rows) if is_grouped else None
    default = ScanOptions(method="bmm")._holdout(SimpleNamespace(num_rows=rows), 0, SimpleNamespace())
    parts = round(1 / min(max(500 / rows, 0.02), 0.2))
    assert default == round(1 / parts, 4)
    part_of_row = assign_folds(labels, groups, parts, seed_of(0, _ASSIGN_SEED))
    expected = part_of_row == most_varied(part_of_row, groups)
    np.testing.assert_array_equal(held(labels, groups, default), expected)


def test_a_share_that_leaves_out_no_row_is_refused(digits, tmp_path):
    for call in (labelfix.plan, labelfix.scan):
        options = {"source": digits[0], "out": tmp_path / "run", "method": "bmm", "encoder": "none"}
        refuses(call, "--holdout 0.001: ", "of 300 rows", holdout=0.001, **options)
    frame, _ = table(tmp_path)
    source = write(tmp_path, frame.iloc[:9])
    refuses(labelfix.plan, "--holdout 0.2: ", "9 rows", holdout=0.2, **{**options, "source": source})
    grouped = write(tmp_path, frame.assign(group=frame.index % 11))
    refuses(labelfix.plan, "--holdout 0.05: ", "11 groups", holdout=0.05, **{**options, "source": grouped})


def test_groups_are_held_out_as_a_whole_and_verified_rows_never():
    labels, groups = np.tile([0, 1], 100), np.repeat(np.arange(50), 4)
    found = held(labels, groups)
    assert found.sum() == 20
    assert (np.bincount(groups[found], minlength=50) % 4 == 0).all()
    verified = np.where(np.arange(200) < 100, labels, -1)
    assert not held(labels, label=verified)[:100].any()


@pytest.mark.parametrize(
    "labels",
    [[0, 1] * 4, [0] * 19 + [1], np.arange(30)],
    ids=["few rows", "a class of one", "classes of one"],
)
def test_a_class_keeps_a_row_to_train_on(labels):
    left = np.asarray(labels)[~held(labels)]
    assert set(left) == set(np.asarray(labels))


def test_without_folds_a_part_is_left_out_and_with_folds_or_the_paper_s_rule_none(tmp_path, digits):
    def planned(**options):
        return labelfix.plan(digits[0], out=tmp_path / "run", method="bmm", **options)["holdout"]

    assert planned() == 0.2
    assert planned(holdout="0.25") == 0.25
    assert planned(folds=3) == planned(settings={"score_from": "method"}) == planned(holdout=0) == 0
    for wrong in ("half", "0.7", -1, float("nan")):
        refuses(labelfix.plan, f"--holdout {wrong}: use auto, or a share of the rows from 0 to 0.5", source=digits[0],
                out=tmp_path / "run", holdout=wrong)  # fmt: skip
    refuses(labelfix.plan, "--holdout 0.1: with 3 folds every row is held out once", source=digits[0],
            out=tmp_path / "run", holdout=0.1, folds=3)  # fmt: skip


def test_thresholds_are_set_like_settings(tmp_path, digits):
    strict = {"settings": {"least_gain": "0.9", "confidence": 0.8}}
    run = scan(digits[0], tmp_path / "run", folds=None, **strict)
    saved = json.loads((run.out / "config.json").read_text())["config"]
    assert (saved["thresholds"]["least_gain"], saved["thresholds"]["confidence"]) == (0.9, 0.8)
    assert run.summary["counts"]["corrected"] == 0
    assert not {"least_gain", "confidence", "sure"} & saved["settings"].keys()
    for wrong, words in (({"sure": "very"}, "--set sure=very: expected a number"),
                         ({"sure": 2}, "--set sure=2.0: must be a number from 0.5 to 0.999")):  # fmt: skip
        refuses(labelfix.plan, words, source=digits[0], out=tmp_path / "new", settings=wrong)

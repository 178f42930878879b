"""Cross-entropy: parity with the formulas, and its two scores. Confident learning: cleanlab's score, held out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import references
from conftest import write_digits
from digit_training import digit_labels, first_batch, loss_of, make_trainer, numpy
from refusals import refuses
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.methods import method_class


def test_loss_is_cross_entropy_with_the_given_labels():
    trainer = make_trainer("cross-entropy")
    phase = trainer.method.phases()[0]
    parts, (logits,) = loss_of(trainer, phase, first_batch(trainer, phase.views))
    expected = references.cross_entropy(np.eye(10)[digit_labels(200)[0][:40]], numpy(logits))
    assert parts["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)


def test_the_default_score_is_one_minus_the_probability_of_the_given_label():
    given = digit_labels(200)[0]
    probs = np.random.default_rng(0).dirichlet(np.ones(10), 200)
    score = make_trainer("cross-entropy").method.score(probs, np.where(np.arange(200) < 5, -1, given))
    np.testing.assert_allclose(score[5:], 1 - probs[np.arange(5, 200), given[5:]])
    assert np.isnan(score[:5]).all()
    assert make_trainer("cross-entropy", score_from="trajectory").method.score(probs, given) is None


# ---------------------------------------------------------------- confident learning


def test_it_is_the_training_of_cross_entropy():
    first, second = make_trainer("cross-entropy"), make_trainer("confident-learning")
    losses = [[report.losses for report in trainer.epochs()] for trainer in (first, second)]
    assert losses[0] == losses[1]


def test_its_paper_preset_is_the_schedule_of_cross_entropy():
    ours, theirs = (method_class(name).presets()["paper"] for name in ("confident-learning", "cross-entropy"))
    names = ("batch_size", "learning_rate", "train_epochs", "milestones", "average_from", "average_until")
    assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]


def test_it_has_five_folds_unless_another_number_is_asked_for(digits, tmp_path):
    for options, folds in (({}, 5), ({"folds": 3}, 3)):
        planned = labelfix.plan(digits[0], method="confident-learning", out=tmp_path / "run", **options)
        assert planned["folds"] == folds
        # Every fold trains on the rows of all others.
        assert planned["forward_units_per_row"] == (folds - 1) * 10 * 3
        assert planned["classifier_forward_units_per_row"] == 10 * 3


def test_a_missing_cleanlab_is_one_line_that_names_the_extra(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.methods.confident_learning.find_spec", lambda _: None)
    words = "--method confident-learning needs cleanlab", "pip install 'labelfix[baselines]'"
    refuses(labelfix.scan, *words, source=digits[0], method="confident-learning", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert labelfix.plan(digits[0], method="cross-entropy", out=tmp_path / "run")["folds"] == 0


def test_its_score_leaves_out_rows_without_label_or_prediction():
    probs, given = np.random.default_rng(0).dirichlet(np.ones(10), 200), digit_labels(200)[0].copy()
    probs[:5], given[5:9] = np.nan, -1
    score = make_trainer("confident-learning").method.score(probs, given)
    assert np.isnan(score[:9]).all()
    np.testing.assert_allclose(score[9:], 1 - probs[np.arange(9, 200), given[9:]], atol=1e-6)


@pytest.fixture(scope="module")
def confident(tmp_path_factory):
    """A scan of 600 digits, every fifth label wrong: run, table, held-out predictions, given and true labels."""
    folder = tmp_path_factory.mktemp("confident")
    true = write_digits(folder / "images", 600, "symmetric-exclusive:0.2")
    options = {"method": "confident-learning", "epochs": 12, "image_size": 8, "precision": "fp32"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        run = labelfix.scan(folder / "images", out=folder / "run", **options)
    df = labelfix.read_corrections(run.out)
    probs = np.stack(df.predicted_probs).astype(np.float64)
    return SimpleNamespace(
        run=run, df=df, probs=probs, given=df.given_label.astype(int).to_numpy(), true=true
    )


def test_rows_stand_in_the_order_of_cleanlabs_label_quality_of_held_out_predictions(confident):
    from cleanlab.rank import get_label_quality_scores

    quality = get_label_quality_scores(confident.given, confident.probs)
    np.testing.assert_allclose(quality, confident.probs[np.arange(600), confident.given], atol=1e-6)
    noise = confident.df.noise_score.to_numpy()
    worst_first = np.argsort(quality, kind="stable")
    assert (np.diff(noise[worst_first]) <= 1e-6).all()


def test_noise_scores_and_distributions_mean_what_they_say(confident):
    wrong = confident.given != confident.true
    assert confident.df.noise_score.mean() == pytest.approx(wrong.mean(), abs=0.03)
    best = np.stack(confident.df.label_distribution)
    assert (best.argmax(axis=1) == confident.true).mean() == pytest.approx(best.max(axis=1).mean(), abs=0.04)


def test_planted_noise_is_found_and_the_flags_are_precise(confident):
    wrong, flagged = confident.given != confident.true, confident.df.is_label_issue.to_numpy()
    assert wrong.mean() == pytest.approx(0.2)
    assert average_precision_score(wrong, confident.df.noise_score) > 0.95
    assert wrong[flagged].mean() > 0.85
    assert flagged[wrong].mean() > 0.9
    right = (confident.df.corrected_label.astype(int) == confident.true).mean()
    assert right > 0.95
    assert confident.run.summary["out_of_sample"]

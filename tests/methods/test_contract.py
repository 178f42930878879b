"""What every method promises, whatever its paper: run over the registry, on LABELFIX_TEST_DEVICE."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from digit_training import (
    assert_same,
    digit_labels,
    evidence_of,
    make_trainer,
    state_of,
    trained,
    trusted_digits,
)
from pydantic import ValidationError
from sklearn.metrics import average_precision_score

from labelfix.errors import InputError
from labelfix.estimation.evidence import PAPER_RULE
from labelfix.methods import method_card, method_class, method_names
from labelfix.methods.base import TrainState
from labelfix.methods.own_model import OwnModel

METHODS = method_names()
OWN_MODELS = [name for name in METHODS if issubclass(method_class(name), OwnModel)]


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


def test_phases_are_valid_in_every_preset(name):
    for preset in method_class(name).presets().values():
        preset.check()
        trainer = make_trainer(name)
        trainer.method.settings = preset
        phases = trainer.method.phases()
        assert sum(phase.epochs for phase in phases) == preset.epochs
        assert len({phase.name for phase in phases}) == len(phases)
        assert all(phase.epochs >= 1 and phase.views and phase.forward_units >= 3 for phase in phases)


def test_presets_are_fast_and_paper_at_least(name):
    assert {"fast", "paper"} <= set(method_class(name).presets())


@pytest.mark.parametrize("name", OWN_MODELS)
def test_what_the_paper_presets_find_is_what_the_paper_does(name):
    presets = method_class(name).presets()
    found = {preset: s.score_from for preset, s in presets.items() if preset.startswith("paper")}
    assert set(found.values()) == {"method"}, found
    assert presets["fast"].score_from == "trajectory"


def test_loss_is_finite_with_gradients_in_every_phase(name):
    trainer = make_trainer(name)
    method, epoch = trainer.method, 0
    for phase in method.phases():
        batch = next(trainer._epoch_batches(phase))
        when = TrainState(phase, epoch)
        parts = method.train().loss(when, batch)
        assert all(part.ndim == 0 and torch.isfinite(part) for part in parts.values())
        method.zero_grad()
        sum(parts.values()).backward()
        gradients = [p.grad for p in method.network.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        assert any(g.abs().max() > 0 for g in gradients)
        epoch += phase.epochs


def test_learning_rate_is_a_positive_number_at_any_time(name):
    method = make_trainer(name).method
    phase = method.phases()[-1]
    for epoch in np.linspace(0, method.settings.epochs, 50):
        assert 0 < method.learning_rate(TrainState(phase, float(epoch))) < 10


def test_evidence_has_the_promised_shapes_and_ranges(name):
    given = digit_labels(200)[0].copy()
    given[190:] = -1
    trainer = trained(name, given=given)
    evidence = evidence_of(trainer)
    assert evidence.noise.shape == (200,)
    assert evidence.probs.shape == (200, 10)
    assert np.isnan(evidence.noise[190:]).all()
    assert ((evidence.noise[:190] >= 0) & (evidence.noise[:190] <= 1)).all()
    assert (evidence.probs[:190] >= 0).all()
    np.testing.assert_allclose(evidence.probs[:190].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", OWN_MODELS)
def test_a_method_s_own_model_finds_something_else_by_the_paper_s_rule(name):
    given = digit_labels(200)[0].copy()
    given[190:] = -1
    trainer = trained(name, given=given)
    found = {}
    for kind in ("method", "trajectory"):
        trainer.method.settings = trainer.method.settings.changed({"score_from": kind})
        found[kind] = evidence_of(trainer)
    own = found["method"]
    assert not np.allclose(own.noise, found["trajectory"].noise, equal_nan=True)
    assert np.isnan(own.probs[190:]).all()
    np.testing.assert_allclose(own.probs[:190].sum(axis=1), 1, atol=1e-5)
    assert own.rule == PAPER_RULE
    assert str(own.rule).startswith(
        "flagged: noise_score > 0.5 and the most probable label is not the given one"
    )


def test_averaged_predictions_say_which_one_class_is_true(name):
    method = trained(name, rows=600, epochs=15).method

    averaged = method.ensembled_probs.cpu()[method.given.cpu() >= 0]
    np.testing.assert_allclose(averaged.sum(dim=1).numpy(), 1, atol=1e-5)


def test_planted_noise_is_ranked_far_above_chance(name):
    given, true = digit_labels(600)
    trainer = trained(name, rows=600, epochs=15, given=given)
    noise = evidence_of(trainer).noise
    assert average_precision_score(given != true, noise) > 0.7  # chance is 0.3


def test_scores_are_hardly_ever_tied(name):
    trainer = trained(name)
    noise = evidence_of(trainer).noise.astype(np.float32)
    assert len(np.unique(noise)) > 0.95 * len(noise)


def test_two_runs_give_the_same_bytes(name):
    assert_same(*(state_of(trained(name)) for _ in range(2)))


def test_everything_a_restart_needs_is_in_the_state(name):
    trainer = trained(name)
    fresh = make_trainer(name, seed=5)
    tensors, facts = trainer.state()
    fresh.restore(tensors, facts)
    a, b = (evidence_of(t) for t in (trainer, fresh))
    np.testing.assert_array_equal(a.noise, b.noise)
    np.testing.assert_array_equal(a.probs, b.probs)


def test_a_class_permutation_permutes_the_findings(name):
    """Class k of one run is class order[k] of the other; the head is permuted to match."""
    order = np.random.default_rng(0).permutation(10)
    given = digit_labels(200)[0]
    trusted = trusted_digits(200)
    permuted = np.where(trusted >= 0, order[trusted], -1)
    plain = make_trainer(name, epochs=2, given=given, trusted=trusted)
    moved = make_trainer(name, epochs=2, given=order[given], trusted=permuted)
    with torch.no_grad():
        for tensor in (moved.method.network.head.weight, moved.method.network.head.bias):
            tensor[torch.from_numpy(order)] = tensor.clone()
    for trainer in (plain, moved):
        list(trainer.epochs())
    a, b = (evidence_of(t) for t in (plain, moved))
    np.testing.assert_allclose(b.noise, a.noise, atol=2e-2)
    np.testing.assert_allclose(b.probs[:, order], a.probs, atol=2e-2)


def test_epochs_scale_every_phase(name):
    settings = method_class(name).presets()["paper"].with_epochs(12)
    assert settings.epochs == 12
    settings.check()


@pytest.mark.parametrize("total", range(2, 40))
def test_any_number_of_epochs_makes_a_valid_schedule(name, total):
    method_class(name).presets()["fast"].with_epochs(total).check()


def test_settings_say_what_they_mean_and_where_they_come_from(name):
    card = method_card(name)
    assert card["summary"].endswith(".")
    for setting in card["settings"]:
        assert setting["meaning"], setting["name"]
        assert setting["source"], setting["name"]


def test_settings_are_set_by_text_and_checked(name):
    settings = method_class(name).presets()["fast"]
    changed = settings.changed({"learning_rate": "0.05", "milestones": "7,9", "flip": "false"})
    assert (changed.learning_rate, changed.milestones, changed.flip) == (0.05, (7, 9), False)
    assert settings.changed({"learning_rate": 0.05, "milestones": (7, 9), "flip": "false"}) == changed
    for setting, value, message in [
        ("speed", "9", "no such setting; there are batch_size"),
        ("batch_size", "many", "expected a whole number"),
        ("flip", "maybe", "choose one of auto, true, false"),
    ]:
        with pytest.raises(InputError, match=f"--set {setting}={value}: {message}"):
            settings.changed({setting: value})


IMPOSSIBLE = [
    *((name, setting, value, message) for name in METHODS for setting, value, message in [
        ("batch_size", 0, "must be at least 1"),
        ("learning_rate", float("nan"), "must be"),
        ("average_from", method_class(name).presets()["paper"].epochs, ""),
    ]),
    ("joint", "update_from", 0, "must be at least 1, and at most correct_epochs"),
    ("joint", "update_from", 201, ""),
    ("joint", "ring_epochs", 0, "must be at least 1"),
    ("joint", "mixup_alpha", 0.0, "must be a number over 0"),
    ("joint", "entropy", float("nan"), "must be a number from 0 up"),
    ("joint", "finetune_epochs", 0, "must be at least 1"),
    ("nnaqc", "alpha", 1.1, "must be a number from 0 to 1"),
    ("nnaqc", "beta", -0.1, "must be a number from 0 to 1"),
    ("nnaqc", "alpha", float("nan"), "must be a number from 0 to 1"),
    ("nnaqc", "layer_decay", -1.0, "must be a number from 0 up"),
    ("nnaqc", "trace", float("inf"), "must be a number from 0 up"),
    ("nnaqc", "dropout", 1.0, "must be a number from 0 up, and below 1"),
    ("nnaqc", "first_flips", 0.0, "must be a number over 0, and below 0.5"),
    ("pencil", "repeats", 0, "must be"),
    ("pencil", "rho", -1.0, "must be"),
    ("pencil", "classifier_epochs", -1, "must be"),
    ("pencil", "label_step", float("nan"), "must be"),
    ("meta", "given_share", 1.1, "must be"),
    ("meta", "temperature", 0.0, "must be"),
    ("meta", "consistency", -1.0, "must be"),
    ("meta", "cycles", -1, "must be"),
    ("meta", "ema_decay", 2.0, "must be"),
    ("mixmatch", "temperature", 0.0, "must be a number over 0"),
    ("mixmatch", "mixup_alpha", 0.0, "must be a number over 0"),
    ("mixmatch", "ramp_share", 0.0, "must be a number over 0, and at most 1"),
    ("mixmatch", "unlabelled_weight", -1.0, "must be a number from 0 up"),
    ("mixmatch", "consistency", float("nan"), "must be a number from 0 up"),
    ("mixmatch", "ema_decay", 1.5, "must be a number from 0 to 1"),
    ("bmm", "temperature_epochs", 0, "must be at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "setting", "value", "message"), IMPOSSIBLE)
def test_impossible_numbers_are_refused(method, setting, value, message):
    settings = method_class(method).presets()["paper"].model_copy(update={setting: value})
    with pytest.raises(InputError, match=f"--set {setting}={value}.*{message}"):
        settings.check()


@pytest.mark.parametrize(
    ("method", "setting"),
    [("joint", "warm_start"), ("pencil", "balance_classes"), ("meta", "guess_gradient")],
)
def test_a_yes_or_no_is_true_or_false_and_written_so(method, setting):
    settings = method_class(method).presets()["fast"]
    for value, text in ((True, "true"), (False, "false")):
        changed = settings.changed({setting: text})
        assert getattr(changed, setting) is value
        assert changed == settings.changed({setting: value})
        assert changed.model_dump()[setting] == text  # as config.json and the model card have it
    for text in ("1", "yes", "on", "True", ""):
        with pytest.raises(InputError, match=f"--set {setting}={text}: choose one of true, false"):
            settings.changed({setting: text})


def test_settings_take_no_value_of_another_type_or_name():
    made = type(method_class("bmm").presets()["fast"])
    for wrong in ({"batch_size": "32"}, {"learning_rate": float("nan")}, {"speed": 1}, {"variant": "m"}):
        with pytest.raises(ValidationError):
            made(**wrong)


def test_score_from_means_the_same_for_every_method():
    settings = [each for name in METHODS for each in method_card(name)["settings"]]
    found = [each for each in settings if each["name"] == "score_from"]
    assert len(found) == len(METHODS) - 1
    assert len({each["meaning"] for each in found}) == 1
    assert all(choice in found[0]["meaning"] for each in found for choice in each["choices"])

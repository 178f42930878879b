"""BMM: every variant of the paper against its equations, its phases and its presets."""

from __future__ import annotations

import numpy as np
import pytest
import references
import torch
from digit_training import (
    DEVICE,
    assert_same,
    digit_labels,
    evidence_of,
    first_batch,
    make_trainer,
    numpy,
    resumed,
    state_of,
    trained,
    watched_passes,
)

from labelfix.errors import InputError
from labelfix.estimation.mixture import NoiseModel
from labelfix.methods.base import TrainState
from labelfix.methods.batch import Labels
from labelfix.methods.bmm import BMM, VARIANTS
from labelfix.methods.losses import bootstrapped_targets, soft_cross_entropy


def at_phase(name, **changes):
    """A trainer that has come to a phase, a batch of it, and the phase: 2 epochs, 1 of dynamic mixup, 3 to 4 more."""
    plan = {"warmup_epochs": "2", "bootstrap_epochs": "4", "dynamic_epochs": "1", "temperature_epochs": "3"}
    trainer = make_trainer("bmm", **plan, **changes)
    epochs = trainer.epochs()
    for phase in trainer.method.phases():
        if phase.name == name:
            return trainer, first_batch(trainer, phase.views), phase
        for _ in range(phase.epochs):
            next(epochs)
    raise AssertionError(name)


def on_device(x):
    return torch.from_numpy(x).float().to(DEVICE)


def posterior_of(method, losses):
    """p(noisy | loss), by the numbers that the device has."""
    low, width, constant, da, db, slope, bend, smallest, largest = numpy(method.coefficients)
    x = np.clip((losses - low) / width, smallest, largest)
    odds = constant + da * np.log(x) + db * np.log1p(-x) + slope * x + bend * x**2
    return 1 / (1 + np.exp(-odds))


def check_bootstrapping(variant, **changes):
    """The whole loss of a batch, with guesses, weights and mixing drawn again independently, by the variant's name."""
    trainer, batch, phase = at_phase("bootstrap", variant=variant, balance="0.7", **changes)
    method, x, given = trainer.method, batch.views[0], digit_labels(200)[0][:40]
    rng = np.random.default_rng(3)
    start = {name: value.clone() for name, value in method.network.state_dict().items()}
    # Their order: the training-mode guess first (BatchNorm sees it), then the weights in evaluation mode.
    unmixed = numpy(method.network.train()(x))
    tracked = numpy(method.network.eval()(x))
    if variant.startswith("st"):
        noise = np.full(40, 0.2 if variant == "st-h" else 0.05)
    elif changes["weights_from"] == "batch":
        losses = -np.log(references.softmax(tracked)[np.arange(40), given])
        noise = posterior_of(method, losses).clip(1e-4, 1 - 1e-4)
    else:
        noise = method.weights[:40].double().cpu().numpy().clip(1e-4, 1 - 1e-4)
    # The second epoch of bootstrapping: md-dyr-sh is half way from 1 to 0.001 in three steps.
    temperature = 0.5005 if variant.endswith("-sh") else 1.0
    soft = references.softmax(unmixed / temperature)
    guess = np.eye(10)[unmixed.argmax(axis=1)] if variant.endswith("-h") else soft
    if variant.startswith(("dy", "st")):
        expected = {"bootstrap": references.bootstrapping_loss(unmixed, given, guess, noise)}
    else:
        partner = rng.permutation(40)
        share = 0.5 if variant.startswith("md") else rng.beta(*[method.settings.mixup_alpha] * 2)
        mixed = share * x + (1 - share) * x[torch.from_numpy(partner).to(DEVICE)]
        if variant.startswith("md"):
            mixed = on_device(references.dynamic_mixup(numpy(x), partner, noise))
        logits = numpy(method.network.train()(mixed))
        smoothed = (np.bincount(digit_labels(200)[0], minlength=10) + 1) / 210
        prior = np.full(10, 0.1) if changes.get("prior") == "uniform" else smoothed
        expected = {
            "bootstrap": references.dynamic_bootstrapping_loss(logits, given, guess, partner, noise, share),
            "balance": 0.7 * references.class_balance(logits, prior),
        }
    method.network.load_state_dict(start)
    first = 3 if variant.startswith("md") else 2
    found = method.train().loss(TrainState(phase, first + 1.25), batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6)


class TestParity:
    @pytest.mark.parametrize("weights_from", ["batch", "epoch", "average"])
    def test_bootstrapping_is_equations_13_and_14(self, weights_from):
        check_bootstrapping("m-dyr-h", weights_from=weights_from)

    @pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "m-dyr-h"])
    def test_every_variant_is_its_equations(self, variant):
        check_bootstrapping(variant, weights_from="batch")

    @pytest.mark.parametrize("change", [{"mixture": "gaussian"}, {"prior": "uniform"}])
    def test_gaussians_and_a_uniform_prior_do_it_too(self, change):
        check_bootstrapping("m-dyr-h", weights_from="batch", **change)

    @pytest.mark.parametrize("variant", ["md-dyr-h", "md-dyr-sh"])
    def test_dynamic_mixup_alone_mixes_images_by_equation_15_and_labels_by_beta_32(self, variant):
        trainer, batch, phase = at_phase("dynamic-mixup", variant=variant, weights_from="epoch")
        method, x, given = trainer.method, batch.views[0], digit_labels(200)[0][:40]
        noise = method.weights[:40].double().cpu().numpy().clip(1e-4, 1 - 1e-4)
        rng = np.random.default_rng(3)
        partner, share = rng.permutation(40), rng.beta(32, 32)
        mixed = on_device(references.dynamic_mixup(numpy(x), partner, noise))
        logits = numpy(method.network.train()(mixed))
        labels = np.eye(10)[given]
        expected = references.cross_entropy(share * labels + (1 - share) * labels[partner], logits)
        found = method.train().loss(TrainState(phase, 2.0), batch)
        assert list(found) == ["dynamic_mixup"]  # the class balance waits for bootstrapping
        assert found["dynamic_mixup"].item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("variant", ["dy-h", "dy-s", "st-h", "st-s"])
    def test_without_mixup_the_warm_up_is_cross_entropy(self, variant):
        trainer, batch, phase = at_phase("cross-entropy", variant=variant)
        logits = numpy(trainer.method.network.train()(batch.views[0]))
        expected = references.cross_entropy(np.eye(10)[digit_labels(200)[0][:40]], logits)
        found = trainer.method.train().loss(TrainState(phase, 0.0), batch)["cross_entropy"].item()
        assert found == pytest.approx(expected, rel=1e-5)

    def test_the_soft_guess_of_its_own_forward_has_a_gradient(self):
        """Equation 10 to the letter: d/dlogits of -(1-w) log h_y - w h log h, not of a fixed h."""
        trainer, batch, phase = at_phase("bootstrap", variant="st-s")
        logits = torch.randn(40, 10, device=DEVICE, requires_grad=True)
        given = torch.nn.functional.one_hot(trainer.method.given[batch.rows], 10).float()
        guess = trainer.method._guess(TrainState(phase, 3.0), logits)
        loss = soft_cross_entropy(logits, bootstrapped_targets(given, guess, trainer.method._noise(batch)))
        loss.backward()
        h = references.softmax(numpy(logits.detach()))
        inner = np.log(h) - (h * np.log(h)).sum(axis=1, keepdims=True)
        expected = (0.95 * (h - numpy(given)) - 0.05 * h * inner) / 40
        np.testing.assert_allclose(logits.grad.cpu().numpy(), expected, atol=1e-7)


class TestVariants:
    @pytest.mark.parametrize("weights_from", ["batch", "epoch"])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_the_phases_say_what_they_cost(self, variant, weights_from):
        trainer = make_trainer(
            "bmm", rows=100, epochs=6, variant=variant, weights_from=weights_from, bootstrap_epochs="3"
        )
        passes, phases = watched_passes(trainer), trainer.method.phases()
        reports = list(trainer.epochs())
        assert [r.phase for r in reports] == [p.name for p in phases for _ in range(p.epochs)]
        assert sum(passes) == trainer.position.forward_units
        assert sum(passes) == 100 * sum(phase.units_per_row for phase in phases)

    @pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "m-dyr-h"])
    def test_resumed_inside_bootstrapping_equals_uninterrupted(self, variant):
        """Two steps an epoch: in the midst of the third."""
        epochs = {"bootstrap_epochs": "3", "warmup_epochs": "1", "temperature_epochs": "2"}
        plan = {"rows": 100, "variant": variant, **epochs}
        assert_same(state_of(trained("bmm", **plan)), state_of(resumed(5, "bmm", **plan)))

    def test_the_temperature_falls_from_1_to_a_thousandth_in_89_steps_from_epoch_111(self):
        """Counted from 1, as the authors do: 1 in epoch 111, 0.001 in epoch 199 and after."""
        method = make_trainer("bmm").method
        method.settings = BMM.presets()["paper-cifar10-md-dyr-sh"]
        phase = method.phases()[-1]
        found = [method._temperature(TrainState(phase, epoch - 1 + 0.5)) for epoch in range(111, 301)]
        np.testing.assert_allclose(found[:89], np.linspace(1, 0.001, 89), rtol=1e-9)
        assert found[88:] == [0.001] * 102

    def test_at_the_end_the_soft_guess_is_the_hard_one(self):
        trainer, _, phase = at_phase("bootstrap", variant="md-dyr-sh")
        logits = torch.rand(40, 10, device=DEVICE).argsort(dim=1) / 10
        guess = trainer.method._guess(TrainState(phase, 5.9), logits)
        hard = torch.nn.functional.one_hot(logits.argmax(dim=1), 10).float()
        torch.testing.assert_close(guess, hard, atol=1e-3, rtol=0)
        early = trainer.method._guess(TrainState(phase, 3.0), logits)
        torch.testing.assert_close(early, logits.softmax(dim=1))

    def test_gaussians_serve_the_tracking_and_both_posteriors(self):
        for score_from in ("trajectory", "method"):
            trainer = make_trainer(
                "bmm", rows=400, epochs=8, mixture="gaussian", score_from=score_from, weights_from="epoch"
            )
            reports = list(trainer.epochs())
            losses = trainer.method.recent_losses[7 % 5].double().cpu().numpy()
            means = NoiseModel.fit(losses, "gaussian").mixture.means
            assert reports[-1].reported["clean_mean"] == pytest.approx(means[0], rel=1e-6)
            assert reports[-1].reported["noisy_mean"] == pytest.approx(means[1], rel=1e-6)
            diagnostics = trainer.method.diagnostics(trainer.predict())
            assert diagnostics["mixture"]["noisy"].keys() == {"mean", "variance", "weight"}
            assert np.isfinite(evidence_of(trainer).noise).all()


class TestPresets:
    def test_the_paper_s_phases_are_those_of_the_authors(self):
        def lengths(preset):
            method = make_trainer("bmm").method
            method.settings = BMM.presets()[preset]
            return {phase.name: phase.epochs for phase in method.phases()}

        assert lengths("paper") == {"mixup": 105, "bootstrap": 195}
        assert lengths("paper-cifar10-md-dyr-sh") == {"mixup": 105, "dynamic-mixup": 5, "bootstrap": 190}
        assert lengths("paper-cifar10-dy-h") == {"cross-entropy": 30, "bootstrap": 90}
        assert BMM.presets()["paper-cifar100"] == BMM.presets()["paper"]

    def test_the_paper_s_class_frequencies_are_equal(self):
        """Whatever the given labels are: R of equation 14 holds every class to one of K."""
        settings = {name: s for name, s in BMM.presets().items() if name.startswith("paper")}
        given = np.array([0] * 150 + [1] * 50)
        labels = Labels.of(given, 10, torch.device("cpu"))
        for preset in settings.values():
            np.testing.assert_allclose(
                numpy(BMM(torch.nn.Linear(1, 1), labels, preset).prior), np.full(10, 0.1)
            )
        assert numpy(BMM(torch.nn.Linear(1, 1), labels, BMM.presets()["fast-mixup"]).prior)[0] > 0.7

    def test_everything_counted_in_epochs_is_scaled(self):
        scaled = BMM.presets()["paper-cifar10-md-dyr-sh"].with_epochs(100)
        assert (scaled.warmup_epochs, scaled.bootstrap_epochs, scaled.dynamic_epochs) == (35, 65, 2)
        assert (scaled.temperature_epochs, scaled.milestones) == (30, (33, 83))
        scaled.check()

    def test_epochs_without_room_for_dynamic_mixup_are_refused(self):
        settings = BMM.presets()["paper-cifar10-md-dyr-sh"]
        settings.with_epochs(5).check()
        with pytest.raises(ValueError, match="md-dyr-sh has three phases, which need more epochs"):
            settings.with_epochs(2)
        with pytest.raises(InputError, match=r"dynamic_epochs=5: md-dyr-sh needs .* bootstrap_epochs \(3\)"):
            settings.changed({"bootstrap_epochs": "3"}).check()

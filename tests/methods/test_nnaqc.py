"""NNAQC: parity with the equations, the trap in the clustering loss, the noise layer, and its posterior."""

from __future__ import annotations

from math import ceil, log

import digit_training
import numpy as np
import pytest
import references
import torch
from digit_training import assert_slopes, digit_labels, evidence_of, first_batch, make_trainer, numpy, trained
from sklearn.metrics import average_precision_score

from labelfix.config import resolve_settings
from labelfix.errors import InputError
from labelfix.methods.base import TrainState
from labelfix.methods.batch import Labels
from labelfix.methods.nnaqc import NNAQC, presets
from labelfix.networks import NetworkSpec, build
from labelfix.noise.planting import realised_transition

FAST, PAPER = presets()["fast"], presets()["paper"]


def random_layer(trainer, seed=0):
    """W as a run might leave it, (K, K) float64, given to the method."""
    layer = np.random.default_rng(seed).normal(size=(10, 10)) + 4 * np.eye(10)
    with torch.no_grad():
        trainer.method.layer.copy_(torch.from_numpy(layer))
    return layer


def loss_of(trainer, rows=50):
    """The parts of the loss of the first rows, and the logits that they took."""
    (phase,) = trainer.method.phases()
    parts, (logits,) = digit_training.loss_of(trainer, phase, first_batch(trainer, phase.views, rows))
    return parts, logits


def alone(settings, rows=200, classes=10):
    """The method without a trainer, around a network that is never asked."""
    given = np.arange(rows) % classes
    return NNAQC(torch.nn.Linear(1, classes), Labels.of(given, classes, torch.device("cpu")), settings)


CASES = [(layer, side) for layer in ("nonlinear", "linear") for side in ("label", "prediction")]


class TestLoss:
    @pytest.mark.parametrize(("layer", "side"), CASES)
    def test_it_is_equation_6_with_the_gradient_of_every_factor(self, layer, side):
        """Of both predictions in the clustering loss, and of the layer; by central differences of the whole loss."""
        options = {"noise_layer": layer, "qc_weight_on": side, "alpha": "0.7", "beta": "0.8", "trace": "0"}
        trainer = make_trainer("nnaqc", **options)
        weights, given = random_layer(trainer), digit_labels(200)[0][:50]
        form = {"alpha": 0.7, "own_share": 0.2 if side == "label" else 0.8, "linear": layer == "linear"}
        parts, logits = loss_of(trainer)
        z, expected = numpy(logits), references.nnaqc_loss(numpy(logits), weights, given, **form)
        for name, value in expected.items():
            assert parts[name].item() == pytest.approx(value, rel=1e-5)
        assert sum(parts.values()).item() == pytest.approx(sum(expected.values()), rel=1e-5)

        def whole(z, w):
            return sum(references.nnaqc_loss(z, w, given, **form).values())

        sum(parts.values()).backward()
        assert_slopes(lambda z: whole(z, weights), z, logits.grad, [(0, 0), (7, 3), (23, 9), (49, 5)])
        assert_slopes(lambda w: whole(z, w), weights, trainer.method.layer.grad, [(0, 0), (3, 7), (9, 2)])

    def test_the_trace_of_the_linear_layer_is_pulled_down(self):
        trainer = make_trainer("nnaqc", noise_layer="linear", trace="0.3")
        weights = random_layer(trainer)
        parts, _ = loss_of(trainer)
        diagonal = [references.softmax(weights[:, [j]].T)[0, j] for j in range(10)]
        assert parts["trace"].item() == pytest.approx(0.3 * np.mean(diagonal), rel=1e-5)

    def test_dropout_drops_outputs_of_the_layer_in_training_alone(self):
        method = alone(FAST.model_copy(update={"dropout": 0.4})).train()
        probs = torch.eye(10)
        torch.manual_seed(1)
        found = numpy(method.noisy_log_probs(probs))
        torch.manual_seed(1)
        mask = numpy(torch.nn.functional.dropout(torch.ones(10, 10), 0.4))
        assert 0 < (mask == 0).sum() < 100
        expected = references.softmax(mask * numpy(method.layer))  # W is symmetric at first
        np.testing.assert_allclose(np.exp(found), expected, rtol=1e-4)
        whole = references.softmax(numpy(method.layer))
        np.testing.assert_allclose(np.exp(numpy(method.eval().noisy_log_probs(probs))), whole, rtol=1e-4)

    def test_dropout_of_the_linear_layer_drops_entries_of_it_and_leaves_every_label_possible(self):
        settings = FAST.model_copy(update={"dropout": 0.4, "noise_layer": "linear", "first_flips": 0.05})
        method = alone(settings).train()
        rng = np.random.default_rng(0)
        probs, layer = rng.dirichlet(np.ones(10), 7), rng.normal(size=(10, 10)) * 2
        with torch.no_grad():
            method.double().layer.copy_(torch.from_numpy(layer))
        torch.manual_seed(1)
        found = method.noisy_log_probs(torch.from_numpy(probs)).exp().detach().numpy()
        torch.manual_seed(1)
        mask = torch.nn.functional.dropout(torch.ones(10, 10, dtype=torch.float64), 0.4).numpy()
        assert 0 < (mask == 0).sum() < 100
        np.testing.assert_allclose(found, references.linear_noise(probs, mask * layer), rtol=1e-10)
        assert found.min() > 1e-4
        whole = method.eval().noisy_log_probs(torch.from_numpy(probs)).exp().detach().numpy()
        np.testing.assert_allclose(whole, references.linear_noise(probs, layer), rtol=1e-10)

    def test_a_surer_layer_costs_less_where_the_network_agrees(self):
        probs, given = torch.eye(10), torch.arange(10)
        losses = []
        for flips in (0.3, 0.03, 0.003):
            method = alone(FAST.model_copy(update={"first_flips": flips}))
            losses.append(-method.noisy_log_probs(probs)[given, given].mean().item())
            assert losses[-1] == pytest.approx(-log(1 - flips), rel=1e-3)
        assert losses[0] > losses[1] > losses[2]


class TestTrap:
    """Which side of the clustering loss beta weighs."""

    @pytest.mark.parametrize(("side", "learns"), [("prediction", False), ("label", True)])
    def test_the_printed_form_alone_collapses(self, side, learns):
        given, true = digit_labels(600, "symmetric-exclusive:0.2")
        trainer = trained("nnaqc", rows=600, epochs=12, given=given, alpha="0", qc_weight_on=side)
        guess = trainer.predict().argmax(dim=1).cpu().numpy()
        accuracy, classes = (guess == true).mean(), len(np.unique(guess))
        assert accuracy > 0.85 if learns else accuracy < 0.2 and classes <= 2

    def test_the_label_has_the_weight_unless_one_asks_otherwise(self):
        assert {preset.qc_weight_on for preset in presets().values()} == {"label"}
        assert (FAST.alpha, FAST.beta) == (PAPER.alpha, PAPER.beta) == (0.9, 0.9)


class TestLayer:
    @pytest.mark.parametrize(("classes", "scale"), [(10, 9.8), (1000, 14.5)])
    def test_it_starts_at_a_multiple_of_one(self, classes, scale):
        layer = numpy(alone(FAST, rows=2 * classes, classes=classes).layer)
        np.testing.assert_allclose(layer, layer[0, 0] * np.eye(classes))
        assert layer[0, 0] == pytest.approx(scale, abs=0.05)
        assert references.softmax(layer[:1])[0, 0] == pytest.approx(1 - 5e-4, rel=1e-6)

    def test_it_alone_has_its_own_decay(self):
        trainer = make_trainer("nnaqc")
        network, layer = trainer.method.param_groups()
        assert {id(p) for p in network["params"]} == {id(p) for p in trainer.method.network.parameters()}
        assert [id(p) for p in layer["params"]] == [id(trainer.method.layer)]
        assert network["weight_decay"] == FAST.weight_decay
        (found,) = [g for g in trainer.optimiser.param_groups if g["params"][0] is trainer.method.layer]
        assert found["weight_decay"] == layer["weight_decay"] != FAST.weight_decay

    @pytest.mark.parametrize("rows", [200, 50_000])
    @pytest.mark.parametrize("settings", [FAST, PAPER])
    def test_longer_runs_decay_less_a_step_and_as_much_in_all(self, settings, rows):
        """At most the setting at a rate of 0.1; rate x decay over all steps at most that of 1,500 such steps."""
        method = alone(settings, rows)
        decay, (phase,) = method.param_groups()[-1]["weight_decay"], method.phases()
        each = ceil(rows / settings.batch_size)
        rates = [method.learning_rate(TrainState(phase, float(epoch))) for epoch in range(settings.epochs)]
        total = decay * sum(rates) * each
        if rows == 200:
            assert decay * settings.learning_rate == pytest.approx(FAST.layer_decay * 0.1)
            assert total < FAST.layer_decay * 0.1 * 1_500
        else:
            assert decay * settings.learning_rate < FAST.layer_decay * 0.1
            assert total == pytest.approx(FAST.layer_decay * 0.1 * 1_500)

    def test_the_linear_one_has_the_trace_instead(self):
        method = alone(FAST.model_copy(update={"noise_layer": "linear"}))
        assert method.param_groups()[-1]["weight_decay"] == 0

    def test_its_decay_falls_with_the_classes(self):
        """As the rows do that a column of W learns from."""
        decays = [
            alone(FAST, classes=classes).param_groups()[-1]["weight_decay"] for classes in (10, 20, 100)
        ]
        np.testing.assert_allclose(decays, decays[0] * np.array([1, 0.5, 0.1]))

    @pytest.mark.parametrize("preset", ["fast", "fast-linear"])
    def test_it_leaves_where_it_began_and_the_counts_are_near_the_planted_noise(self, preset):
        given, true = digit_labels(1000, "symmetric-exclusive:0.4")
        chosen = presets()[preset]
        changes = {"noise_layer": chosen.noise_layer, "first_flips": str(chosen.first_flips)}
        trainer = make_trainer("nnaqc", rows=1000, epochs=20, given=given, score_from="method", **changes)
        first = numpy(trainer.method.layer)
        list(trainer.epochs())
        last = numpy(trainer.method.layer)
        assert np.abs(last - first).max() > 0.5
        assert np.abs(last[~np.eye(10, dtype=bool)]).max() > 0.05  # decay alone would leave zeros
        diagnostics = trainer.method.diagnostics(trainer.predict())
        planted = realised_transition(true, given, 10)
        error = np.abs(np.array(diagnostics["counted_transition"]) - planted).sum(axis=1).mean()
        nothing = np.abs(np.eye(10) - planted).sum(axis=1).mean()
        assert error < 0.35 < nothing / 2
        expected = [references.softmax(last[:, [j]].T)[0] for j in range(10)]
        np.testing.assert_allclose(diagnostics["layer_transition"], expected, atol=1e-4)


class TestEvidence:
    def test_the_method_score_is_the_posterior_by_the_counts(self):
        trainer = trained("nnaqc", rows=200, epochs=6, score_from="method")
        evidence, given = evidence_of(trainer), digit_labels(200)[0]
        clean = references.softmax(numpy(trainer.predict()))
        transition = references.counted_transition(clean, given)
        posterior = references.true_class_posterior(clean, given, transition)
        counted = trainer.method.diagnostics(trainer.predict())["counted_transition"]
        np.testing.assert_allclose(counted, transition, atol=1e-5)
        np.testing.assert_allclose(evidence.probs, posterior, atol=1e-5)
        np.testing.assert_allclose(evidence.noise, 1 - posterior[np.arange(200), given], atol=1e-6)

    def test_rows_without_a_label_or_an_image_count_for_nothing(self):
        given = digit_labels(200)[0].copy()
        given[:20] = -1
        trainer = trained("nnaqc", given=given, score_from="method")
        logits = trainer.predict()
        logits[20:30] = torch.nan

        evidence = trainer.method.own_evidence(logits)
        assert np.isnan(evidence.noise[:30]).all()
        assert np.isnan(evidence.probs[:30]).all()
        clean = references.softmax(numpy(logits)[30:])
        expected = references.counted_transition(clean, given[30:])
        counted = trainer.method.diagnostics(logits)["counted_transition"]
        np.testing.assert_allclose(counted, expected, atol=1e-5)

    def test_the_network_alone_finds_the_true_classes(self):
        given, true = digit_labels(1000, "symmetric-exclusive:0.4")
        trainer = trained("nnaqc", rows=1000, epochs=20, given=given)
        evidence = evidence_of(trainer)
        assert average_precision_score(given != true, evidence.noise) > 0.95
        assert (trainer.predict().argmax(dim=1).cpu().numpy() == true).mean() > 0.85  # given labels: 0.6


class TestRates:
    """MatConvNet multiplies the learning rate by layer: what its example for CIFAR-10 says of each."""

    def test_they_are_those_of_the_example_in_the_paper_s_network(self):
        network = build(NetworkSpec("cifar-net", 10, 32))
        method = NNAQC(network, Labels.of(np.arange(50) % 10, 10, torch.device("cpu")), PAPER)
        rates = {id(p): group.get("rate", 1.0) for group in method.param_groups() for p in group["params"]}
        assert rates.pop(id(method.layer)) == 1
        found = {name: rates.pop(id(p)) for name, p in network.named_parameters()}
        assert not rates
        for name, rate in found.items():
            wanted = 0.1 if name.endswith("weight") else 2
            assert rate == pytest.approx(wanted / 10 if name.startswith("head") else wanted), name

    def test_a_step_goes_as_far_as_they_say(self):
        """Reference: w - rate x multiplier (gradient + decay w), the first step of momentum SGD."""
        trainer = make_trainer("nnaqc", layer_rates="matconvnet", learning_rate="0.05", weight_decay="0.2")
        before = {name: numpy(p) for name, p in trainer.method.network.named_parameters()}
        list(trainer.epochs(digit_training.stop_after(1)))
        for name, p in trainer.method.network.named_parameters():
            multiplier = (0.1 if p.ndim > 1 else 2) * (0.1 if name.startswith("head") else 1)
            expected = before[name] - 0.05 * multiplier * (numpy(p.grad) + 0.2 * before[name])
            np.testing.assert_allclose(numpy(p), expected, rtol=1e-5, atol=1e-6)

    def test_the_reported_rate_is_that_of_the_schedule(self):
        trainer = make_trainer("nnaqc", layer_rates="matconvnet", learning_rate="0.05", epochs=1)
        assert [report.learning_rate for report in trainer.epochs()] == [0.05]


class TestSettings:
    def test_the_paper_preset_is_the_schedule_of_matconvnet(self):
        method = alone(PAPER)
        (phase,) = method.phases()
        rates = [method.learning_rate(TrainState(phase, float(epoch))) for epoch in range(45)]
        assert rates == pytest.approx([0.05] * 30 + [0.005] * 10 + [0.0005] * 5)
        assert (PAPER.batch_size, PAPER.momentum, PAPER.weight_decay) == (100, 0.9, 1e-4)
        assert (PAPER.layer_rates, PAPER.weight_decay_on, FAST.layer_rates) == ("matconvnet", "all", "equal")


class TestKnownMatrix:
    MATRIX = np.full((10, 10), 0.04) + 0.6 * np.eye(10)

    def text(self, matrix: np.ndarray) -> str:
        return ",".join(f"{share:.6f}" for share in matrix.ravel())

    def test_it_stands_in_the_loss_and_stays_as_it_is(self):
        matrix = self.MATRIX.copy()
        matrix[0] = [1, *[0] * 9]  # without noise: probabilities of 0 have no logarithm
        options = {"noise_layer": "linear", "trace": "0", "alpha": "1", "transition": self.text(matrix)}
        trainer = make_trainer("nnaqc", epochs=2, **options)
        parts, logits = loss_of(trainer)
        noisy = references.softmax(numpy(logits)) @ matrix
        given = digit_labels(200)[0][:50]
        assert parts["noise_aware"].item() == pytest.approx(
            -np.log(noisy[np.arange(50), given]).mean(), rel=1e-5
        )
        first = trainer.method.layer.clone()
        list(trainer.epochs())
        assert torch.equal(trainer.method.layer, first)
        np.testing.assert_allclose(numpy(trainer.method.layer_transition()), matrix, atol=1e-6)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                {"transition": "0.5,0.5,0.5,0.5", "noise_layer": "linear"},
                "transition has 4 numbers; 10 classes need",
            ),
            ({"transition": ",".join(["0.2"] * 100), "noise_layer": "linear"}, "sum to 1"),
            ({"transition": "a,b", "noise_layer": "linear"}, "expected numbers"),
        ],
    )
    def test_refused(self, options, words):
        with pytest.raises(InputError, match=words):
            make_trainer("nnaqc", **options)

    def test_it_is_for_the_linear_layer(self):
        with pytest.raises(InputError, match="add noise_layer=linear"):
            resolve_settings("nnaqc", "paper", None, None, {"transition": "1,0,0,1"})

from __future__ import annotations

import numpy as np
import pytest
import torch
from digit_training import (
    DEVICE,
    assert_same,
    digit_labels,
    digit_source,
    make_trainer,
    state_of,
    stop_after,
    trained,
    watched_passes,
)
from sklearn.datasets import load_digits

from labelfix.errors import InputError
from labelfix.methods import method_names
from labelfix.reporting import Silent
from labelfix.training import checkpoint, resume
from labelfix.training.setup import Watched
from labelfix.training.trainer import EpochReport


def without_labels(rows: int) -> np.ndarray:
    """Given labels (200,) of which the first ones are missing."""
    return np.where(np.arange(200) < rows, -1, digit_labels(200)[0])


def test_reports_one_epoch_after_another():
    trainer = make_trainer("cross-entropy", epochs=3)
    reports = list(trainer.epochs())
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert [report.phase for report in reports] == ["train"] * 3
    assert reports[-1].losses["cross_entropy"] < reports[0].losses["cross_entropy"]
    assert all(report.elapsed_seconds > 0 for report in reports)


def epochs_in_parts(folder, steps, *args, **options):
    """The trainer after an interruption of each number of steps, by checkpoints, and the losses of all its epochs."""
    trainer, losses = make_trainer(*args, **options), []
    for number, some in enumerate(steps, 1):
        losses += [report.losses for report in trainer.epochs(stop_after(some))]
        assert trainer.position.epoch * 4 + trainer.position.step == sum(steps[:number])
        checkpoint.save(folder, number, *trainer.state())
        trainer = make_trainer(*args, **options)
        trainer.restore(*next(checkpoint.newest_first(folder)))
    return trainer, losses + [report.losses for report in trainer.epochs()]


def assert_same_training(first, second):
    (a, losses), (b, other_losses) = first, second
    assert_same(state_of(a), state_of(b))
    assert losses == other_losses
    assert a.position.forward_units == b.position.forward_units


@pytest.mark.parametrize("method", [name for name in method_names() if name != "confident-learning"])
@pytest.mark.parametrize("steps", [1, 4, 7, 9, 14])
def test_resumed_at_any_step_equals_uninterrupted(method, steps, tmp_path):
    """200 rows in batches of 50: four steps an epoch, so the cuts fall inside epochs and between them."""
    whole = epochs_in_parts(tmp_path, [], method)
    assert_same_training(whole, epochs_in_parts(tmp_path, [steps], method))


class TestFreshPhase:
    """The last of these four epochs starts with the first weights, when the network has 12 steps behind it."""

    def at_the_first_step(self, trainer):
        """Train to the end: weights, and number of momentum buffers, as the first forward of epoch 4 sees them."""
        seen = {}

        def look(network, _inputs):
            if (trainer.position.epoch, trainer.position.step) == (3, 0) and network.training and not seen:
                weights = {name: value.clone() for name, value in network.state_dict().items()}
                seen.update(weights=weights, momenta=len(trainer.optimiser.state))

        trainer.method.network.register_forward_pre_hook(look)
        list(trainer.epochs())
        return seen

    @pytest.mark.parametrize("warm_start", ["false", "true"])
    def test_it_starts_with_the_first_weights_and_no_momentum_and_another_goes_on_with_both(self, warm_start):
        trainer = make_trainer("joint", warm_start=warm_start)
        first = {name: value.clone() for name, value in trainer.method.network.state_dict().items()}
        seen = self.at_the_first_step(trainer)
        if warm_start == "false":
            assert_same(seen["weights"], first)
        else:
            assert not torch.equal(seen["weights"]["head.weight"], first["head.weight"])
        assert (seen["momenta"] > 0) == (warm_start == "true")
        assert len(trainer.optimiser.state) > 0

    def test_the_epoch_before_it_ends_with_the_trained_network(self):
        """What is measured after an epoch, and what a checkpoint there holds, is what that epoch has made."""
        trainer = make_trainer("joint", warm_start="false")
        first = trainer.method.network.head.weight.clone()
        epochs = trainer.epochs()
        for _ in range(3):
            next(epochs)
        assert not torch.equal(trainer.method.network.head.weight, first)
        assert len(trainer.optimiser.state) > 0

    def test_only_a_run_with_such_a_phase_keeps_a_copy(self):
        assert make_trainer("joint", warm_start="false")._first_weights
        assert not make_trainer("joint", warm_start="true")._first_weights

    @pytest.mark.parametrize("steps", [11, 12, 13, 14])
    def test_resumed_around_its_first_step_equals_uninterrupted(self, steps, tmp_path):
        """Interrupted before the last step of the epoch before it, before, after and one step after its own first;
        and again, before any step."""
        whole = epochs_in_parts(tmp_path, [], "joint", warm_start="false")
        assert_same_training(whole, epochs_in_parts(tmp_path, [steps, 0], "joint", warm_start="false"))


def test_the_seed_decides_everything():
    first, again, other = (state_of(trained("bmm", seed=seed)) for seed in (0, 0, 1))
    assert_same(first, again)
    assert not torch.equal(first["method.ensembled_probs"], other["method.ensembled_probs"])


def test_rows_without_a_label_are_not_trained_on():
    ensembled_probs = trained("bmm", given=without_labels(20)).method.ensembled_probs.cpu().numpy()
    assert (ensembled_probs[:20] == 0).all()
    np.testing.assert_allclose(ensembled_probs[20:].sum(axis=1), 1, atol=1e-5)


def test_the_running_mean_is_the_mean_of_the_epochs_in_its_window():
    """The mean over epochs 1 and 2 of what the network predicted for each row when it was trained on it."""
    trainer = make_trainer("cross-entropy", average_from="1", milestones="3", average_until="3")
    recorded = {}
    original = trainer.method.remember

    def spy(when, rows, logits):
        recorded.setdefault(int(when.epoch), {}).update(
            zip(rows.tolist(), logits.detach().double().softmax(dim=1).cpu().numpy(), strict=True)
        )
        original(when, rows, logits)

    trainer.method.remember = spy
    list(trainer.epochs())
    expected = np.stack([(recorded[1][row] + recorded[2][row]) / 2 for row in range(200)])
    np.testing.assert_allclose(trainer.method.ensembled_probs.cpu().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "changes"),
    [("bmm", {}), ("bmm", {"weights_from": "batch"}), ("cross-entropy", {}), ("joint", {}),
     ("joint", {"finetune": "mixup"}), ("nnaqc", {}), ("pencil", {})],
)  # fmt: skip
def test_phases_say_what_they_cost(method, changes):
    trainer = make_trainer(method, average_from="0", **changes)
    passes = watched_passes(trainer)
    list(trainer.epochs())
    counted = trainer.position.forward_units
    assert sum(passes) == counted == 200 * sum(phase.units_per_row for phase in trainer.method.phases())
    trainer.predict("plain")  # of what has been trained
    assert trainer.position.forward_units == counted


@pytest.mark.parametrize("method", ["bmm", "pencil"])
def test_predictions_after_an_epoch_count_every_image_also_unlabelled_ones(method):
    """Of bmm by its phases; of pencil those before its labels move, where nothing has been averaged yet."""
    changes = {"variant": "m-dyr-h"} if method == "bmm" else {"average_from": "3", "when_weak": "wait"}
    trainer = make_trainer(method, given=without_labels(20), **changes)
    of_steps = 180 * sum(phase.epochs * phase.forward_units for phase in trainer.method.phases())
    passes = watched_passes(trainer)
    list(trainer.epochs())
    assert sum(passes) == trainer.position.forward_units
    predicted = trainer.position.forward_units - of_steps
    assert predicted > 0
    assert predicted % 200 == 0


def test_diverged_training_is_reported():
    trainer = make_trainer("cross-entropy", learning_rate="1e30")
    assert not list(trainer.epochs())[-1].is_finite


def test_a_report_survives_json():
    report = EpochReport(3, "train", 0.1, {"a": 1.5, "b": float("nan")}, {"share": 0.25}, 2.0)
    back = EpochReport.all_from_json([report.to_json()])[0]
    assert back.losses["a"] == 1.5
    assert np.isnan(back.losses["b"])
    assert back.reported == report.reported


def test_fewer_than_two_rows_are_refused():
    given = np.full(200, -1)
    given[5] = 3
    with pytest.raises(InputError, match="needs at least 2"):
        make_trainer("cross-entropy", given=given)


def test_predictions_cover_every_image_also_unlabelled_ones():
    found = make_trainer("cross-entropy", given=without_labels(20)).predict("plain")
    assert torch.isfinite(found).all()
    assert found.shape == (200, 10)


# ---------------------------------------------------------------- accuracy


def accuracy_by_hand(network: torch.nn.Module, labels: np.ndarray) -> float:
    pixels = torch.from_numpy((load_digits().images[: len(labels)] * (255 / 16)).round()).float()
    views = ((pixels / 255 - 0.3) / 0.37)[:, None].expand(-1, 3, -1, -1).to(DEVICE)
    with torch.no_grad():
        guess = network.eval()(views).argmax(dim=1).cpu().numpy()
    right = [g == label for g, label in zip(guess, labels, strict=True) if label >= 0]
    return sum(right) / len(right)


@pytest.mark.parametrize("rows", [200, 300])
def test_accuracy_is_the_share_of_labelled_rows_that_the_network_gets_right(rows):
    """Also of a source with other rows than those it is trained on."""
    trainer = make_trainer("cross-entropy")
    list(trainer.epochs())
    labels = digit_labels(rows)[1].copy()
    labels[50:120] = -1
    found = trainer.accuracy(digit_source(rows), labels)
    assert 0.1 < found < 1
    assert found == pytest.approx(accuracy_by_hand(trainer.method.network, labels))


def test_a_label_may_be_among_the_most_probable_classes(tmp_path, monkeypatch):
    """Reported of many classes: of few the first five are most of them."""
    trainer, labels = make_trainer("cross-entropy", epochs=2), digit_labels(200)[1]
    watched = [Watched("test", digit_source(200), labels)]
    (plain, _) = resume.train(trainer, tmp_path / "few", Silent(), watched)
    assert "test_top5_accuracy" not in plain.reported
    probs = trainer.predict().cpu().numpy()
    rank = (probs > probs[np.arange(200), labels][:, None]).sum(axis=1)
    found = trainer.top_accuracies(trainer.source, labels, (1, 3, 5))
    assert found == pytest.approx([(rank < top).mean() for top in (1, 3, 5)])
    monkeypatch.setattr(resume, "_MANY_CLASSES", 10)
    (_, last) = resume.train(make_trainer("cross-entropy", epochs=2), tmp_path / "many", Silent(), watched)
    assert [last.reported[f"test{word}_accuracy"] for word in ("", "_top5")] == pytest.approx(found[::2])


@pytest.mark.parametrize("method", ["bmm", "cross-entropy"])
def test_measuring_accuracy_changes_nothing(method):
    plain, measured = make_trainer(method), make_trainer(method)
    list(plain.epochs())
    for _ in measured.epochs():
        measured.accuracy(measured.source, digit_labels(200)[1])
    assert_same(state_of(plain), state_of(measured))
    assert plain.position.forward_units == measured.position.forward_units


class TestAveragedWeights:
    @pytest.mark.parametrize("steps", [1, 2, 7])
    @pytest.mark.parametrize("warmup_epochs", ["0", "1"])
    def test_they_follow_the_weights_step_by_step(self, warmup_epochs, steps):
        trainer = make_trainer("meta", epochs=3, ema_decay="0.3", warmup_epochs=warmup_epochs)
        list(trainer.epochs(stop_after(4 * int(warmup_epochs))))
        assert trainer.network is trainer.method.network or warmup_epochs == "0"
        left, seen = iter(range(steps)), []

        def look():
            seen.append([value.detach().double().clone() for value in trainer.method.network.parameters()])
            return next(left, None) is not None

        list(trainer.epochs(look))
        assert len(seen) == 1 + steps
        wanted = seen[0]
        for step, weights in enumerate(seen[1:]):
            decay = min(0.3, (1 + step) / (10 + step))  # .3 from the fourth step on
            wanted = [decay * a + (1 - decay) * w for a, w in zip(wanted, weights, strict=True)]
        for found, value in zip(trainer.network.parameters(), wanted, strict=True):
            torch.testing.assert_close(found.double(), value, rtol=1e-5, atol=1e-7)
            assert not found.requires_grad

    def test_they_predict_with_the_statistics_of_the_network(self):
        trainer = trained("meta", epochs=2)
        averaged, own = trainer.network, trainer.method.network
        assert averaged is not own
        for found, value in zip(averaged.buffers(), own.buffers(), strict=True):
            assert torch.equal(found, value)
        images = digit_source(200)._on_device
        with torch.no_grad():
            wanted = averaged.eval()(trainer.source.augmentation.plain(images))
        torch.testing.assert_close(trainer.predict(), wanted.cpu(), rtol=1e-4, atol=1e-5)

    def test_without_a_decay_the_network_itself_predicts(self):
        trainer = trained("meta", epochs=2, ema_decay="0")
        assert trainer.network is trainer.method.network


def test_the_state_of_a_step_holds_the_momentum():
    trainer = make_trainer("cross-entropy")
    phase = trainer.method.phases()[0]
    assert trainer._train_state(phase).velocity == {}
    list(trainer.epochs(stop_after(1)))
    velocity = trainer._train_state(phase).velocity
    gradients = {name: value.grad for name, value in trainer.method.named_parameters()}
    assert velocity.keys() == gradients.keys()
    decay = trainer.method.settings.weight_decay
    for name, value in trainer.method.named_parameters():
        # The first momentum is the gradient at the first weights, decay included: those differ by one step.
        before = value.detach() + trainer.method.settings.learning_rate * velocity[name]
        torch.testing.assert_close(velocity[name], gradients[name] + decay * before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("decaying", ["all", "kernels"])
def test_weight_decay_holds_all_weights_or_the_kernels_alone(decaying):
    """Reference: the first step of momentum SGD, w - rate (gradient + decay w)."""
    trainer = make_trainer("cross-entropy", weight_decay="0.3", weight_decay_on=decaying)
    before = {name: value.detach().clone() for name, value in trainer.method.named_parameters()}
    list(trainer.epochs(stop_after(1)))
    for name, value in trainer.method.named_parameters():
        decay = 0.3 if decaying == "all" or value.ndim > 1 else 0.0
        step = trainer.method.settings.learning_rate * (value.grad + decay * before[name])
        torch.testing.assert_close(value.detach(), before[name] - step, rtol=1e-4, atol=1e-6)

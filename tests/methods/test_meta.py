"""Meta re-labelling: the meta step against double backward, each loss against its equation, trusted rows, cycles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import references
import torch
from digit_training import (
    DEVICE,
    digit_labels,
    digit_source,
    loss_of,
    make_trainer,
    numpy,
    trusted_digits,
    watched_passes,
)
from meta_references import meta_by_double_backward
from torch import nn

from labelfix.methods import look_ahead
from labelfix.methods.base import TrainState
from labelfix.methods.batch import Labels
from labelfix.methods.look_ahead import Step, meta_weights
from labelfix.methods.meta import Meta, presets
from labelfix.methods.schedules import cosine_cycles
from labelfix.methods.trusted_stream import balanced_slices
from labelfix.networks.statistics import frozen_statistics

FAST = presets()["fast"]


class Residual(nn.Module):
    """A small network with all that is difficult: convolution, BatchNorm, a skip."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.unused = nn.Linear(2, 2)
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        self.head = nn.Linear(6, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.first(images)
        return self.head(self.dropout((found + self.second(found)).relu().mean(dim=(2, 3))))


def with_views(batch, change):
    return dataclasses.replace(batch, views=tuple(change(view) for view in batch.views))


def made(changes: dict[str, str], dropout: float = 0.0) -> tuple[Meta, object, dict[str, torch.Tensor]]:
    """The method in float64 with a batch of digits and a momentum."""
    torch.manual_seed(0)
    settings = FAST.changed({"weight_decay": "0.01", **changes})
    given, trusted = digit_labels(60)[0], trusted_digits(60, of_each=2)
    labels = Labels.of(given, 10, torch.device("cpu"), trusted)
    method = Meta(Residual(dropout), labels, settings).double().train()
    source = digit_source(60)
    (batch,) = source.batches([np.arange(24)], ("weak", "strong"), [3])
    (probe,) = source.batches([np.flatnonzero(trusted >= 0)], ("weak",), [4])
    batch, probe = (
        dataclasses.replace(with_views(each, lambda view: view.cpu().double()), rows=each.rows.cpu())
        for each in (batch, probe)
    )
    velocity = {f"network.{name}": 0.1 * torch.randn_like(p) for name, p in method.network.named_parameters()}
    return method, dataclasses.replace(batch, trusted=probe), velocity


@pytest.mark.parametrize("guess_gradient", ["false", "true"])
@pytest.mark.parametrize("has_velocity", [True, False])
@pytest.mark.parametrize("decaying", ["all", "kernels"])
def test_the_meta_step_is_that_of_double_backward(guess_gradient, has_velocity, decaying):
    changes = {"guess_gradient": guess_gradient, "weight_decay_on": decaying, "weight_decay": "0.3"}
    method, batch, velocity = made({**changes, "derivative": "forward-mode"})
    kernels = [name for name, value in method.network.named_parameters() if value.ndim > 1]
    assert 0 < len(kernels) < len(velocity)
    decays = {
        name: 0.3 if decaying == "all" or name in kernels else 0.0
        for name, _ in method.network.named_parameters()
    }
    given = torch.eye(10, dtype=torch.float64)[method.given[batch.rows]]
    zeros = {name: torch.zeros_like(value) for name, value in velocity.items()}
    when = TrainState(method.phases()[0], 1.5, velocity if has_velocity else {})
    with frozen_statistics(method.network):
        logits, strong = (method.network(view) for view in batch.views)
        guess = method._guess(logits, strong)
        found = method._meta_step(when, batch, given, guess, logits)
        by_weight, by_label = meta_by_double_backward(
            method.network,
            *batch.views,
            given,
            batch.trusted.views[0],
            method.verified[batch.trusted.rows],
            {n.removeprefix("network."): v for n, v in (velocity if has_velocity else zeros).items()},
            step=(0.1, 0.9, decays),
            share=0.9,
            follows=guess_gradient == "true",
            guess_of=method._guess,
        )
    useful = (-by_weight).clamp_min(0)
    torch.testing.assert_close(found.weights, useful / (useful.sum() + 1e-5), rtol=1e-10, atol=1e-14)
    assert torch.equal(found.keeps_given, (by_label < 0).double())
    assert 0 < found.keeps_given.mean() < 1
    assert 0 < (found.weights > 0).double().mean() < 1


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_differences_come_close_to_the_derivative_in_float32(dropout):
    method, batch, velocity = made({}, dropout)
    given = torch.eye(10)[method.given[batch.rows]]
    method = method.float()
    trusted = with_views(batch.trusted, torch.Tensor.float)
    batch = dataclasses.replace(with_views(batch, torch.Tensor.float), trusted=trusted)
    when = TrainState(method.phases()[0], 1.5, {name: value.float() for name, value in velocity.items()})
    found = []
    with frozen_statistics(method.network):
        logits, strong = (method.network(view) for view in batch.views)
        guess = method._guess(logits, strong)
        for derivative in look_ahead.DERIVATIVES:
            torch.manual_seed(5)  # as the trainer does at every step
            method.settings = method.settings.changed({"derivative": derivative})
            found.append(method._meta_step(when, batch, given, guess, logits))
    exact, close = found
    assert (exact.weights - close.weights).abs().max() < 0.05 * exact.weights.max()
    assert torch.equal(exact.keeps_given, close.keeps_given)


def test_differences_keep_all_bits_of_float32_on_a_gpu():
    seen = []

    def function(point):
        seen.append(torch.backends.cudnn.allow_tf32)
        return (point["weight"] ** 2,)

    before = torch.backends.cudnn.allow_tf32
    weight = {"weight": torch.tensor([3.0])}
    (slope,) = look_ahead.central_differences(function, weight, {"weight": torch.tensor([2.0])})
    assert slope.item() == pytest.approx(12, rel=1e-3)
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32 == before


def test_where_no_sample_helps_none_has_a_weight_and_a_label_that_is_the_guess_is_no_matter():
    given, guess = torch.eye(3), torch.full((3, 3), 1 / 3)
    # Every given label gets more probable against v.
    found = meta_weights(given, guess, 0.9, 0.1, slope=given)
    assert found.weights.tolist() == [0, 0, 0]
    assert found.keeps_given.tolist() == [0, 0, 0]
    found = meta_weights(given, guess, 0.9, 0.1, slope=-given)
    assert 1 - 1e-3 < found.weights.sum().item() < 1
    assert found.keeps_given.tolist() == [1, 1, 1]
    assert meta_weights(given, given, 0.9, 0.1, slope=torch.randn(3, 3)).keeps_given.tolist() == [0, 0, 0]


def test_the_look_ahead_is_a_step_of_sgd():
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    groups = [{"params": [network.weight], "weight_decay": 0.02}, {"params": [network.bias]}]
    optimiser = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for _ in range(2):
        before = {name: value.detach().clone() for name, value in network.named_parameters()}
        states = {name: optimiser.state.get(value) for name, value in network.named_parameters()}
        velocity = {name: state["momentum_buffer"].clone() for name, state in states.items() if state}
        optimiser.zero_grad()
        network(torch.randn(5, 4)).logsumexp(dim=1).mean().backward()
        gradient = {name: value.grad.clone() for name, value in network.named_parameters()}
        ahead = look_ahead.stepped(before, gradient, velocity, Step(0.1, 0.9, {"weight": 0.02, "bias": 0.0}))
        optimiser.step()
        for name, value in network.named_parameters():
            torch.testing.assert_close(ahead[name], value.detach())


@pytest.mark.parametrize("logit_norm", ["true", "false"])
def test_guesses_are_those_of_the_equation(logit_norm):
    method, _, _ = made({"logit_norm": logit_norm, "temperature": "0.5"})
    weak, strong = 3 * torch.randn(2, 8, 10, dtype=torch.float64)
    wanted = references.pseudo_labels(weak.numpy(), strong.numpy(), 0.5, normalise=logit_norm == "true")
    np.testing.assert_allclose(method._guess(weak, strong).numpy(), wanted, rtol=1e-9)


class Linear(nn.Module):
    """Logits that a test can follow: one number a pixel and class."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))


# What table 9 leaves out, by its rows, and the parts of the loss that are left.
WEIGHTS_ALONE = {"trusted_weight": "0", "mixup_weight": "0", "consistency": "0"}
ABLATIONS = {
    "M-1": ({**WEIGHTS_ALONE, "strong_view": "cutout", "relabel": "false"}, {"reweighted"}),
    "M-2": ({**WEIGHTS_ALONE, "strong_view": "cutout"}, {"relabelled", "reweighted"}),
    "M-3": (WEIGHTS_ALONE, {"relabelled", "reweighted"}),
    "M-4": ({"consistency": "0"}, {"relabelled", "reweighted", "mixup_trusted", "mixup"}),
    "M-5": ({}, {"relabelled", "reweighted", "mixup_trusted", "mixup", "consistency"}),
    "M-6": ({"trusted_weight": "0", "mixup_weight": "0"}, {"relabelled", "reweighted", "consistency"}),
    "M-7": (
        {"strong_view": "cutout"}, {"relabelled", "reweighted", "mixup_trusted", "mixup", "consistency"},
    ),
    "M-8": ({"relabel": "false"}, {"reweighted", "mixup_trusted", "mixup", "consistency"}),
    "M-9": ({"mixup": "false"}, {"relabelled", "reweighted", "mixup_trusted", "mixup", "consistency"}),
    "PA": (
        {"strong_view": "autoaugment"}, {"relabelled", "reweighted", "mixup_trusted", "mixup", "consistency"},
    ),
    "T": ({"threshold": "0.03"}, {"relabelled", "reweighted", "mixup_trusted", "mixup", "consistency"}),
}  # fmt: skip


@pytest.mark.parametrize("row", ABLATIONS)
def test_every_part_of_the_loss_is_that_of_its_equation(row):
    """Of the whole (M-5), of every row of the ablation table, and with a threshold that doubts only some samples."""
    torch.manual_seed(1)
    changes, wanted = ABLATIONS[row]
    trainer = make_trainer("meta", rows=60, batch_size="30", warmup_epochs="0", **changes)
    labels = trainer.method.labels
    method = Meta(Linear(), labels, trainer.method.settings).to(DEVICE).train()
    trainer.method = method
    batch = next(trainer._epoch_batches(method.phases()[0]))
    chosen_weights = []
    method._remember_choices = lambda when, rows, guess, choices: (
        chosen_weights.append(choices.weights), Meta._remember_choices(method, when, rows, guess, choices)
    )  # fmt: skip
    draws = np.random.default_rng(0)
    draws.bit_generator.state = batch.rng.bit_generator.state
    found = method.loss(TrainState(method.phases()[0], 0.0), batch)
    parts = {name: part.item() for name, part in found.items()}
    weak, strong, probe = (view.double().cpu() for view in (*batch.views, *batch.trusted.views))
    network = method.network.cpu().double()
    with torch.no_grad():
        logits, other = network(weak).numpy(), network(strong).numpy()
    rows, settings = batch.rows.cpu().numpy(), method.settings
    given = np.eye(10)[method.given.cpu().numpy()[rows]]
    guess = references.pseudo_labels(logits, other, settings.temperature, normalise=True)
    log_p, log_q = (np.log(references.softmax(z)) for z in (logits, other))

    keeps = method.keeps_given.cpu().numpy()[rows]  # of the first visit: the choice itself
    chosen = np.where(keeps[:, None] == 1, given, guess)
    assert parts.keys() == wanted
    expected = {"relabelled": -(chosen * log_p).sum(axis=1).mean() / 2}
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()
    expected["consistency"] = settings.consistency * divergence
    share, part = (0.9, 0.5) if "relabelled" in wanted else (1, 1)
    losses = -((share * given + (1 - share) * guess) * log_p).sum(axis=1)
    expected["reweighted"] = part * (numpy(chosen_weights[0]) * losses).sum()

    count = len(rows)
    drawn, partner = draws.integers(len(probe), size=count), draws.permutation(3 * count)
    share = draws.random(3 * count) ** 2 / 2
    share = np.maximum(share, 1 - share) if row != "M-9" else np.ones(3 * count)
    assert share.min() >= 0.5
    pool = torch.cat([probe[drawn], weak, strong])
    verified = method.verified.cpu().numpy()[batch.trusted.rows.cpu().numpy()[drawn]]
    is_doubted = numpy(chosen_weights[0])[:, None] < settings.threshold
    assert is_doubted.all() == (row != "T")
    assert is_doubted.any()
    believed = np.where(is_doubted, guess, given)
    targets = np.concatenate([np.eye(10)[verified], believed, believed])
    of_images = torch.from_numpy(share).view(-1, 1, 1, 1)
    mixed = pool * of_images + pool[partner] * (1 - of_images)
    targets = share[:, None] * targets + (1 - share)[:, None] * targets[partner]
    with torch.no_grad():
        blocks = np.split(network(mixed).numpy(), 3)
    blocks = [block / np.sqrt((block**2).mean() + 1e-8) for block in blocks]
    losses = [references.cross_entropy(t, z) for t, z in zip(np.split(targets, 3), blocks, strict=True)]
    expected["mixup_trusted"] = losses[0]
    expected["mixup"] = settings.mixup_weight * (losses[1] + losses[2]) / 2
    for name in wanted:
        assert parts[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name


def test_without_choices_the_look_ahead_is_on_the_given_labels_alone():
    """lambda_0 = 1, against double backward."""
    method, batch, velocity = made({"relabel": "false", "derivative": "forward-mode"})
    given = torch.eye(10, dtype=torch.float64)[method.given[batch.rows]]
    with frozen_statistics(method.network):
        logits, strong = (method.network(view) for view in batch.views)
        found = method._meta_step(
            TrainState(method.phases()[0], 1.5, velocity), batch, given, method._guess(logits, strong), logits
        )
        by_weight, _ = meta_by_double_backward(
            method.network, *batch.views, given, batch.trusted.views[0],
            method.verified[batch.trusted.rows], {n.removeprefix("network."): v for n, v in velocity.items()},
            step=(0.1, 0.9, dict.fromkeys(dict(method.network.named_parameters()), 0.01)),
            share=1.0, follows=False, guess_of=method._guess,
        )  # fmt: skip
    useful = (-by_weight).clamp_min(0)
    torch.testing.assert_close(found.weights, useful / (useful.sum() + 1e-5), rtol=1e-10, atol=1e-14)


def test_only_the_first_forward_moves_the_statistics():
    trainer = make_trainer("meta")
    method, phase = trainer.method, trainer.method.phases()[0]
    batch = next(trainer._epoch_batches(phase))
    alone = make_trainer("meta").method
    alone.network.train()(batch.views[0])
    method.train().loss(TrainState(phase, 0.0), batch)
    for found, wanted in zip(method.network.buffers(), alone.network.buffers(), strict=True):
        torch.testing.assert_close(found, wanted)


def test_wrong_labels_are_kept_less_often_than_right_ones():
    given, true = digit_labels(600)
    trainer = make_trainer("meta", rows=600, epochs=8, given=given)
    reports = list(trainer.epochs())
    kept = trainer.method.keeps_given.cpu().numpy()
    assert kept[given == true].mean() > kept[given != true].mean() + 0.05
    assert reports[-1].reported["kept_share"] == pytest.approx(kept.mean(), abs=1e-6)


def test_the_passes_counted_are_those_promised():
    exact = {"derivative": "forward-mode"}
    ablations = [changes for changes, _ in ABLATIONS.values() if "relabel" not in changes]
    for changes in ({}, exact, {"guess_gradient": "true"}, {"guess_gradient": "true", **exact}, *ablations):
        for warmup in (0, 1):
            trainer = make_trainer("meta", epochs=2, average_from="0", warmup_epochs=str(warmup), **changes)
            passes, rows = watched_passes(trainer), trainer.num_trained_rows
            list(trainer.epochs())
            # What is no forward: the backward of the look-ahead, and tangents; two passes for each view that it sees.
            views = 2 if "guess_gradient" in changes else 1
            others = 2 * views * (2 if "derivative" in changes else 1) * rows * (2 - warmup)
            assert trainer.position.forward_units == sum(passes) + others
            asked = sum(phase.units_per_row for phase in trainer.method.phases())
            assert trainer.position.forward_units / rows == pytest.approx(asked, rel=0.01)


def test_trusted_rows_take_turns_by_class():
    trusted = np.full(50, -1)
    trusted[[3, 10, 11, 40]] = [2, 0, 0, 5]
    slices = balanced_slices(trusted, 7, 6, np.random.default_rng(0))
    assert [len(rows) for rows in slices] == [6] * 7
    drawn = np.concatenate(slices)
    counts = {row: int((drawn == row).sum()) for row in (3, 10, 11, 40)}
    assert counts[3] == counts[40] == 14
    assert {counts[10], counts[11]} == {7}
    for start in range(0, 42, 3):
        assert sorted(trusted[drawn[start : start + 3]]) == [0, 2, 5]


def test_cycles_end_where_the_code_of_the_paper_ends_them():
    ends = [500, 1250, 2375, 4062.5, 6593.75]
    whole = 500 * (1.5**13 - 1) / 0.5
    assert round(whole) == 193_620
    for number, end in enumerate(ends):
        assert cosine_cycles((end - 0.01) / whole, 13) == pytest.approx(0, abs=1e-6)
        assert cosine_cycles((end + 0.01) / whole, 13) == pytest.approx(0.9 ** (number + 1), rel=1e-6)
    assert cosine_cycles(250 / whole, 13) == pytest.approx(0.5)
    assert cosine_cycles(1 - 1e-9, 13) == pytest.approx(0, abs=1e-9)


def test_the_rate_is_constant_in_the_warm_up_and_falls_to_nothing_after_it():
    method = make_trainer("meta").method
    method.settings = FAST.changed(
        {"train_epochs": "10", "warmup_epochs": "6", "cycles": "1", "learning_rate": "0.2"}
    )
    phases = method.phases()
    assert [(phase.name, phase.epochs) for phase in phases] == [("warmup", 6), ("meta", 4)]
    rates = [method.learning_rate(TrainState(phases[0], epoch)) for epoch in (0.0, 3.0, 5.9, 6.0, 8.0, 9.999)]
    assert rates == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.1, 0.0], abs=1e-5)


def test_the_warm_up_is_cross_entropy_and_asks_no_trusted_sample():
    trainer = make_trainer("meta", epochs=2)
    phase = trainer.method.phases()[0]
    batch = next(trainer._epoch_batches(phase))
    assert batch.trusted is None
    parts, (logits,) = loss_of(trainer, phase, batch)
    given = trainer.method.given.cpu().numpy()[batch.rows.cpu().numpy()]
    wanted = references.cross_entropy(np.eye(10)[given], numpy(logits))
    assert {name: part.item() for name, part in parts.items()} == {
        "cross_entropy": pytest.approx(wanted, rel=1e-5)
    }


def test_cycles_or_milestones():
    method = make_trainer("meta").method
    phase = method.phases()[-1]
    method.settings = FAST.changed({"cycles": "0", "milestones": "4,8", "learning_rate": "0.2"})
    rates = [method.learning_rate(TrainState(phase, epoch)) for epoch in (3.9, 4.0, 8.0)]
    assert rates == pytest.approx([0.2, 0.02, 0.002])

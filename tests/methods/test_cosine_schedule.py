"""The schedule `cosine`: what a step's learning rate is, over one training and over two."""

from __future__ import annotations

import math

import pytest
import torch
from digit_training import make_trainer

from labelfix.methods.base import TrainState


def rates(method, epochs):
    phases = [phase for phase in method.phases() for _ in range(phase.epochs)]
    return [method.learning_rate_now(TrainState(phases[int(epoch)], epoch)) for epoch in epochs]


def of(name, **changes):
    method = make_trainer(name, rows=100).method
    method.settings = type(method).presets()["fast-tune"].changed(changes)
    return method


def test_it_rises_over_a_tenth_and_falls_to_nothing_along_a_cosine():
    method = of("cross-entropy")
    expected = [0.01, 0.02, 0.02 * (1 + math.cos(math.pi * 2.4 / 5.4)) / 2]

    assert rates(method, (0.3, 0.6, 3.0)) == pytest.approx(expected)
    assert rates(method, (5.999,))[0] < 1e-8


def test_steps_leave_the_rate_of_the_method():
    method = of("cross-entropy", schedule="steps", milestones="4")

    assert rates(method, (0.0, 3.9, 4.1)) == pytest.approx([0.02, 0.02, 0.002])


@pytest.mark.parametrize("name", ["joint", "pencil", "forward-correction"])
def test_phases_that_go_on_with_the_network_share_one_cosine(name):
    method = of(name, **({"warm_start": "true"} if name == "forward-correction" else {}))
    found = rates(method, (0.6, 2.9, 3.1, 5.9))

    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(0.02)
    assert found[-1] < 2e-4


def test_a_second_training_has_its_own():
    method = of("forward-correction", warm_start="false")
    first, second = method.phases()
    into = second.epochs * 0.1

    assert second.fresh
    assert rates(method, (first.epochs - 0.001,))[0] < 1e-6
    assert rates(method, (first.epochs + into,)) == pytest.approx([0.02])


def test_predictions_of_two_trainings_are_not_averaged_together():
    joint = of("joint", warm_start="false").settings
    forward = of("forward-correction", warm_start="false").settings

    assert joint.averaged.stop <= joint.correct_epochs
    assert forward.averaged.start > forward.estimate_epochs
    assert forward.averaged.stop == forward.epochs


def test_the_decay_of_the_noise_layer_counts_what_the_schedule_leaves_of_the_rate():
    steps, cosine = of("nnaqc", schedule="steps"), of("nnaqc")
    many = torch.zeros(50_000, dtype=torch.int64)
    steps.given = cosine.given = many

    assert cosine._layer_decay() == pytest.approx(2 * steps._layer_decay())


def test_meta_keeps_its_own_cycles():
    method = of("meta")
    phases = [phase for phase in method.phases() for _ in range(phase.epochs)]
    when = TrainState(phases[-1], len(phases) - 0.5)

    assert method.learning_rate_now(when) == method.learning_rate(when)

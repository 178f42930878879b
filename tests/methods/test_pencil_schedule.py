"""PENCIL: stages, rates and presets."""

from __future__ import annotations

import numpy as np
import pytest
from digit_training import make_trainer

from labelfix.methods.base import TrainState
from labelfix.methods.pencil import Pencil


def of(**changes):
    method = make_trainer("pencil", rows=100).method
    method.settings = Pencil.presets()[changes.pop("preset", "paper")].changed(changes)
    return method


def rates(method, epochs):
    phases = [phase for phase in method.phases() for _ in range(phase.epochs)]
    return [method.learning_rate(TrainState(phases[epoch], epoch + 0.5)) for epoch in epochs]


def test_the_stages_and_rates_are_those_of_the_paper():
    method = of(preset="paper-cifar10-sym70")
    assert [(p.name, p.epochs) for p in method.phases()] == [
        ("backbone", 70),
        ("labels", 130),
        ("classifier", 120),
    ]
    found = rates(method, (0, 69, 70, 199, 200, 239, 240, 279, 280, 319))
    expected = [0.08] * 4 + [0.2] * 2 + [0.02] * 2 + [0.002] * 2
    assert found == pytest.approx(expected)


def test_a_repeat_has_nine_tenths_of_the_rates_and_steps_of_the_one_before():
    method = of(repeats="3")
    names = ["backbone", "labels", "classifier", "labels-2", "classifier-2", "labels-3", "classifier-3"]
    assert [phase.name for phase in method.phases()] == names
    assert method.settings.epochs == 70 + 3 * 250
    first = rates(method, range(70, 320))
    assert rates(method, range(320, 570)) == pytest.approx([0.9 * rate for rate in first])
    assert rates(method, range(570, 820)) == pytest.approx([0.81 * rate for rate in first])
    steps = [
        method.label_step(TrainState(method.phases()[k], epoch)) for k, epoch in ((1, 90), (3, 340), (5, 590))
    ]
    assert steps == pytest.approx([0.3125, 0.28125, 0.253125])


def test_how_much_less_a_repeat_does_can_be_set():
    method = of(repeats="2", repeat_factor="0.5")
    assert rates(method, (70, 320)) == pytest.approx([0.04, 0.02])
    assert method.label_step(TrainState(method.phases()[3], 340)) == pytest.approx(0.3125 / 2)


def test_the_label_step_falls_linearly_to_nothing_where_table_1_says_so():
    method = of(preset="paper-cifar10-asym40")
    phase = method.phases()[1]
    found = [method.label_step(TrainState(phase, 70 + epoch + 0.5)) for epoch in range(130)]
    np.testing.assert_allclose(found, np.linspace(3000 / 1280, 0, 130), atol=1e-12)
    steady = of(preset="paper-cifar10-asym30")
    assert steady.label_step(TrainState(phase, 199.5)) == pytest.approx(600 / 1280)


@pytest.mark.parametrize(
    ("preset", "row"),
    [
        ("sym10", (0.02, 0.1, 0.8, 200)), ("sym30", (0.03, 0.1, 0.8, 300)), ("sym50", (0.04, 0.1, 0.8, 400)),
        ("sym70", (0.08, 0.1, 0.8, 800)), ("sym90", (0.12, 0.1, 0.4, 1200)), ("asym10", (0.06, 0.1, 0.4, 600)),
        ("asym20", (0.06, 0.1, 0.4, 600)), ("asym30", (0.06, 0.1, 0.4, 600)), ("asym40", (0.03, 0, 0.4, 3000)),
        ("asym50", (0.03, 0, 0.4, 4000)),
    ],
)  # fmt: skip
def test_the_presets_are_table_1(preset, row):
    s = Pencil.presets()[f"paper-cifar10-{preset}"]
    assert (s.learning_rate, s.rho / 10, s.beta, s.label_step * 128 * 10) == pytest.approx(row)
    assert (s.batch_size, s.momentum, s.weight_decay, s.epochs) == (128, 0.9, 1e-4, 320)
    assert (s.compat, s.divide_by_classes, s.classification_loss) == ("reference", True, "inverse-kl")


def test_paper_is_half_symmetric_noise_and_cifar100_has_100_classes():
    presets = Pencil.presets()
    assert presets["paper"] == presets["paper-cifar10-sym50"]
    s = presets["paper-cifar100"]
    assert (s.learning_rate, s.rho / 100, s.beta, s.label_step * 128 * 100) == pytest.approx(
        (0.35, 0.1, 0.4, 1e4)
    )


def test_the_fast_preset_costs_at_most_120_passes():
    method = of(preset="fast")
    assert sum(phase.units_per_row for phase in method.phases()) <= 120


@pytest.mark.parametrize("total", [4, 9, 30, 200, 1640])
def test_epochs_scale_every_repeat_and_keep_how_far_labels_travel(total):
    settings = of(repeats="3").settings
    scaled = settings.with_epochs(total)
    assert scaled.epochs == total
    assert scaled.label_step * scaled.labels_epochs == pytest.approx(0.3125 * 130)
    scaled.check()
    assert settings.with_epochs(820) == settings
    if total == 1640:
        assert (scaled.labels_epochs, scaled.classifier_epochs, scaled.milestones) == (260, 240, (80, 160))


def test_too_few_epochs_are_refused():
    with pytest.raises(ValueError, match="4 phases need at least 4 epochs"):
        of(repeats="3").settings.with_epochs(3)


def test_without_a_last_stage_the_run_ends_with_the_labels():
    method = of(preset="fast", classifier_epochs="0")
    assert [phase.name for phase in method.phases()] == ["backbone", "labels"]
    assert method.settings.epochs == 33


def test_on_clothing1m_the_label_step_falls_once_in_the_middle_of_the_labels():
    method = of(preset="paper-clothing1m")
    phase = method.phases()[1]
    found = [method.label_step(TrainState(phase, 5 + epoch + 0.5)) for epoch in range(10)]
    assert found == pytest.approx([3000 / (32 * 14)] * 5 + [500 / (32 * 14)] * 5)
    method.settings = method.settings.with_epochs(50)
    assert method.label_step(TrainState(method.phases()[1], 10 + 9.5)) == pytest.approx(1500 / (32 * 14))
    assert method.label_step(TrainState(method.phases()[1], 10 + 10.5)) == pytest.approx(250 / (32 * 14))

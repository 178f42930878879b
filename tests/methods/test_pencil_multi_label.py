"""PENCIL and cross-entropy where a row may have several labels: stages, labels that move, state, presets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mosaics import make_trainer
from refusals import refuses

from labelfix.methods import method_class, multi_label_methods
from labelfix.methods.base import MethodSettings

NAMES = ["pencil", "cross-entropy"]


def states(trainer):
    return {name: value.clone() for name, value in trainer.state()[0].items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("optimiser", ["sgd", "rmsprop"])
@pytest.mark.parametrize("momentum", ["0.9", "0"])
def test_an_interrupted_training_goes_on_to_the_same_bytes(name, optimiser, momentum):
    changes = {"optimiser": optimiser, "momentum": momentum, "head_rate": "5", "learning_rate": "0.001"}
    whole, _ = make_trainer(name, **changes)
    list(whole.epochs())
    stopped, _ = make_trainer(name, **changes)
    steps = iter(range(1000))
    list(stopped.epochs(lambda: next(steps) < 7))
    tensors, facts = stopped.state()
    resumed, _ = make_trainer(name, **changes)
    resumed.restore({key: value.clone() for key, value in tensors.items()}, facts)
    list(resumed.epochs())
    expected = states(whole)
    found = states(resumed)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_and_averages_are_probabilities(name):
    trainer, given = make_trainer(name, epochs=6, average_from="0")
    reports = list(trainer.epochs())
    assert all(report.is_finite for report in reports)
    averaged = trainer.method.ensembled_probs
    assert averaged.shape == given.shape
    assert ((averaged > 0) & (averaged < 1)).all()
    assert not torch.allclose(averaged.sum(dim=1), torch.ones(len(given)))


def test_stages_have_the_losses_of_the_paper():
    trainer, _ = make_trainer("pencil", epochs=6)
    parts = {report.phase: set(report.losses) for report in trainer.epochs()}
    both = {"classification", "forward_classification"}
    assert parts == {
        "backbone": {"cross_entropy"},
        "labels": both | {"compatibility", "entropy"},
        "classifier": both,
    }


def test_labels_start_as_given_and_move_in_their_stage_only():
    trainer, given = make_trainer("pencil", epochs=6)
    method = trainer.method
    first = method.label_logits.clone()
    np.testing.assert_array_equal(first.numpy(), np.where(given >= 0.5, 10, -10))
    seen = {}
    for report in trainer.epochs():
        moved = not torch.equal(method.label_logits, seen.get("last", first))
        seen["last"] = method.label_logits.clone()
        assert moved == (report.phase == "labels")


def test_classes_that_may_not_move_keep_their_labels():
    trainer, _ = make_trainer("pencil", epochs=6)
    trainer.method.moving[1] = 0
    first = trainer.method.label_logits.clone()
    list(trainer.epochs())
    kept = (trainer.method.label_logits == first).all(dim=0)
    assert kept.tolist() == [False, True, False, False]


def test_a_class_moves_where_the_network_surely_ranks_its_rows_before_others():
    """Unsure of all rows alike it would take a rare class from nearly every one that has it."""
    trainer, given = make_trainer("pencil", when_weak="wait")
    rng = np.random.default_rng(0)
    seen = np.where(given >= 0.5, 0.9, 0.1)
    seen[:, 3] = 0.3 * rng.random(len(seen)) + 0.05 * given[:, 3]
    assert trainer.method.may_move(seen)
    assert trainer.method.moving.tolist() == [1, 1, 1, 0]


def test_a_network_that_knows_nothing_moves_no_label():
    trainer, _ = make_trainer("pencil", epochs=6, when_weak="wait", learning_rate="0")
    first = trainer.method.label_logits.clone()
    reports = list(trainer.epochs())
    assert torch.equal(trainer.method.label_logits, first)
    assert set(reports[-1].losses) == {"cross_entropy"}
    assert not trainer.method.own_evidence_of(0).fit.ok


def test_own_beliefs_are_those_of_the_labels_without_the_pull():
    trainer, given = make_trainer("pencil", kl_weight="0", rho="0.5")
    method = trainer.method
    with torch.no_grad():
        prediction = torch.full_like(method.label_logits, 0.2)
        rest = (prediction + 0.5 * torch.tensor(given)) / 1.5
        method.label_logits.copy_(torch.logit(rest))
    evidence = method.own_evidence_of(2)
    np.testing.assert_allclose(evidence.probs[:, 1], 0.2, atol=1e-5)
    np.testing.assert_allclose(evidence.noise, np.where(given[:, 2] >= 0.5, 0.8, 0.2), atol=1e-5)


def test_the_head_learns_at_its_own_rate():
    trainer, _ = make_trainer("pencil", head_rate="5")
    body, head = trainer.optimiser.param_groups
    list(trainer.epochs(lambda: trainer.position.step < 1))
    assert head["lr"] == pytest.approx(5 * body["lr"])
    inside = {id(parameter) for parameter in trainer.method.network.head.parameters()}
    assert {id(parameter) for parameter in head["params"]} == inside
    every = [*body["params"], *head["params"]]
    assert len(every) == len(list(trainer.method.parameters()))
    assert len(make_trainer("pencil", head="pool", head_rate="5")[0].optimiser.param_groups) == 1


def test_the_head_decays_by_its_own_number_where_weights_decay():
    def decays(**changes):
        groups = make_trainer("pencil", **changes)[0].optimiser.param_groups
        return [group["weight_decay"] for group in groups]

    assert decays(weight_decay="0.2", head_weight_decay="0.01") == [0.2, 0.01]
    assert decays(weight_decay="0", head_weight_decay="0.01") == [0, 0]
    kernels = decays(weight_decay="0.2", head_weight_decay="0.01", weight_decay_on="kernels")
    assert sorted(kernels) == [0, 0, 0.01, 0.2]
    assert decays(head="pool", weight_decay="0.2", head_weight_decay="0.01") == [0.2]


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_whole_and_those_of_the_paper_have_its_numbers(name):
    presets = method_class(name, "multi").presets()
    assert {"fast", "fast-head", "fast-tune", "paper", "paper-open-images"} <= set(presets)
    for settings in presets.values():
        assert isinstance(settings, MethodSettings)
        settings.check()
    assert presets["fast-head"].head == "pool"
    paper = presets["paper-open-images"]
    assert (paper.optimiser, paper.batch_size, paper.weight_decay, paper.decay) == (
        "rmsprop",
        128,
        4e-5,
        0.94,
    )
    if name == "pencil":
        stages = paper.backbone_epochs, paper.labels_epochs, paper.classifier_epochs
        assert stages == (35, 65, 60)
        assert {paper.learning_rate, paper.labels_rate, paper.classifier_rate} == {0.005}
        assert (paper.rho, paper.beta) == (0.2, 0.2)
    else:
        assert (paper.epochs, paper.learning_rate, paper.head_rate) == (90, 0.05, 5)
        assert presets["paper-open-images-pool"].learning_rate == 0.1
        coco = presets["paper-ms-coco"]
        assert (coco.epochs, coco.learning_rate, coco.milestones, coco.batch_size) == (60, 0.01, (20, 40), 24)


def test_other_methods_are_refused_by_naming_those_that_can():
    for name in "bmm", "meta", "confident-learning":
        refuses(method_class, f"--method {name}", *multi_label_methods(), name=name, task="multi")

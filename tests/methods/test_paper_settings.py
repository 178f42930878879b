"""Every paper preset against what its paper prints, number by number, from paper_settings.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from labelfix.methods import method_class, method_names, multi_label_methods
from labelfix.methods.batch import Labels
from labelfix.methods.bmm import VARIANTS

GROUPS = tomllib.loads((Path(__file__).parent / "paper_settings.toml").read_text("utf-8"))["group"]
METHODS = [
    *((name, "single") for name in method_names()),
    *((name, "multi") for name in multi_label_methods()),
]
CASES = [
    (group["method"], dict(zip(group["columns"], row, strict=True)), group)
    for group in GROUPS
    for row in group["rows"]
]


def ours(method: str, numbers: dict, classes: int, batch_size: int) -> dict:
    """The numbers of a paper as our settings have them."""
    found = dict(numbers)
    if (
        "alpha" in found and method == "pencil"
    ):  # rho = alpha K; the step of a row is lambda over the mean of B rows and K classes
        found["rho"] = found.pop("alpha") * classes
        found["label_step"] = found.pop("lambda") / (batch_size * classes)
        found["label_drop"] = found.pop("later_lambda", numbers["lambda"]) / numbers["lambda"]
    if method == "pencil":
        found.setdefault("labels_rate", found["learning_rate"])  # stages 1 and 2 have one rate
    if "every" in found:
        last = found.get("classifier_epochs", found.get("train_epochs"))
        found["milestones"] = [*range(found["every"], last, found.pop("every"))]
    if method == "joint":
        found["balance"], found["entropy"] = found.pop("alpha"), found.pop("beta")
        if "a" in found:
            found["mixup_alpha"] = found.pop("a")
    return found


@pytest.mark.parametrize(
    ("method", "row", "group"),
    CASES,
    ids=[f"{method}-{group.get('task', 'single')}-{row['preset']}" for method, row, group in CASES],
)
def test_a_preset_has_the_numbers_of_its_paper(method, row, group):
    settings = method_class(method, group.get("task", "single")).presets()[row["preset"]]
    printed = {**group["numbers"], **{name: value for name, value in row.items() if name != "preset"}}
    weight = printed.pop("weight", None)
    if weight is not None:  # w of bmm's static and dynamic bootstrapping
        assert VARIANTS[settings.variant].weight == (None if weight == "posterior" else weight)
    for name, value in ours(method, printed, group["classes"], group["numbers"]["batch_size"]).items():
        wanted = tuple(value) if isinstance(value, list) else value
        found = getattr(settings, name)
        assert found == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), (name, found)


@pytest.mark.parametrize(("method", "task"), METHODS)
def test_every_paper_preset_is_in_the_file_and_can_be_built(method, task):
    chosen = method_class(method, task)
    named = {name for name in chosen.presets() if name.startswith("paper")}
    listed = [
        row["preset"] for each, row, group in CASES if (each, group.get("task", "single")) == (method, task)
    ]
    assert sorted(listed) == sorted(named)
    given = torch.arange(40).numpy() % 10
    targets = None if task == "single" else np.eye(10, dtype=np.float32)[given]
    labels = Labels.of(given, 10, torch.device("cpu"), targets=targets)
    for name in named:
        settings = chosen.presets()[name]
        settings.check()
        made = chosen(torch.nn.Linear(1, 10), labels, settings)
        assert sum(phase.epochs for phase in made.phases()) == settings.epochs

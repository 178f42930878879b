"""The optimiser does torch's steps and leaves torch's compiler where it is."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import write_digits
from torch import nn

from labelfix.training.optimiser import optimiser_of

OWN = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.1, momentum=0.9, alpha=0.9),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def groups_of(trained):
    first, _, last = trained
    return [{"params": first.parameters(), "weight_decay": 0.01}, {"params": last.parameters(), "lr": 0.05}]


def step(trained, optimiser, seed):
    images = torch.randn(11, 5, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    trained(images).square().mean().backward()
    optimiser.step()


@pytest.mark.parametrize("kind", list(OWN))
def test_steps_and_state_are_those_of_torch(kind):
    ours, theirs = network(), network()
    method = SimpleNamespace(param_groups=lambda: groups_of(ours), optimiser=kind)
    settings = SimpleNamespace(learning_rate=0.1, momentum=0.9)
    one, other = optimiser_of(method, settings, torch.device("cpu")), OWN[kind](groups_of(theirs))
    for seed in range(3):
        step(ours, one, seed)
        step(theirs, other, seed)
    for own, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(own, wanted)
        assert own.grad_fn is None, "a step is none of what gradients are taken of"

    again = optimiser_of(method, settings, torch.device("cpu"))
    again.load_state_dict(one.state_dict())
    kept, wanted = again.state_dict(), other.state_dict()
    assert kept["param_groups"] == wanted["param_groups"]
    for number, state in wanted["state"].items():
        assert all(torch.equal(torch.as_tensor(kept["state"][number][name]), torch.as_tensor(value))
                   for name, value in state.items() if value is not None)  # fmt: skip


def test_a_scan_loads_no_compiler(tmp_path):
    write_digits(tmp_path / "images", 40)
    lines = (
        "import labelfix, sys, torch",
        "labelfix.scan('images', method='bmm', encoder='none', epochs=2, out='run')",
        "assert 'torch._dynamo' not in sys.modules",
        "parameter = torch.nn.Parameter(torch.ones(1))",
        "torch.optim.SGD([parameter], 0.1)",
        "assert 'torch._dynamo' in sys.modules, 'that of torch does: what is tested here is gone'",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr

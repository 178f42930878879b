"""The optimiser of a training: torch's own, but for what loads its compiler.

Before its first step an optimiser of torch imports `torch._dynamo`, two seconds of a processor, to keep the compiler
out of some of its methods. Nothing is compiled here, so they are called as they were written. The classes are our own:
those of torch stay as they are, also for whoever compiles in the same process.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from labelfix.methods.base import Method, MethodSettings

# What an optimiser knows of a parameter, by its name in a checkpoint.
SAVED = {"momentum": "momentum_buffer", "squares": "square_avg", "steps": "step"}
_SMOOTHING = 0.9  # of RMSprop, the alpha of Yi, Wang, Wu 2022, 4.2
_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _as_written(kind: type[torch.optim.Optimizer]) -> dict[str, Any]:
    """The methods of an optimiser without their decorators, all but the one of `step` that matters without a compiler.

    >>> sorted(_as_written(torch.optim.SGD))
    ['add_param_group', 'load_state_dict', 'state_dict', 'step', 'zero_grad']
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    return {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))}


_SGD = type("SGD", (torch.optim.SGD,), _as_written(torch.optim.SGD))
_RMSprop = type("RMSprop", (torch.optim.RMSprop,), _as_written(torch.optim.RMSprop))


def optimiser_of(method: Method, settings: MethodSettings, device: torch.device) -> torch.optim.Optimizer:
    """SGD with momentum, or RMSprop where the method asks for it, of all parameters in the method's groups."""
    groups, rate = method.param_groups(), settings.learning_rate
    if method.optimiser == "rmsprop":
        return _RMSprop(groups, lr=rate, momentum=settings.momentum, alpha=_SMOOTHING)
    # One kernel for all parameters, where every launch counts; a processor keeps the bytes it always had.
    fused = True if device.type == "cuda" else None
    return _SGD(groups, lr=rate, momentum=settings.momentum, fused=fused)

"""BatchNorm in passes that teach a network nothing: batch statistics are used, running ones are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, a network in training mode normalises by its batch and keeps its running statistics as they are.

    Nothing is written into a buffer, so `torch.func` can differentiate through such a pass.
    """
    layers = [
        layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True

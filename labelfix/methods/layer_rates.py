"""Learning rates by layer, as MatConvNet's examples have them: what the networks of Jindal et al. 2019 learn with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from labelfix.methods.base import Method, setting

LayerRates = Literal["equal", "matconvnet"]

# MatConvNet's multipliers of the learning rate: of kernels, of biases, and of both in the last layer.
_KERNEL, _BIAS, _HEAD = 0.1, 2.0, 0.1


def layer_rates() -> Any:
    """The setting `layer_rates`, which means the same for every method that has it."""
    return setting(
        "equal",
        "what `learning_rate` is multiplied by: 1 everywhere; or .1 for kernels, 2 for biases, .01 and .2 in the head",
        source="matconvnet in its example for CIFAR-10, which the networks of Jindal et al. 2019 are",
    )


def groups_by_rate(method: Method, layer_rates: LayerRates) -> list[dict[str, Any]]:
    """The parameters of a method's network, as SGD takes them: by their rate, then by their weight decay."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, rate in _rates(method.network, layer_rates):
        groups.setdefault(rate, []).append(parameter)
    return [group for rate, those in groups.items() for group in method.groups_by_decay(those, rate=rate)]


def _rates(network: nn.Module, layer_rates: LayerRates) -> Iterator[tuple[nn.Parameter, float]]:
    """Every parameter of the network, and what the learning rate is multiplied by for it."""
    if layer_rates == "equal":
        yield from ((parameter, 1.0) for parameter in network.parameters())
        return
    layers = [module for module in network.modules() if [*module.parameters(recurse=False)]]
    for layer in layers:
        of_layer = _HEAD if layer is layers[-1] else 1.0
        for parameter in layer.parameters(recurse=False):
            yield parameter, of_layer * (_KERNEL if parameter.ndim > 1 else _BIAS)

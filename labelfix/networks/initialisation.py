"""How our own networks start: convolutions from He et al. 2015's normal distribution."""

from __future__ import annotations

from torch import nn


def he_normal(network: nn.Module) -> None:
    """Draw all convolutions anew, in order, from torch's generator; their biases, where there are any, are 0.

    The standard deviation is sqrt(2 / fan_in). Source: He et al. 2015, "Delving Deep into Rectifiers", eq. 10.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

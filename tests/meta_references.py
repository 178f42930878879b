"""The meta step by differentiating through the update: slow, in torch, and without labelfix's own maths."""

from __future__ import annotations

import torch
from torch.func import functional_call


def meta_by_double_backward(
    network, weak, strong, given, trusted, labels, velocity, *, step, share, follows, guess_of
):
    """dG/domega (B,) and dG/dlambda (B,) of Zhang et al. 2020, section 4.3, by differentiating through the update.

    theta' = theta - a (mu m + d), d the gradient of sum_i omega_i CE(lambda_i y_i + (1 - lambda_i) g_i, p_i) + R at
    omega = 1 / B and lambda = lambda_0, R = weight decay; G = mean CE of the trusted samples at theta' + R(theta').

    Args:
        network: in training mode, statistics frozen.
        given: (B, K) one-hot y.
        velocity: momentum by parameter name.
        step: (a, mu, weight decay by parameter name).
        share: lambda_0.
        follows: whether g depends on theta.
        guess_of: logits of both views to g.
    """
    rate, momentum, decay = step
    params = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
    count = len(given)
    omega = torch.full((count,), 1 / count, dtype=weak.dtype, requires_grad=True)
    lambdas = torch.full((count, 1), share, dtype=weak.dtype, requires_grad=True)
    logits = functional_call(network, params, (weak,))
    guess = guess_of(logits, functional_call(network, params, (strong,)))
    guess = guess if follows else guess.detach()
    targets = lambdas * given + (1 - lambdas) * guess
    losses = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)
    penalty = sum(decay[name] / 2 * (value**2).sum() for name, value in params.items())
    slopes = torch.autograd.grad((omega * losses).sum() + penalty, list(params.values()), create_graph=True)
    ahead = {
        name: value - rate * (momentum * velocity[name] + slope)
        for (name, value), slope in zip(params.items(), slopes, strict=True)
    }
    found = torch.log_softmax(functional_call(network, ahead, (trusted,)), dim=1)
    goal = -found[torch.arange(len(labels)), labels].mean()
    goal = goal + sum(decay[name] / 2 * (value**2).sum() for name, value in ahead.items())
    by_weight, by_label = torch.autograd.grad(goal, [omega, lambdas])
    return by_weight, by_label[:, 0]

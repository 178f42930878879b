"""What a training sample does for trusted ones: the derivative of their loss, one step ahead, by its weight and label.

A step of momentum SGD is affine in the weights w and label shares l of its samples, so both derivatives need only one
directional derivative s_i = D_v log p(x_i) along v, the gradient of the trusted loss where that step would lead:
dG/dw_i = a (q_i . s_i) and dG/dl_i = (a / B) (y_i - g_i) . s_i. Nothing here changes the network.

Source: Zhang, Zhang, Arik, Lee, Pfister 2020, "Distilling Effective Supervision from Severe Label Noise", section 4.3,
with the momentum update of its footnote 2; the forward-mode form is ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn
from torch.func import functional_call, jvp

Parameters = dict[str, torch.Tensor]

# Relative length of a step of finite differences; their error in float32 is smallest here.
_STEP = 1e-2
_TINY = 1e-5


class Step(NamedTuple):
    """Of the look-ahead: momentum SGD with a rate of its own.

    Attributes:
        rate: a.
        momentum: mu.
        weight_decay: of each parameter by name, in the step and in the trusted loss.
    """

    rate: float
    momentum: float
    weight_decay: Mapping[str, float]


def stepped(
    params: Mapping[str, torch.Tensor],
    gradient: Mapping[str, torch.Tensor],
    velocity: Mapping[str, torch.Tensor],
    step: Step,
) -> Parameters:
    """Where a step of momentum SGD would lead: params - a (mu velocity + gradient + weight_decay params).

    Args:
        params: by name.
        gradient: of the loss, without weight decay.
        velocity: momentum by name; none counts as zero.
        step: of the look-ahead.

    Returns:
        New tensors without a graph, by name.
    """
    names, values = list(params), [value.detach() for value in params.values()]
    decays = torch._foreach_mul(values, [step.weight_decay[name] for name in names])
    directions = torch._foreach_add([gradient[name] for name in names], decays)
    moving = [place for place, name in enumerate(names) if name in velocity]
    if moving:
        torch._foreach_add_(
            [directions[place] for place in moving],
            [velocity[names[place]] for place in moving],
            alpha=step.momentum,
        )
    return dict(zip(names, torch._foreach_sub(values, directions, alpha=step.rate), strict=True))


def trusted_gradient(
    network: nn.Module,
    params: Parameters,
    images: torch.Tensor,
    labels: torch.Tensor,
    weight_decay: Mapping[str, float],
) -> Parameters:
    """v: gradient of the mean cross-entropy of trusted samples, with weight decay, at other parameters.

    Args:
        network: in training mode; its running statistics must be frozen by the caller.
        params: by name, in place of the network's own.
        images: (P, 3, H, H) of the trusted samples.
        labels: (P,) int64, verified.
        weight_decay: L2 penalty of each parameter by name.
    """
    leaves = {name: value.requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        loss = F.cross_entropy(functional_call(network, leaves, (images,)), labels)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    held = [value.detach() for value in leaves.values()]
    decays = torch._foreach_mul(held, [weight_decay[name] for name in leaves])
    return dict(zip(leaves, torch._foreach_add(found, decays), strict=True))


Outputs = tuple[torch.Tensor, ...]


@contextmanager
def _all_bits() -> Iterator[None]:
    """Inside, convolutions keep float32 on a GPU too, where they else round to the 10 bits of TF32."""
    now = torch.backends.cudnn
    with now.flags(now.enabled, now.benchmark, deterministic=now.deterministic, allow_tf32=False):
        yield


def forward_mode(
    function: Callable[[Parameters], Outputs], params: Parameters, direction: Parameters
) -> Outputs:
    """Directional derivative of each output of `function` at `params`, exact: one pass with tangents."""
    with torch.no_grad(), warnings.catch_warnings():
        # torch's own, of how it registers derivatives; nobody here can act on it
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
        tangents: Outputs = jvp(function, (params,), (direction,))[1]
    return tangents


def central_differences(
    function: Callable[[Parameters], Outputs], params: Parameters, direction: Parameters
) -> Outputs:
    """The same from two passes, on either side: no graph and no tangents, with an error of 1 to 3 % in float32."""
    with torch.no_grad():
        flat = torch.cat([part.flatten() for part in direction.values()])
        reach = _STEP / torch.linalg.vector_norm(flat).clamp_min(torch.finfo(flat.dtype).tiny)
        values = [params[name] for name in direction]
        shift = torch._foreach_mul(list(direction.values()), reach)
        with _all_bits():
            after = function(dict(zip(direction, torch._foreach_add(values, shift), strict=True)))
            before = function(dict(zip(direction, torch._foreach_sub(values, shift), strict=True)))
        return tuple((b - a) / (2 * reach) for a, b in zip(before, after, strict=True))


DERIVATIVES = {"forward-mode": forward_mode, "differences": central_differences}


class MetaWeights(NamedTuple):
    """Of a batch of samples.

    Attributes:
        weights: (B,) omega*, >= 0, sum to at most 1.
        keeps_given: (B,) lambda*, 1 where the given label helps the trusted samples more than the guess, else 0.
    """

    weights: torch.Tensor
    keeps_given: torch.Tensor


def meta_weights(
    given: torch.Tensor,
    guess: torch.Tensor,
    share: float,
    rate: float,
    slope: torch.Tensor,
    log_probs: torch.Tensor | None = None,
    guess_slope: torch.Tensor | None = None,
) -> MetaWeights:
    """Weights and labels from the directional derivatives.

    Args:
        given: (B, K) one-hot given labels y.
        guess: (B, K) pseudo labels g.
        share: lambda_0 of the given label in the look-ahead, 0 to 1.
        rate: a, of the look-ahead.
        slope: (B, K) s, directional derivative of log p.
        log_probs: (B, K) log p; only with `guess_slope`.
        guess_slope: (B, K) directional derivative of g; None where g is held fixed.

    Returns:
        omega* = max(-dG/domega, 0) over its sum, and lambda* = [dG/dlambda < 0] (equation 6).
    """
    by_weight = ((share * given + (1 - share) * guess) * slope).sum(dim=1)
    by_label = ((given - guess) * slope).sum(dim=1)
    if guess_slope is not None and log_probs is not None:
        bent = (guess_slope * log_probs).sum(dim=1)
        by_weight = by_weight + (1 - share) * bent
        by_label = by_label - bent
    useful = (-rate * by_weight).clamp_min(0)
    return MetaWeights(useful / (useful.sum() + _TINY), (by_label < 0).to(given.dtype))

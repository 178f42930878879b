"""Losses and target maths of the methods as pure functions on batches.

Shapes: `logits` (B, K) float, `targets` (B, K) float rows that sum to 1, `labels` (B,) int64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of -sum_k targets_k log softmax(logits)_k; a scalar.

    Gradients flow into `targets` too, unless the caller detached them.
    """
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def bootstrapped_targets(given: torch.Tensor, guess: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Dynamic bootstrapping: (1 - w) given + w guess (Arazo et al. 2019, equations 7 to 10).

    Args:
        given: (B, K) one-hot given labels.
        guess: (B, K) what the network says: one-hot for the hard form, softmax for the soft one.
        noise: (B,) w, probability that the given label is wrong, in [0, 1].

    Returns:
        (B, K) targets, rows that sum to 1.
    """
    weight = noise.unsqueeze(1)
    return (1 - weight) * given + weight * guess


def class_balance(mean_probs: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """R = sum_k prior_k log(prior_k / mean_probs_k) >= 0 (Arazo et al. 2019, equation 14); a scalar.

    Args:
        mean_probs: (K,) mean softmax over rows, sums to 1.
        prior: (K,) expected class frequencies, sums to 1, all positive.
    """
    return (prior * (prior.log() - mean_probs.clamp_min(1e-8).log())).sum()


def mix(first: torch.Tensor, second: torch.Tensor, share: float | torch.Tensor) -> torch.Tensor:
    """Mixup: share * first + (1 - share) * second, elementwise (Zhang et al. 2018); a tensor broadcasts."""
    return torch.lerp(second, first, share)


def clean_share(noise: torch.Tensor, partner_noise: torch.Tensor) -> torch.Tensor:
    """Dynamic mixup: a row's share of its image mixed with a partner's (Arazo et al. 2019, equation 15).

    Args:
        noise: (B,) w of the rows, in [0, 1].
        partner_noise: (B,) w of their partners, in [0, 1]; not both may be 1.

    Returns:
        (B,) (1 - w_p) / ((1 - w_p) + (1 - w_q)), in [0, 1].
    """
    own = 1 - noise
    return own / (own + (1 - partner_noise))

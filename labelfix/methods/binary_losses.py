"""PENCIL's losses where every class is a question of its own (Yi, Wang, Wu 2022, 4.2): functions of logits.

f = sigmoid(z) is the prediction, y = sigmoid(s) the label; each loss sums over the classes of a row. All of them are
functions of logits, so that none overflows and none takes the logarithm of what has rounded to 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)


def binary_inverse_kl(logits: torch.Tensor, label_logits: torch.Tensor) -> torch.Tensor:
    """sum_k f log(f / y) + (1 - f) log((1 - f) / (1 - y)) of every row: equation 5, class by class.

    Args:
        logits: (B, K) z.
        label_logits: (B, K) s.

    Returns:
        (B,), each >= 0.
    """
    return _divergence(logits, label_logits)


def binary_kl(logits: torch.Tensor, label_logits: torch.Tensor) -> torch.Tensor:
    """sum_k y log(y / f) + (1 - y) log((1 - y) / (1 - f)) of every row: equation 3; as `binary_inverse_kl`."""
    return _divergence(label_logits, logits)


def _divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    on = F.logsigmoid(first) - F.logsigmoid(second)
    off = F.logsigmoid(-first) - F.logsigmoid(-second)
    return (first.sigmoid() * on + (-first).sigmoid() * off).sum(dim=1)


def binary_entropy(logits: torch.Tensor) -> torch.Tensor:
    """-sum_k f log f + (1 - f) log(1 - f) of every row (B,), from z (B, K): equation 29, class by class."""
    on, off = logits.sigmoid() * F.logsigmoid(logits), (-logits).sigmoid() * F.logsigmoid(-logits)
    return -(on + off).sum(dim=1)


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-sum_k t log f + (1 - t) log(1 - f) of every row (B,), from z (B, K) and t (B, K) in [0, 1].

    Of the labels' logits it is what it costs them to leave the given values, soft ones too: equation 9, class by class.
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)


def first_label_logits(targets: torch.Tensor, largest: float) -> torch.Tensor:
    """Label logits (N, K) that say what is given (N, K): soft values exactly, 0 and 1 as -largest and largest."""
    return torch.logit(targets, eps=1e-12).clamp(-largest, largest)


def binary_label_gradient(
    logits: torch.Tensor, label_logits: torch.Tensor, targets: torch.Tensor, *, rho: float, kl_weight: float
) -> torch.Tensor:
    """Gradient of inverse KL + kl_weight KL + rho compatibility of every row by its label logits, in closed form.

    (y - f) + kl_weight y (1 - y) (s - z) + rho (y - t): without the second part zero at (f + rho t) / (1 + rho). It
    holds no mean over the batch, so that the step of a row does not depend on how many others there are.

    Args:
        logits: (B, K) z, without a gradient.
        label_logits: (B, K) s.
        targets: (B, K) t, as given.
        rho: weight of the compatibility loss.
        kl_weight: of the forward KL beside the inverse one.

    Returns:
        (B, K).
    """
    labels = label_logits.sigmoid()
    pull = labels - logits.sigmoid() + rho * (labels - targets)
    return pull + kl_weight * labels * (1 - labels) * (label_logits - logits)

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


def squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over rows and classes of (softmax(logits) - targets)^2 (Berthelot et al. 2019, equation 4); a scalar."""
    return (logits.softmax(dim=1) - targets).square().mean()


def generalised_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, q: float) -> torch.Tensor:
    """L_q = (1 - p_label^q) / q of every row (B,), in [0, 1 / q) (Zhang, Sabuncu 2018); q in (0, 1]."""
    # By the logarithm: p^q has no finite gradient where p has run out of float32.
    own = F.log_softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    return (1 - torch.exp(q * own)) / q


def bootstrapped_targets(given: torch.Tensor, guess: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Dynamic bootstrapping: (1 - w) given + w guess (Arazo et al. 2019, equations 7 to 10).

    Args:
        given: (B, K) one-hot given labels.
        guess: (B, K) what the network predicts: one-hot for the hard form, softmax for the soft one.
        noise: (B,) w, probability that the given label is wrong, in [0, 1].

    Returns:
        (B, K) targets, rows that sum to 1.
    """
    weight = noise.unsqueeze(1)
    return (1 - weight) * given + weight * guess


def noise_posterior(losses: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """p(noisy | loss) of a fitted mixture: `NoiseModel.posterior` on the device, without a wait.

    Args:
        losses: (B,) float.
        coefficients: (9,) of `NoiseModel.coefficients`, on the same device.

    Returns:
        (B,) in [0, 1].
    """
    low, width, constant, log_x, log_1mx, slope, bend, smallest, largest = coefficients.unbind()
    x = torch.minimum(torch.maximum((losses - low) / width, smallest), largest)
    return torch.sigmoid(constant + log_x * torch.log(x) + log_1mx * torch.log1p(-x) + (slope + bend * x) * x)


def class_balance(mean_probs: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """R = sum_k prior_k log(prior_k / mean_probs_k) >= 0 (Arazo et al. 2019, equation 14); a scalar.

    Args:
        mean_probs: (K,) mean softmax over rows, sums to 1.
        prior: (K,) expected class frequencies, sums to 1, all positive.
    """
    return (prior * (prior.log() - mean_probs.clamp_min(1e-8).log())).sum()


def mean_probs(logits: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Mean softmax of a batch; with many classes (K > B/4) the value of a moving one, with the gradient of the batch's.

    A batch that cannot hold every class says little of how often each is predicted, hence the value; but the gradient
    of the moving mean itself would be a tenth, and so would the penalty that is taken of it.

    Args:
        logits: (B, K).
        before: (K,) what this function returned for the batch before; the prior at first.

    Returns:
        (K,) the mean of the batch, or 0.9 before + 0.1 mean; sums to 1.
    """
    mean = logits.softmax(dim=1).mean(dim=0)
    if logits.shape[1] <= len(logits) / 4:
        return mean
    return mean + 0.9 * (before - mean).detach()


def mix(first: torch.Tensor, second: torch.Tensor, share: float | torch.Tensor) -> torch.Tensor:
    """Mixup: share * first + (1 - share) * second, elementwise (Zhang et al. 2018); a tensor broadcasts."""
    return torch.lerp(second, first, share)


def mix_pool(
    images: torch.Tensor, targets: torch.Tensor, partner: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup of every entry of a pool with another one, each by a share of its own.

    Args:
        images: (B, C, H, W).
        targets: (B, K), rows that sum to 1.
        partner: (B,) int64, places in the pool.
        share: (B,) of the entry itself, in [0, 1].

    Returns:
        Mixed images (B, C, H, W) and targets (B, K).
    """
    mixed = mix(images, images[partner], share.view(-1, 1, 1, 1))
    return mixed, mix(targets, targets[partner], share.view(-1, 1))


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


def inverse_kl(log_probs: torch.Tensor, log_labels: torch.Tensor) -> torch.Tensor:
    """KL(f || y) = sum_k f_k (log f_k - log y_k) of every row (Yi, Wang, Wu 2022, equation 5).

    Args:
        log_probs: (B, K) log f, the log-softmax of the network.
        log_labels: (B, K) log y, of the label distributions.

    Returns:
        (B,), each >= 0.
    """
    return (log_probs.exp() * (log_probs - log_labels)).sum(dim=1)


def forward_kl(log_probs: torch.Tensor, log_labels: torch.Tensor) -> torch.Tensor:
    """KL(y || f) = sum_k y_k (log y_k - log f_k) of every row (Yi, Wang, Wu 2022, equation 3); as `inverse_kl`."""
    return (log_labels.exp() * (log_labels - log_probs)).sum(dim=1)


def entropy(log_probs: torch.Tensor) -> torch.Tensor:
    """-sum_k f_k log f_k of every row (B,), from log f (B, K) (Yi, Wang, Wu 2022, equation 29)."""
    return -(log_probs.exp() * log_probs).sum(dim=1)


def compatibility(log_labels: torch.Tensor, given: torch.Tensor, form: str) -> torch.Tensor:
    """What it costs a label distribution to leave the given label.

    Args:
        log_labels: (B, K) log y, of the label distributions.
        given: (B,) int64.
        form: `paper`, -log y_given (Yi, Wang, Wu 2022, equation 9); `reference`, -log softmax(y)_given, as in
            the authors' code, which takes the softmax of what is a distribution already.

    Returns:
        (B,), each > 0.
    """
    log_soft = log_labels if form == "paper" else F.log_softmax(log_labels.exp(), dim=1)
    return -log_soft.gather(1, given.unsqueeze(1)).squeeze(1)


def label_gradient(
    log_probs: torch.Tensor,
    log_labels: torch.Tensor,
    given: torch.Tensor,
    *,
    rho: float,
    loss: str,
    compat: str,
) -> torch.Tensor:
    """Gradient of K (L_c / K + alpha L_o) of every row with respect to its label logits, in closed form.

    It holds no mean over the batch, so that the step of a row does not depend on how many others there are.
    Entropy does not depend on the labels. With `inverse-kl` and `paper` it is (y - f) + rho (y - given), which
    is zero at y = (f + rho given) / (1 + rho).

    Args:
        log_probs: (B, K) log f, the log-softmax of the network.
        log_labels: (B, K) log y, the log-softmax of the label logits.
        given: (B,) int64.
        rho: alpha K, weight of the compatibility loss beside the classification loss.
        loss: `inverse-kl` or `kl`, whose gradient is y (h - sum_k y_k h_k) with h = log y - log f.
        compat: `paper` or `reference`, whose gradient is y (u - sum_k y_k u_k) with u = softmax(y) - given.

    Returns:
        (B, K), rows that sum to 0.
    """
    labels = log_labels.exp()
    one_hot = F.one_hot(given, labels.shape[1])
    off = labels - one_hot
    if compat == "reference":
        off = _through_softmax(labels, labels.softmax(dim=1) - one_hot)
    if loss == "inverse-kl":
        return labels - log_probs.exp() + rho * off
    return _through_softmax(labels, log_labels - log_probs) + rho * off


def _through_softmax(probs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """From the gradient with respect to a softmax (B, K) to that with respect to its logits (B, K)."""
    return probs * (gradient - (probs * gradient).sum(dim=1, keepdim=True))


def consistency(logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Mean KL(f || h) of two views' predictions, the first held fixed (Zhang et al. 2020, equation 4); a scalar.

    Args:
        logits: (B, K) of the weak view; no gradient flows into them, as in the authors' code.
        others: (B, K) of the strong view.
    """
    return forward_kl(F.log_softmax(others, dim=1), F.log_softmax(logits.detach(), dim=1)).mean()


def sharpened(probs: torch.Tensor, temperature: float) -> torch.Tensor:
    """probs^(1 / temperature), rows (B, K) that sum to 1 (Zhang et al. 2020, equation 3)."""
    # A class of no probability has no gradient either; 0 ^ x has one that is not finite.
    return (probs.clamp_min(1e-12).log() / temperature).softmax(dim=1)


def rms_normalised(logits: torch.Tensor) -> torch.Tensor:
    """Logits (..., B, K) over their root mean square, taken of each whole batch (code of Zhang et al. 2020)."""
    return logits * torch.rsqrt(logits.square().mean(dim=(-2, -1), keepdim=True) + 1e-8)

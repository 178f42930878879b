"""Slow, literal re-derivations in float64, one per formula, each with its equation number.

They share no code with labelfix and are written from the papers: loops, no cleverness.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.optimize import minimize
from scipy.special import logit


def softmax(logits: np.ndarray) -> np.ndarray:
    out = np.empty_like(logits, dtype=np.float64)
    for i, row in enumerate(logits.astype(np.float64)):
        e = np.exp(row - row.max())
        out[i] = e / e.sum()
    return out


def cross_entropy(targets: np.ndarray, logits: np.ndarray) -> float:
    """Mean over rows of -sum_k t_k log p_k."""
    rows = zip(targets, np.log(softmax(logits)), strict=True)
    return float(np.mean([-sum(t * log_p) for t, log_p in rows]))


def beta_mixture_em(x: np.ndarray, steps: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arazo et al. 2019, equations 4 to 9 on the full vector: alpha, beta, weight of both components."""
    alpha, beta, weight = np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5])
    for _ in range(steps):
        pdf = np.stack([weight[k] * stats.beta.pdf(x, alpha[k], beta[k]) for k in range(2)])
        pdf = np.maximum(pdf, 1e-12)
        responsibility = pdf / pdf.sum(axis=0)
        for k in range(2):
            r = responsibility[k]
            mean = (r * x).sum() / r.sum()
            variance = (r * (x - mean) ** 2).sum() / r.sum()
            alpha[k] = mean * (mean * (1 - mean) / variance - 1)
            beta[k] = alpha[k] * (1 - mean) / mean
        weight = responsibility.sum(axis=1) / responsibility.sum()
    return alpha, beta, weight


def beta_posterior(x: np.ndarray, alpha, beta, weight) -> np.ndarray:
    """p(k = 1 | x), equation 6."""
    joint = [weight[k] * stats.beta.pdf(x, alpha[k], beta[k]) for k in range(2)]
    return joint[1] / (joint[0] + joint[1])


def bootstrapping_loss(logits: np.ndarray, given: np.ndarray, guess: np.ndarray, noise: np.ndarray) -> float:
    """Equation 10: `given` are class indices, `guess` rows over the classes (z one-hot, or h)."""
    return dynamic_bootstrapping_loss(logits, given, guess, np.arange(len(given)), noise, 1.0)


def dynamic_bootstrapping_loss(mixed_logits, given, guess, partner, noise, share: float) -> float:
    """Equation 13 with the minus sign before both terms; `given` and `guess` as in equation 10."""
    log_h = np.log(softmax(mixed_logits))
    total = 0.0
    for i in range(len(given)):
        j = partner[i]
        first = (1 - noise[i]) * log_h[i, given[i]] + noise[i] * sum(guess[i] * log_h[i])
        second = (1 - noise[j]) * log_h[i, given[j]] + noise[j] * sum(guess[j] * log_h[i])
        total += -share * first - (1 - share) * second
    return total / len(given)


def dynamic_mixup(x: np.ndarray, partner: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Equation 15, row by row."""
    out = np.empty_like(x, dtype=np.float64)
    for p, q in enumerate(partner):
        delta_p, delta_q = 1 - noise[p], 1 - noise[q]
        out[p] = delta_p / (delta_p + delta_q) * x[p] + delta_q / (delta_p + delta_q) * x[q]
    return out


def class_balance(mixed_logits: np.ndarray, prior: np.ndarray) -> float:
    """Equation 14: sum_c p_c log(p_c / mean h_c)."""
    mean = softmax(mixed_logits).mean(axis=0)
    return float(sum(p * np.log(p / m) for p, m in zip(prior, mean, strict=True)))


def class_balance_gradient(logits: np.ndarray, prior: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Of equation 14 by the logits, sum_c (-p_c / m_c) dmean_c / dz, where m = .9 before + .1 mean stands for the mean.

    dmean_c / dz_ik = f_ic ([c = k] - f_ik) / B: the whole gradient of the batch mean, whatever m is made of.
    """
    f = softmax(logits)
    value = 0.9 * before + 0.1 * f.mean(axis=0)
    gradient = np.zeros_like(f)
    for i, row in enumerate(f):
        for k in range(len(row)):
            for c in range(len(row)):
                gradient[i, k] -= prior[c] / value[c] * row[c] * ((c == k) - row[k]) / len(f)
    return gradient


def pencil_loss(
    logits, label_logits, given, *, alpha: float, beta: float, loss: str = "inverse-kl", compat: str = "paper"
) -> dict[str, float]:
    """Yi, Wang, Wu 2022, 3.6: the three terms L_c / c, alpha L_o and beta / c L_e, by equations 3, 5, 9 and 29."""
    f, y = softmax(logits), softmax(label_logits)
    n, c = f.shape
    classification = compatibility = entropy = 0.0
    for i in range(n):
        for j in range(c):
            inverse = f[i, j] * np.log(f[i, j] / y[i, j])
            classification += inverse if loss == "inverse-kl" else y[i, j] * np.log(y[i, j] / f[i, j])
            entropy -= f[i, j] * np.log(f[i, j])
        # The authors' code has the softmax of y where equation 9 has y.
        belief = y[i] if compat == "paper" else softmax(y[i : i + 1])[0]
        compatibility -= np.log(belief[given[i]])
    return {
        "classification": classification / n / c,
        "compatibility": alpha * compatibility / n,
        "entropy": beta / c * entropy / n,
    }


def pencil_label_update(
    logits: np.ndarray, label_logits: np.ndarray, given: np.ndarray, *, step: float, **loss
) -> np.ndarray:
    """Equation 30 with lambda = `step`, its gradient by central differences of the whole loss."""
    out, h = label_logits.astype(np.float64), 1e-5
    for place in np.ndindex(label_logits.shape):
        moved = np.zeros(label_logits.shape)
        moved[place] = h
        above = sum(pencil_loss(logits, label_logits + moved, given, **loss).values())
        below = sum(pencil_loss(logits, label_logits - moved, given, **loss).values())
        out[place] -= step * (above - below) / (2 * h)
    return out


def pencil_label_gradients(
    f: np.ndarray, y: np.ndarray, given: np.ndarray, *, loss: str, compat: str, rho: float
) -> np.ndarray:
    """K (L_c / K + alpha L_o) of every row by its label logits: d/dy, then the Jacobian of the softmax, row by row."""
    out = np.zeros_like(y)
    for i in range(len(y)):
        one_hot = np.eye(y.shape[1])[given[i]]
        by_label = -f[i] / y[i] if loss == "inverse-kl" else np.log(y[i] / f[i]) + 1
        by_label = by_label + rho * (
            -one_hot / y[i] if compat == "paper" else softmax(y[i : i + 1])[0] - one_hot
        )
        out[i] = (np.diag(y[i]) - np.outer(y[i], y[i])) @ by_label
    return out


def joint_loss(
    logits: np.ndarray, targets: np.ndarray, prior: np.ndarray, mean: np.ndarray | None = None
) -> dict[str, float]:
    """Joint optimisation (Tanaka et al. 2018; the paper's equations 5 to 7): L_c, L_p, L_e without their weights.

    `mean` stands for the batch mean of equation 6 where that is averaged over batches.
    """
    f = softmax(logits)
    n, c = f.shape
    classification = entropy = 0.0
    for i in range(n):
        for j in range(c):
            classification -= targets[i, j] * np.log(f[i, j])
            entropy -= f[i, j] * np.log(f[i, j])
    mean = f.sum(axis=0) / n if mean is None else mean
    balance = sum(prior[j] * np.log(prior[j] / mean[j]) for j in range(c))
    return {"classification": classification / n, "balance": float(balance), "entropy": entropy / n}


def joint_mixup_loss(
    mixed_logits: np.ndarray, targets: np.ndarray, partner: np.ndarray, share: float
) -> float:
    """Joint optimisation with mixup, equation 9 with the minus sign before both terms."""
    log_f = np.log(softmax(mixed_logits))
    total = 0.0
    for i, j in enumerate(partner):
        total -= share * sum(targets[i] * log_f[i]) + (1 - share) * sum(targets[j] * log_f[i])
    return total / len(partner)


def joint_labels(epochs: list[np.ndarray], length: int | None) -> np.ndarray:
    """The labels after some epochs, from the predictions of each: the mean of the last `length`, or of all."""
    recent = epochs if length is None else epochs[-length:]
    total = np.zeros(epochs[0].shape)
    for probs in recent:
        total = total + probs.astype(np.float64)
    return total / len(recent)


def nnaqc_loss(
    logits: np.ndarray, layer: np.ndarray, given: np.ndarray, *, alpha: float, own_share: float, linear: bool
) -> dict[str, float]:
    """Jindal et al. 2019, equation 6: alpha L_NNA by equation 3 (or 5), and (1 - alpha) L_QC of section 3.1.

    `own_share` is what a row's own prediction has of the target of L_QC; the given label has the rest.
    """
    q = softmax(logits)
    n, c = q.shape
    columns = np.array([softmax(layer[:, j][None].astype(np.float64))[0] for j in range(c)]).T
    noise_aware = clustering = 0.0
    for i in range(n):
        if linear:
            noisy = [sum(columns[k, j] * q[i, j] for j in range(c)) for k in range(c)]
        else:
            noisy = softmax(np.array([[sum(layer[k, j] * q[i, j] for j in range(c)) for k in range(c)]]))[0]
        noise_aware -= np.log(noisy[given[i]])
        for j in range(c):
            clustering -= (own_share * q[i, j] + (1 - own_share) * (given[i] == j)) * np.log(q[i, j])
    return {"noise_aware": alpha * noise_aware / n, "clustering": (1 - alpha) * clustering / n}


def linear_noise(clean: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Equation 5: noisy_ni = sum_j q_nj softmax(W e_j)_i, entry by entry."""
    columns = [softmax(layer[:, j][None])[0] for j in range(len(layer))]
    return np.array(
        [[sum(q[j] * columns[j][i] for j in range(len(layer))) for i in range(len(layer))] for q in clean]
    )


def generalised_losses(logits: np.ndarray, labels: np.ndarray, q: float) -> np.ndarray:
    """Zhang and Sabuncu 2018, L_q of every row: (1 - f_y^q) / q."""
    probs = softmax(logits)
    return np.array([(1 - probs[i, label] ** q) / q for i, label in enumerate(labels)])


def fixed_bootstrapping_loss(logits: np.ndarray, labels: np.ndarray, guess: np.ndarray, beta: float) -> float:
    """Reed et al. 2015: -sum_k (beta t_k + (1 - beta) g_k) log q_k, mean over the rows, entry by entry."""
    probs, total = softmax(logits), 0.0
    for i, label in enumerate(labels):
        for k in range(probs.shape[1]):
            total -= (beta * (label == k) + (1 - beta) * guess[i, k]) * np.log(probs[i, k])
    return total / len(labels)


def early_learning(
    logits: np.ndarray, targets: np.ndarray, strength: float, decay: float
) -> tuple[np.ndarray, float]:
    """Liu et al. 2020: the targets t <- decay t + (1 - decay) p, and strength mean log(1 - <p, t>).

    As in the authors' code p stays 1e-4 from 0 and 1, and what enters t sums to 1.
    """
    probs = np.clip(softmax(logits), 1e-4, 1 - 1e-4)
    moved, total = np.empty_like(targets), 0.0
    for i, row in enumerate(probs):
        moved[i] = decay * targets[i] + (1 - decay) * row / row.sum()
        total += np.log(1 - sum(row[k] * moved[i, k] for k in range(len(row))))
    return moved, strength * total / len(probs)


def forward_loss(logits: np.ndarray, labels: np.ndarray, transition: np.ndarray) -> float:
    """Patrini et al. 2017, theorem 2: mean of -log sum_i p_i T[i, given]."""
    probs = softmax(logits)
    rows = [
        -np.log(sum(probs[n, i] * transition[i, label] for i in range(probs.shape[1])))
        for n, label in enumerate(labels)
    ]
    return float(np.mean(rows))


def anchored_transition(probs: np.ndarray, quantile: float) -> np.ndarray:
    """T of Patrini et al. 2017, class by class: the prediction at the place of the quantile in the sorted p_i."""
    out = np.empty((probs.shape[1], probs.shape[1]))
    for i in range(probs.shape[1]):
        place = max(int(np.ceil(quantile * len(probs))), 1)  # how many rows have p_i up to the anchor's
        wanted = sorted(probs[:, i])[place - 1]
        (row, *_) = [n for n in range(len(probs)) if probs[n, i] == wanted]
        out[i] = probs[row]
    return out


def counted_transition(clean: np.ndarray, given: np.ndarray) -> np.ndarray:
    """T[j, i] = sum_n q_nj [given_n = i] / sum_n q_nj, entry by entry."""
    rows, c = clean.shape
    out = np.zeros((c, c))
    for j in range(c):
        for i in range(c):
            out[j, i] = sum(clean[n, j] for n in range(rows) if given[n] == i) / clean[:, j].sum()
    return out


def true_class_posterior(clean: np.ndarray, given: np.ndarray, transition: np.ndarray) -> np.ndarray:
    """r_nj proportional to q_nj T[j, given_n], row by row."""
    out = np.empty(clean.shape)
    for n, g in enumerate(given):
        out[n] = clean[n] * transition[:, g]
        out[n] /= out[n].sum()
    return out


def pseudo_labels(weak: np.ndarray, strong: np.ndarray, temperature: float, *, normalise: bool) -> np.ndarray:
    """g of Zhang et al. 2020, equation 3, from the logits of two views; logits over their root mean square first."""
    if normalise:
        weak, strong = (z / np.sqrt((z**2).mean() + 1e-8) for z in (weak, strong))
    mean = (softmax(weak) + softmax(strong)) / 2
    power = mean ** (1 / temperature)
    return power / power.sum(axis=1, keepdims=True)


def platt_by_hand(noise: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """Slope and offset that minimise slope^2 / 2 + the sum of the logistic losses."""
    x, sign = logit(np.clip(noise, 1e-6, 1 - 1e-6)), np.where(wrong, 1.0, -1.0)

    def loss(weights: np.ndarray) -> float:
        return weights[0] ** 2 / 2 + np.logaddexp(0, -sign * (weights[0] * x + weights[1])).sum()

    slope, offset = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-8}).x
    return slope, offset


def slow_mean_rank(noise: list[list[float]]) -> list[float]:
    """Row by row: the share of scores below, with half of those that are equal, averaged over runs with a score."""
    found = []
    for row in range(len(noise[0])):
        ranks = []
        for run in noise:
            scores = [score for score in run if score == score]
            if run[row] == run[row]:
                below = sum(score < run[row] for score in scores)
                ranks.append((below + sum(score == run[row] for score in scores) / 2) / len(scores))
        found.append(sum(ranks) / len(ranks) if ranks else float("nan"))
    return found


def mixmatch_guess(views: list[np.ndarray], temperature: float) -> np.ndarray:
    """Berthelot et al. 2019, equations 6 and 7: the mean of the softmaxes of views, sharpened."""
    probs = [softmax(logits) for logits in views]
    out = np.empty_like(probs[0])
    for i in range(len(out)):
        powers = [
            (sum(p[i, k] for p in probs) / len(probs)) ** (1 / temperature) for k in range(out.shape[1])
        ]
        out[i] = [power / sum(powers) for power in powers]
    return out


def mixmatch_pool(entries: np.ndarray, partner: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Berthelot et al. 2019, equations 8 to 11: l' x + (1 - l') x', l' the larger of l and 1 - l, entry by entry."""
    larger = [max(share, 1 - share) for share in shares]
    return np.stack([s * entries[i] + (1 - s) * entries[partner[i]] for i, s in enumerate(larger)])


def mixmatch_losses(logits: np.ndarray, targets: np.ndarray, count: int) -> tuple[float, float]:
    """Berthelot et al. 2019, equations 3 and 4: L_X of the first `count` entries, L_U of the rest."""
    probs = softmax(logits)
    squares = [
        (targets[i, k] - probs[i, k]) ** 2 for i in range(count, len(probs)) for k in range(probs.shape[1])
    ]
    return cross_entropy(targets[:count], logits[:count]), sum(squares) / len(squares)


def view_divergence(weak: np.ndarray, strong: np.ndarray) -> float:
    """Zhang et al. 2020, 4.2: mean KL of the strong view's prediction from the weak one's."""
    p, q = softmax(weak), softmax(strong)
    rows = [sum(p[i, k] * np.log(p[i, k] / q[i, k]) for k in range(p.shape[1])) for i in range(len(p))]
    return float(np.mean(rows))

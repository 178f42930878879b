"""Losses of right and wrong labels, and how well two betas and two gaussians on them tell one from the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.special import expit

from labelfix.atomic_files import atomic_path
from labelfix.estimation.mixture import BetaMixture, GaussianMixture, LossScale, NoiseModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 60
_MIXTURES = {"beta": "C3", "gaussian": "C0"}
_TINY = 1e-12


def write_loss_plot(
    path: Path, probs: np.ndarray, given: np.ndarray, is_wrong: np.ndarray
) -> dict[str, float] | None:
    """Draw the losses of a run with both mixtures, and the ROC curve of each.

    A mixture's posterior is taken as it is printed: that of two gaussians may fall again as the loss rises, and so may
    that of two betas. What labelfix judges by never does (`NoiseModel.posterior`).

    Source: Arazo et al. 2019, figure 2 and appendix A.

    Args:
        path: the PNG file.
        probs: (N, K) predictions of a trained network.
        given: (N,) int64, given classes.
        is_wrong: (N,) bool.

    Returns:
        Area under each curve, by mixture; None, and no file, where there is no row, as of a run that diverged, where no
        label is wrong or all are, or where the losses hardly differ.
    """
    from sklearn.metrics import roc_auc_score

    if is_wrong.all() or not is_wrong.any():
        return None
    losses = -np.log(np.maximum(probs[np.arange(len(given)), given].astype(np.float64), _TINY))
    models = {name: NoiseModel.fit(losses, name) for name in _MIXTURES}
    if any(model.mixture is None for model in models.values()):
        return None
    scores = {name: printed_posterior(model, losses) for name, model in models.items()}
    areas = {name: float(roc_auc_score(is_wrong, score)) for name, score in scores.items()}
    import matplotlib.style

    with matplotlib.style.context("default"):
        _draw(path, losses, is_wrong, models, scores, areas)
    return areas


def printed_posterior(model: NoiseModel, losses: np.ndarray) -> np.ndarray:
    """p(noisy | loss) (N,) float64 of a fitted mixture, wherever its odds rise and fall."""
    assert model.mixture is not None
    x, odds = model.scale.normalise(losses), model.mixture.log_odds()
    terms = odds.log_x * np.log(x) + odds.log_1mx * np.log1p(-x) + (odds.slope + odds.bend * x) * x
    return np.asarray(expit(odds.constant + terms))


def densities(mixture: BetaMixture | GaussianMixture, x: np.ndarray) -> np.ndarray:
    """(2, N): of the clean and the noisy component at x (N,), each with its weight."""
    weight = np.array(mixture.weight)[:, None]
    if isinstance(mixture, BetaMixture):
        shapes = (np.array(part)[:, None] for part in (mixture.alpha, mixture.beta))
        return np.asarray(weight * stats.beta.pdf(x, *shapes))
    mean, spread = np.array(mixture.means)[:, None], np.sqrt(np.array(mixture.variance))[:, None]
    return np.asarray(weight * stats.norm.pdf(x, mean, spread))


def _draw(
    path: Path,
    losses: np.ndarray,
    is_wrong: np.ndarray,
    models: dict[str, NoiseModel],
    scores: dict[str, np.ndarray],
    areas: dict[str, float],
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_losses(left, models["beta"].scale, losses, is_wrong)
    x = np.linspace(0.005, 0.995, 300)
    for name, color in _MIXTURES.items():
        mixture = models[name].mixture
        assert mixture is not None
        clean, noisy = densities(mixture, x)
        left.plot(x, clean, color=color, linestyle="--", label=f"{name}, clean")
        left.plot(x, noisy, color=color, label=f"{name}, noisy")
        false, true, _ = roc_curve(is_wrong, scores[name])
        width = 3 if name == "beta" else 1.2  # the curves often lie on each other
        right.plot(false, true, color=color, linewidth=width, label=f"{name}: {areas[name]:.3f}")
    left.set_ylim(0, 8)
    left.legend(frameon=False)
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    right.set_xlabel("share of right labels taken for wrong")
    right.set_ylabel("share of wrong labels found")
    right.legend(frameon=False, title="area under the curve", loc="lower right")
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def _draw_losses(axes: Axes, scale: LossScale, losses: np.ndarray, is_wrong: np.ndarray) -> None:
    x = scale.normalise(losses)
    bins = np.linspace(0, 1, _BINS + 1).tolist()
    for some, color, label in ((~is_wrong, "C2", "right labels"), (is_wrong, "C1", "wrong labels")):
        # As densities of all rows together, so that the weighted components lie over them.
        shares = np.full(some.sum(), _BINS / len(x))
        axes.hist(x[some], bins, weights=shares, color=color, alpha=0.4, label=label)
    axes.set_xlabel("loss, percentiles 5 to 95 as 0 to 1")
    axes.set_ylabel("density")

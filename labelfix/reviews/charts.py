"""The charts of the summary: who is taken for whom, the noise scores, the mixture of losses, the training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from labelfix.reviews.survey import SCORE_BINS, Survey
from labelfix.reviews.svg import COLOURS, Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_CLASSES = 30
_MOST_NUMBERED = 12  # classes whose cells are large enough for a number
_LONGEST_NAME = 18
_HALF = 0.5  # of the scores: an even chance
_WIDE = (6.4, 3.4)
_LINES = [
    ("accent", "-"),
    ("accent-2", "-"),
    ("muted", "--"),
    ("ink", ":"),
    ("accent", "--"),
    ("accent-2", ":"),
]


_OF_MIXTURE = ("mixture", "loss_low", "loss_high", "loss_kind", "loss_histogram")


def all_charts(
    survey: Survey, class_names: list[str], summary: dict[str, Any], epochs: pa.Table | None
) -> Iterator[Chart]:
    """The charts that there are data for.

    Args:
        survey: of the corrections file.
        class_names: K names.
        summary: content of summary.json; empty where it is not there.
        epochs: epochs.parquet; None where it is not there.
    """
    matrix = np.array(summary.get("transition_matrix") or [], np.float64)
    if matrix.shape == (len(class_names), len(class_names)):
        yield transition_chart(matrix, class_names)
    if survey.scores.any():
        yield score_chart(survey)
    diagnostics = summary.get("diagnostics") or {}
    if all(diagnostics.get(name) is not None for name in _OF_MIXTURE) and diagnostics["loss_histogram"]:
        yield mixture_chart(diagnostics)
    if epochs is not None and len(epochs):
        losses = [name for name in epochs.column_names if name.startswith("loss_")]
        if losses:
            yield training_chart(epochs, "losses", "Loss in training", losses, "loss_")
        accuracies = [name for name in epochs.column_names if name.endswith("_accuracy")]
        if accuracies:
            yield training_chart(epochs, "accuracy", "Accuracy in training", accuracies, "")
        precisions = [name for name in epochs.column_names if name.endswith("_map")]
        if precisions:
            yield training_chart(epochs, "map", "Mean average precision in training", precisions, "")


def transition_chart(matrix: np.ndarray, class_names: list[str]) -> Chart:
    """T (K, K), row j column i: the share of the rows of true class j that were given the label i."""
    off = matrix * (1 - np.eye(len(matrix)))
    shown = np.arange(len(matrix))
    caption = "Of the rows that are truly of a class, by the run's own estimate, the share given each label."
    if len(matrix) > _MOST_CLASSES:
        worst = np.argsort(-np.maximum(off.max(axis=0), off.max(axis=1)), kind="stable")
        shown = np.sort(worst[:_MOST_CLASSES])
        caption += f" Only the {_MOST_CLASSES} most confused of {len(matrix)} classes."
    part, names = matrix[np.ix_(shown, shown)], [short(class_names[label]) for label in shown]
    pairs = [
        f"{class_names[j]} labelled {class_names[i]}: {off[j, i]:.1%}"
        for j, i in zip(
            *np.unravel_index(np.argsort(-off, axis=None, kind="stable")[:5], off.shape), strict=True
        )
        if off[j, i] > 0
    ]
    description = f"Most frequent: {'; '.join(pairs)}." if pairs else "No class is taken for another."
    side = min(7.5, max(4.0, 2.2 + 0.36 * len(names)))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(visible=False)
        _draw_cells(axes, part)
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="given label", ylabel="true label, estimated", aspect="equal")
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))

    return Chart(
        "transition", "Which labels are taken for which", caption, description, (side + 0.6, side), draw
    )


def _draw_cells(axes: Axes, part: np.ndarray) -> None:
    """A square for each share; right labels in grey, wrong ones in colour, full at the most frequent."""
    from matplotlib.patches import Rectangle

    off = part[~np.eye(len(part), dtype=bool)]
    most = max(float(off.max()) if len(off) else 0.0, 1e-9)
    for j, i in np.ndindex(part.shape):
        share = float(part[j, i])
        strength = share if i == j else share / most
        if strength >= 0.01:
            look = COLOURS["muted" if i == j else "accent"]
            # Pale enough for the number on it.
            alpha = round((0.35 if i == j else 0.65) * strength, 3)
            square = Rectangle((i - 0.47, j - 0.47), 0.94, 0.94, facecolor=look, alpha=alpha, linewidth=0)
            axes.add_patch(square)
        if len(part) <= _MOST_NUMBERED and share >= 0.005:
            axes.text(i, j, f"{100 * share:.0f}", ha="center", va="center", fontsize=8)


def score_chart(survey: Survey) -> Chart:
    """Noise scores of the eligible rows, the flagged ones marked."""
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    eligible, flagged = int(survey.scores.sum()), int(survey.flagged_scores.sum())
    filled = survey.scores[survey.scores > 0]
    is_log = filled.max() > 50 * np.median(filled)
    least = 0.7 if is_log else 0
    above = int(survey.scores[edges[:-1] >= _HALF].sum())
    description = f"{above:,} of {eligible:,} scores are {_HALF} or more; {flagged:,} rows are flagged."
    caption = "High is suspect. A row can score high and not be flagged, where its label is still the most likely one."

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        parts = ((survey.scores, "muted", 0.4, "eligible"), (survey.flagged_scores, "accent", 1, "flagged"))
        for counts, colour, alpha, label in parts:
            look: dict[str, Any] = {"color": COLOURS[colour], "alpha": alpha, "linewidth": 0, "label": label}
            axes.stairs(counts, edges, fill=True, baseline=least, **look)
        axes.axvline(_HALF, color=COLOURS["muted"], linewidth=1, linestyle=":")
        if is_log:
            axes.set(yscale="log", ylim=(least, None))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set(xlim=(0, 1), xlabel="noise score", ylabel="rows (log scale)" if is_log else "rows")
        _legend(figure)

    return Chart("scores", "Noise scores", caption, description, _WIDE, draw)


def mixture_chart(diagnostics: dict[str, Any]) -> Chart:
    """The losses of the rows and the two components fitted to them; of `mixture_posterior.described`."""
    mixture, low, high = (diagnostics[name] for name in ("mixture", "loss_low", "loss_high"))
    kind, counts = diagnostics["loss_kind"], np.array(diagnostics["loss_histogram"], np.float64)
    heights = counts * len(counts) / max(counts.sum(), 1)
    x = np.linspace(0.002, 0.998, 400)
    clean, noisy = (mixture[name]["weight"] * _density(x, mixture[name]) for name in ("clean", "noisy"))
    losses = low + x * (high - low)
    # Some densities have no upper end at the edges.
    top = 1.1 * max(part[(x > 0.03) & (x < 0.97)].max() for part in (clean, noisy))
    means = [low + mixture[name]["mean"] * (high - low) for name in ("clean", "noisy")]
    description = (
        f"The clean component holds {mixture['clean']['weight']:.1%} of the rows around a {kind} of {means[0]:.2f}, the"
        f" noisy one {mixture['noisy']['weight']:.1%} around {means[1]:.2f}."
    )
    caption = (
        "How many rows have which loss, and the two groups fitted to that: labels that fit, and labels that do not."
        " One of the things that the noise scores rest on."
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        edges = np.linspace(low, high, len(heights) + 1)
        bars = np.minimum(heights, 2 * top)
        axes.bar(edges[:-1], bars, np.diff(edges), align="edge", color=COLOURS["line"])
        for part, colour, name in ((clean, "muted", "clean"), (noisy, "accent", "noisy")):
            share = f"{name}, {mixture[name]['weight']:.0%}"
            axes.plot(losses, np.minimum(part, 2 * top), color=COLOURS[colour], linewidth=1.6, label=share)
        axes.set(xlim=(losses[0], losses[-1]), ylim=(0, top), xlabel=kind, ylabel="density")
        axes.set_yticks([])
        _legend(figure)

    return Chart("mixture", "Losses and the fitted mixture", caption, description, _WIDE, draw)


def _density(x: np.ndarray, component: dict[str, float]) -> np.ndarray:
    """Of one component at x (n,) in (0, 1)."""
    if "alpha" in component:
        a, b = component["alpha"], component["beta"]
        log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
        log_density = (a - 1) * np.log(x) + (b - 1) * np.log(1 - x) - log_beta
        return np.asarray(np.exp(log_density))
    mean, variance = component["mean"], component["variance"]
    return np.asarray(np.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance))


def training_chart(epochs: pa.Table, name: str, title: str, columns: list[str], prefix: str) -> Chart:
    """Some columns of epochs.parquet over the epochs; the training on all rows thick, those of the folds thin."""
    compared = [name for name in ("method",) if name in epochs.column_names]
    frame = epochs.select(["epoch", "fold", "phase", *compared, *columns]).to_pandas()
    whole = frame[frame["fold"].isna()]
    if compared:  # the folds of the method that trained the classifier
        frame = frame[frame["method"] == whole["method"].iloc[0]]
    folds = [part for _, part in frame.groupby("fold")]
    starts = whole[whole["phase"] != whole["phase"].shift()]
    lasts = [(_curve_name(column, prefix), whole[column].dropna()) for column in columns]
    description = f"{len(whole)} epochs. " + "; ".join(
        f"{label} from {values.iloc[0]:.3g} to {values.iloc[-1]:.3g}"
        for label, values in lasts
        if len(values)
    )
    caption = (
        "Thin lines are the trainings of the folds." if folds else "The training on all rows, epoch by epoch."
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for number, column in enumerate(columns):
            colour, dash = _LINES[number % len(_LINES)]
            look: dict[str, Any] = {"color": COLOURS[colour], "linestyle": dash}
            for fold in folds:
                axes.plot(fold["epoch"], fold[column], linewidth=0.7, alpha=0.6, **look)
            marker = "o" if whole[column].count() == 1 else None
            label = _curve_name(column, prefix)
            axes.plot(whole["epoch"], whole[column], linewidth=1.8, marker=marker, label=label, **look)
        _draw_phases(axes, starts["epoch"].tolist(), starts["phase"].tolist())
        axes.locator_params(axis="x", integer=True)
        axes.set(xlabel="epoch")
        _legend(figure)

    return Chart(name, title, caption, description, _WIDE, draw)


def _draw_phases(axes: Axes, epochs: list[int], phases: list[str]) -> None:
    if len(phases) < 2:
        return
    for epoch, phase in zip(epochs, phases, strict=True):
        if epoch > epochs[0]:
            axes.axvline(epoch - 0.5, color=COLOURS["line"], linewidth=1, linestyle=":")
        place = (epoch - (0.45 if epoch > epochs[0] else 0), 1.01)
        transform = axes.get_xaxis_transform()
        axes.text(*place, short(phase), transform=transform, fontsize=8, color=COLOURS["muted"], va="bottom")


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside upper right", ncols=3, fontsize=9)


def _curve_name(column: str, prefix: str) -> str:
    return short(column.removeprefix(prefix).replace("_", " "))


def short(name: str) -> str:
    """A name of unknown origin as a label: what cannot be printed replaced, cut where it is long."""
    plain = "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
        for letter in name
    )
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1].rstrip()}…"

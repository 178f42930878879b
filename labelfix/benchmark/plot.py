"""The plot of a bench: how well each method ranks the wrong labels, and what it does to the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelfix.atomic_files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUP = 0.8  # width of the bars of one noise, whose place is 1 wide


def write_plot(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write average precision and label accuracy, given and corrected, by noise and method; a point is a seed.

    Args:
        path: the PNG file.
        rows: of the table.
    """
    import matplotlib.style

    # Not the look that a matplotlibrc in the working folder asks for: it can have LaTeX run.
    with matplotlib.style.context("default"):
        _draw(path, rows)


def _draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    # A figure of its own: pyplot would keep it in a list of the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    noises = list(dict.fromkeys(row["noise"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(max(7.0, 2 + 0.5 * len(noises) * (len(methods) + 1)), 8), layout="constrained")
    ranked, labelled = figure.subplots(2, 1)
    for number, method in enumerate(methods):
        width = _GROUP / len(methods)
        places = np.arange(len(noises)) - _GROUP / 2 + width * (number + 0.5)
        of_noise = [[r for r in rows if (r["noise"], r["method"]) == (noise, method)] for noise in noises]
        color = f"C{number % 10}"
        _bars(ranked, places, width, of_noise, "average_precision", color=color, label=_plain(method))
        _bars(labelled, places, width, of_noise, "label_accuracy_corrected", color=color)
        _given(labelled, places, width, of_noise)
    ranked.set_ylabel("average precision of the noise score")
    labelled.set_ylabel("labels right (line: before)")
    for axes in (ranked, labelled):
        axes.set_xticks(range(len(noises)), [_plain(noise) for noise in noises])
        axes.set_ylim(0, 1.02)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def _bars(
    axes: Axes, places: np.ndarray, width: float, of_noise: list[list[dict[str, Any]]], name: str, **look: Any
) -> None:
    """A bar for the mean of each noise and a point for each seed; nothing where the number is undefined."""
    values = [[row[name] for row in rows if row[name] is not None] for rows in of_noise]
    means = [float(np.mean(some)) if some else 0.0 for some in values]
    axes.bar(places, means, 0.9 * width, alpha=0.7, **look)
    for place, some in zip(places, values, strict=True):
        axes.plot([place] * len(some), some, ".", color="black", markersize=4)


def _given(axes: Axes, places: np.ndarray, width: float, of_noise: list[list[dict[str, Any]]]) -> None:
    for place, rows in zip(places, of_noise, strict=True):
        given = [r["label_accuracy_given"] for r in rows if r["label_accuracy_given"] is not None]
        if given:
            axes.hlines(float(np.mean(given)), place - width / 2, place + width / 2, color="black")


def _plain(text: str) -> str:
    # Dollars would be read as mathematics; the texts are the user's.
    return text.replace("$", r"\$")

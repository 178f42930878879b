"""The constants of the judgement, chosen on all data sets but one, and what they do on that one.

    python tests/benchmarks/estimation/left_out.py FOLDER [FOLDER ...]

FOLDER holds arrays of arrays.py. Two numbers in `judgement` cannot be estimated from the user's data: how many more
wrong labels flags look for than are seen (chosen for the mean of F1 / best), and which part of the expected
contradictions the surest rows must show (for the mean gain in label accuracy, a loss counting ten times). What
`--method auto` makes of the methods counts as one more of them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from rules import Saved, by_labels, judged, measured

from labelfix.estimation import judgement
from labelfix.estimation.expected_counts import best_expected_f1
from labelfix.methods import auto_methods

UNSEEN = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LEAST = (0.0, 0.25, 0.4, 0.5, 0.6, 0.75)
_A_LOSS = 10


def all_saved(folders: Sequence[Path]) -> Iterator[tuple[str, Saved]]:
    """Every condition by the name of its data set."""
    for labels, paths in by_labels(folders, ""):
        data, methods = labels.partition("-")[0], auto_methods("single")
        yield from ((data, Saved.of(path)) for path in paths.values())
        if set(methods) <= paths.keys():
            yield data, Saved.of_auto({method: paths[method] for method in methods})[0]


def figures_of(saved: Saved) -> tuple[list[float], list[float]]:
    """F1 / best for each of UNSEEN, NaN under 5 % of wrong labels, and gain for each of LEAST."""
    shown: list[float] = []
    surest = judgement._surest

    def watching(*args):
        found = surest(*args)
        shown.append(found.contradicted / max(found.expected, 1e-9))
        return found

    with patch.object(judgement, "_LEAST_OF_EXPECTED", 0.0), patch.object(judgement, "_surest", watching):
        found = judged(saved)
    figures = measured(found, saved.given, saved.true)
    # The first is the judgement of the held-out predictions, whose verdict it is.
    gains = [figures["gain"] if shown[0] >= least else 0.0 for least in LEAST]
    wrong = saved.given != saved.true
    if wrong.mean() < 0.05:
        return [np.nan] * len(UNSEEN), gains
    scores = []
    for share in UNSEEN:
        flagged = found.noise >= best_expected_f1(found.noise, share)
        scores.append(2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()) / figures["f1_best"])
    return scores, gains


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    args = parser.parse_args()
    scores, gains = defaultdict(list), defaultdict(list)
    for data, saved in all_saved(args.folders):
        found = figures_of(saved)
        scores[data].append(found[0])
        gains[data].append(found[1])
    chosen(
        "flags look for so many more",
        UNSEEN,
        {data: np.nanmean(each, axis=0) for data, each in scores.items()},
    )
    counted = {data: np.array(each) for data, each in gains.items()}
    chosen(
        "least of expected",
        LEAST,
        {data: np.where(each < 0, _A_LOSS * each, each).mean(axis=0) for data, each in counted.items()},
    )
    for data, each in counted.items():
        print(f"{data:10s} worst gain at each: {each.min(axis=0).round(4).tolist()}")


def chosen(what: str, values: tuple[float, ...], figures: dict[str, np.ndarray]) -> None:
    """A line for each data set: every value's figure there, and the one that the others would choose."""
    print(f"{what}: {values}")
    for data, here in figures.items():
        others = np.nanmean([each for name, each in figures.items() if name != data], axis=0)
        print(f"{data:10s} {here.round(4).tolist()}, the others choose {best(others, values):g}")
    everything = np.nanmean(list(figures.values()), axis=0)
    print(f"{'all':10s} {everything.round(4).tolist()}, all choose {best(everything, values):g}")


def best(figures: np.ndarray, values: tuple[float, ...]) -> float:
    """The value with the highest figure, of equals the most cautious, which is the largest."""
    return values[int(np.flatnonzero(figures >= figures.max() - 1e-9)[-1])]


if __name__ == "__main__":
    main()

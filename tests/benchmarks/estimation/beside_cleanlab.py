"""score_labels beside cleanlab's find_label_issues, on saved out-of-fold predictions whose truth is known.

    python tests/benchmarks/estimation/beside_cleanlab.py FOLDER

FOLDER holds .npz files with `P` (N, K) out-of-fold probabilities of the given labels, `g` (N,) the given and `y` (N,)
the true labels. cleanlab's suggestion is the most probable class of the rows that it finds. F1 is that of the flags,
gain the change of the share of right labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues

import labelfix


def f1(flagged: np.ndarray, wrong: np.ndarray) -> float:
    return float(2 * (flagged & wrong).sum() / max(flagged.sum() + wrong.sum(), 1))


def compare(path: Path) -> tuple[float, float]:
    """Print a line, and return the F1 of both."""
    with np.load(path) as saved:
        probs, given, true = (saved[name] for name in ("P", "g", "y"))
    probs = probs.astype(np.float64) / probs.sum(axis=1, keepdims=True, dtype=np.float64)
    given, true = given.astype(np.int64), true.astype(np.int64)
    found = labelfix.score_labels(given, probs)
    ours, corrected = found.is_label_issue.to_numpy(), found.corrected_label.astype(int).to_numpy()
    theirs = find_label_issues(given, probs)
    suggested = np.where(theirs, probs.argmax(axis=1), given)
    wrong = given != true
    scores = f1(ours, wrong), f1(theirs, wrong)
    print(
        f"{path.stem:14s} wrong {wrong.mean():.3f} | F1 {scores[0]:.3f}, cleanlab {scores[1]:.3f} | "
        f"gain {(corrected == true).mean() - (~wrong).mean():+.3f}, "
        f"cleanlab {(suggested == true).mean() - (~wrong).mean():+.3f} | "
        f"changed {(corrected != given).mean():.3f}, cleanlab {(suggested != given).mean():.3f}",
        flush=True,
    )
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    scores = np.array([compare(path) for path in sorted(parser.parse_args().folder.glob("*.npz"))])
    noisy = scores[scores.any(axis=1)]
    print(
        f"mean F1 over {len(noisy)} noisy sets: {noisy[:, 0].mean():.3f}, cleanlab {noisy[:, 1].mean():.3f}"
    )


if __name__ == "__main__":
    main()

"""Draw the figure of docs/estimation.md: labels that contradict a network, the surer it is, from arrays of arrays.py.

python tests/benchmarks/estimation/figure.py FOLDER docs/contradicted.svg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

CONDITIONS = {"no wrong labels": "clean", "10 % wrong": "symmetric-0.1", "40 % wrong": "symmetric-0.4"}
PARTS = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    plt.rcParams.update({"svg.hashsalt": "labelfix", "font.size": 9})
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name, condition in CONDITIONS.items():
        data = np.load(args.folder / f"cifar-5000-{condition}-lite0-cross-entropy-0.npz")
        best, sure = data["P"].argmax(axis=1), data["P"].max(axis=1)
        parts = np.array_split(np.argsort(-sure, kind="stable"), PARTS)
        shares = [(best[rows] != data["g"][rows]).mean() for rows in parts]
        (line,) = axes.plot(
            (np.arange(PARTS) + 0.5) / PARTS * 100, np.array(shares) * 100, marker=".", label=name
        )
        axes.axhline(
            (data["g"] != data["y"]).mean() * 100, color=line.get_color(), linestyle=":", linewidth=1
        )
    axes.set_xlabel("rows, the surest first (% of all)")
    axes.set_ylabel("labels that contradict\nthe network (%)")
    axes.set_ylim(-2, 102)
    axes.legend(frameon=False)
    figure.savefig(args.out, metadata={"Date": None})


if __name__ == "__main__":
    main()

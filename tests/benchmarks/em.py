"""EM on a histogram against EM with scipy's beta density on every loss: seconds, ratio, parameters.

python tests/benchmarks/em.py
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import references

from labelfix.estimation.mixture import fit_beta_mixture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--noise", type=float, nargs="*", default=[0.05, 0.2, 0.5, 0.8])
    args = parser.parse_args()
    print("noise  scipy s  ours s  ratio  largest relative difference")
    for noise in args.noise:
        rng = np.random.default_rng(0)
        is_noisy = rng.random(args.rows) < noise
        x = np.where(is_noisy, rng.beta(6, 2, args.rows), rng.beta(1.5, 9, args.rows)).clip(1e-3, 1 - 1e-3)
        started = time.perf_counter()
        expected = references.beta_mixture_em(x)
        slow = time.perf_counter() - started
        fast = min(_seconds(x) for _ in range(5))
        mixture = fit_beta_mixture(x)
        found = (mixture.alpha, mixture.beta, mixture.weight)
        difference = max(np.max(np.abs(np.array(a) / b - 1)) for a, b in zip(found, expected, strict=True))
        print(f"{noise:5.2f}  {slow:7.2f}  {fast:6.4f}  {slow / fast:5.0f}  {difference:.1e}")


def _seconds(x: np.ndarray) -> float:
    started = time.perf_counter()
    fit_beta_mixture(x)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

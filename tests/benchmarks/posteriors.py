"""Which posterior of the same averaged predictions finds wrong labels best, and mends most without doing harm?

    python tests/benchmarks/posteriors.py --data DIR

Cross-entropy is trained once a noise and seed (first 5,000 images of cifar10_train.parquet in DIR, or scikit-learn's
digits), its averaged and last predictions are kept in --out, and every candidate takes the same ones. A line shows for
every candidate the average precision of its score and the share of the wrong labels that its corrections remove (net:
a label made wrong counts against it); on clean labels the rows that it changes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import write_digits

import labelfix
from labelfix import pipeline
from labelfix.data.manifest import Manifest
from labelfix.estimation.evidence import (
    class_relative_losses,
    noise_concentration,
    ratio_score,
    sure_transition,
    transition_posterior,
    true_class_beliefs,
)
from labelfix.estimation.mixture import NoiseModel
from labelfix.estimation.mixture_posterior import mixture_belief
from labelfix.estimation.posterior import posterior_evidence
from labelfix.estimation.verdicts import decide

CIFAR = ["symmetric:0.2", "symmetric:0.4", "asymmetric:0.4", "pair:0.3", "human", "clean"]
DIGITS = ["symmetric-exclusive:0.2", "symmetric-exclusive:0.4", "pair:0.3", "clean"]
AVERAGED_EPOCHS = 28


def argmax(probs, given):
    """1 - P(given), and the network's class wherever it is another."""
    return 1 - own(probs, given), probs, probs.argmax(axis=1)


def posterior(probs, given, least):
    """1 - r(given), and the class that r gives at least `least`."""
    belief, _ = transition_posterior(probs, given)
    return 1 - own(belief, given), belief, relabelled(belief, given, belief.max(axis=1) >= least)


def mean_of_both(probs, given):
    """The mean of ratio and posterior; corrections of the posterior from 0.8."""
    score, belief, labels = posterior(probs, given, 0.8)
    return (score + ratio_score(probs, given)) / 2, belief, labels


def pooled(probs, given, *, sure):
    """Mixture and posterior pooled by the concentration of T; T of all rows, or counted where the network is sure."""
    rows, losses = np.arange(len(given)), class_relative_losses(probs, given)
    weight = NoiseModel.fit(losses, "beta").posterior(losses)
    others = q = true_class_beliefs(probs)
    others = others.copy()
    others[rows, given] = 1e-12
    first = mixture_belief(
        np.sqrt(weight * ratio_score(probs, given)), others / others.sum(axis=1, keepdims=True), given
    )
    second, transition = transition_posterior(probs, given)
    bound = 0.11
    if sure:
        (transition, _), bound = sure_transition(q, given, 0.9), 0.4
        second = q * transition[:, given].T
        second /= second.sum(axis=1, keepdims=True)
    trust = min(noise_concentration(transition) / bound, 1.0) ** 2
    belief = ((1 - trust) * first + trust * second) ** 2.5
    belief /= belief.sum(axis=1, keepdims=True)
    return 1 - own(belief, given), belief, relabelled(belief, given, belief.max(axis=1) >= 0.8)


def ours(probs, given):
    """What a scan does: sure T, the noise rate of the likely rows, odds of four, and no change to clean labels."""
    evidence = posterior_evidence(probs, given, AVERAGED_EPOCHS)
    verdicts = decide(evidence, given, given >= 0, probs.argmax(axis=1))
    return evidence.noise, evidence.probs, verdicts.corrected


CANDIDATES = {
    "argmax P": argmax,
    "r >= 0.5": lambda p, g: posterior(p, g, 0.5),
    "r >= 0.7": lambda p, g: posterior(p, g, 0.7),
    "mean, r >= 0.8": mean_of_both,
    "pooled >= 0.8": lambda p, g: pooled(p, g, sure=False),
    "sure T >= 0.8": lambda p, g: pooled(p, g, sure=True),
    "ours": ours,
}


def own(probs, given):
    return probs[np.arange(len(given)), given]


def relabelled(belief, given, sure):
    return np.where(sure, belief.argmax(axis=1), given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("LABELFIX_BENCH_DATA"), help="folder of the data")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--rows", type=int, default=5_000, help="of cifar")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--datasets", nargs="*", choices=["cifar", "digits"], default=["cifar", "digits"])
    args = parser.parse_args()
    if not args.data and "cifar" in args.datasets:
        parser.error("name the folder of the benchmark data with --data or LABELFIX_BENCH_DATA")
    print("| noise | seed | " + " | ".join(CANDIDATES) + " |\n" + "| --- " * (len(CANDIDATES) + 2) + "|")
    for dataset in args.datasets:
        for noise in CIFAR if dataset == "cifar" else DIGITS:
            for seed in args.seeds:
                probs, given, true = predictions(args, dataset, noise, seed)
                cells = [cell(score(probs, given), given, true) for score in CANDIDATES.values()]
                print(f"| {dataset}, {noise} | {seed} | " + " | ".join(cells) + " |", flush=True)


def cell(found, given, true) -> str:
    noise, _, labels = found
    wrong = given != true
    if not wrong.any():
        return f"{(labels != given).sum()} changed"
    removed = ((labels == true).sum() - (given == true).sum()) / wrong.sum()
    return f"{average_precision_score(wrong, noise):.3f}, {removed:+.1%}"


def predictions(args, dataset: str, noise: str, seed: int):
    """Averaged predictions with 0.2 of the last ones (N, K), given and true labels (N,); trained where not kept."""
    folder = args.out / f"{dataset}-{noise}-seed{seed}".replace(":", "-")
    kept = folder / "predictions.npz"
    if not kept.exists():
        source, options, truth = (digits_source if dataset == "digits" else cifar_source)(
            args, folder, noise, seed
        )
        train(kept, source, {**options, "seed": seed}, truth)
    with np.load(kept) as found:
        return 0.8 * found["averaged"] + 0.2 * found["last"], found["given"], found["true"]


def digits_source(args: argparse.Namespace, folder: Path, noise: str, seed: int):
    images = folder / "images"
    if not images.exists():
        write_digits(images, 1797)
    return corrupted(images, folder, "symmetric:0" if noise == "clean" else noise, seed, {})


def cifar_source(args: argparse.Namespace, folder: Path, noise: str, seed: int):
    path = Path(args.data) / "cifar10_train.parquet"
    truth = {"truth": path, "truth_column": "label"}
    if noise in ("clean", "human"):
        column = "label" if noise == "clean" else "human_label"
        return path, {"rows": args.rows, "label_column": column}, truth
    return corrupted(path, folder, noise, seed, {"rows": args.rows, "label_column": "label"})


def corrupted(source: Path, folder: Path, noise: str, seed: int, options: dict):
    noisy = folder / "noisy.parquet"
    if not noisy.exists():
        labelfix.corrupt(source, noise=noise, out=noisy, seed=seed, **options)
    return noisy, {}, {"truth": noisy}


def train(kept: Path, source, options: dict, truth: dict) -> None:
    """Train cross-entropy and write down its predictions; the scan itself ends before its findings."""
    column = truth.get("truth_column") or "true_label"
    true = Manifest.read(truth["truth"], label_column=column, rows=options.get("rows")).given
    findings_of = pipeline.find

    def keep(manifest, store, trusted, trainer, *_):
        averaged = trainer.method.ensembled_probs.double().cpu().numpy()
        last = trainer.predict().softmax(dim=1).double().cpu().numpy()
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, averaged=averaged, last=last, given=manifest.given, true=true)
        return findings_of(manifest, store, trusted, trainer, *_)

    pipeline.find = keep
    try:
        pipeline.scan(source, method="cross-entropy", out=kept.parent / "run", overwrite=True, **options)
    finally:
        pipeline.find = findings_of


if __name__ == "__main__":
    main()

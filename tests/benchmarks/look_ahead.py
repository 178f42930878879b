"""What the meta step of `meta` costs: a whole training step against the same step without it, in one run.

    python tests/benchmarks/look_ahead.py [--rows 32] [--size 32] [--backbone small] [--repeats 20]

Each derivative of labelfix.methods.look_ahead takes its turn, so that other work on the machine hits all alike.
Images are noise: nothing here depends on what they show.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from labelfix.methods import look_ahead
from labelfix.methods.batch import Labels
from labelfix.methods.look_ahead import MetaWeights
from labelfix.methods.meta import Meta
from labelfix.networks import NetworkSpec, build
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source
from labelfix.training.trainer import Trainer

CLASSES = 10


class WithoutMeta(Meta):
    """Every row weighs the same and keeps its label."""

    def _meta_step(self, when, batch, given, guess, logits):
        count = len(given)
        weights = torch.full((count,), 1 / count, device=given.device)
        return MetaWeights(weights, torch.ones_like(weights), weights)


def trainer_of(method_class: type[Meta], args: argparse.Namespace, device: torch.device) -> Trainer:
    torch.manual_seed(0)
    count = 20 * args.rows
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, args.size, args.size), np.uint8)
    given = rng.integers(0, CLASSES, count)
    trusted = np.where(np.arange(count) < 10 * CLASSES, given, -1)
    labels = Labels.of(np.where(trusted >= 0, -1, given), CLASSES, device, trusted)
    network = build(NetworkSpec(args.backbone, CLASSES, args.size)).to(
        device, memory_format=torch.channels_last
    )
    settings = Meta.presets()["fast"].changed(
        {"batch_size": args.rows, "guess_gradient": args.guess_gradient}
    )
    augmentation = Augmentation(args.size, (0.5,) * 3, (0.25,) * 3, flip=True, device=device)
    source = Source(images, augmentation, device)
    rows = np.flatnonzero(trusted < 0)
    method = method_class(network, labels, settings).to(device)
    return Trainer(method, source, trained_rows=rows, predicted_rows=rows, seed=0)


def seconds_of_a_step(trainer: Trainer, device: torch.device) -> float:
    phase = trainer.method.phases()[0]
    trainer.position.step = 1  # not the first of an epoch
    batch = next(trainer._epoch_batches(phase))
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    trainer._step(phase, batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--guess-gradient", default="false", choices=("true", "false"))
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    plain, meta = trainer_of(WithoutMeta, args, device), trainer_of(Meta, args, device)
    for trainer in (plain, meta):
        trainer._loss_sums = torch.zeros(5, device=device)
    seconds: dict[str, list[float]] = {name: [] for name in ("without", *look_ahead.DERIVATIVES)}
    for _ in range(args.repeats + 3):
        seconds["without"].append(seconds_of_a_step(plain, device))
        for name in look_ahead.DERIVATIVES:
            meta.method.settings = meta.method.settings.changed({"derivative": name})
            seconds[name].append(seconds_of_a_step(meta, device))
    medians = {name: float(np.median(values[3:])) for name, values in seconds.items()}
    print(f"{args.backbone}, {args.rows} rows of {args.size} px, {device}, {torch.get_num_threads()} threads")
    for name, value in medians.items():
        print(f"{name:20} {value * 1e3:8.1f} ms  {value / medians['without']:.2f} x")


if __name__ == "__main__":
    main()

"""What the trainer adds to a step: epochs of it against bare steps of the same network on ready tensors.

    python tests/benchmarks/step.py

Both sides train the same network on the same number of batches, in turn, so that a drift of the machine hits
both. The bare side has its batches of views ready in memory and does forward, loss, backward and optimiser only.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F

from labelfix.methods import method_class
from labelfix.methods.batch import Labels
from labelfix.networks import NetworkSpec, build
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source
from labelfix.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2560)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.rows, 3, args.size, args.size), dtype=np.uint8)
    augmentation = Augmentation(args.size, (0.5,) * 3, (0.25,) * 3, flip=True, device=device)
    source = Source(images, augmentation, device)
    given = rng.integers(0, 10, args.rows)
    chosen = method_class("cross-entropy")
    settings = chosen.presets()["fast"].changed(
        {
            "batch_size": str(args.batch_size),
            "train_epochs": str(args.rounds + 1),
            "milestones": "1000",
            "average_from": "0",
        }
    )
    spec = NetworkSpec(args.backbone, 10, args.size)
    method = chosen(_network(spec, device), Labels.of(given, 10, device), settings).to(device)
    rows = np.arange(args.rows)
    trainer = Trainer(method, source, trained_rows=rows, predicted_rows=rows, seed=0)
    bare = _Bare(_network(spec, device), source, given, trainer.steps_per_epoch)

    ratios, epochs = [], trainer.epochs()
    for _ in range(args.rounds + 1):
        ours = _seconds(lambda: next(epochs), device)
        theirs = _seconds(bare.epoch, device)
        ratios.append((ours / theirs, ours, theirs))
    ratio, ours, theirs = np.median(ratios[1:], axis=0)
    steps = trainer.steps_per_epoch
    print(f"{args.backbone}, {args.size} px, batches of {args.rows // steps}, {device}, {args.rounds} rounds")
    print(f"step: ours {1000 * ours / steps:.1f} ms, bare {1000 * theirs / steps:.1f} ms")
    print(f"overhead: {100 * (ratio - 1):+.1f} % (median of pairs)")


class _Bare:
    """Forward, loss, backward and optimiser step on tensors that are ready."""

    def __init__(self, network: torch.nn.Module, source: Source, given: np.ndarray, steps: int) -> None:
        self.network = network.train()
        self.optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        slices = np.array_split(np.arange(len(given)), steps)
        labels = torch.from_numpy(given).to(source.device)
        made = source.batches(slices, ("weak",), range(steps))
        self.batches = [(batch.views[0], labels[batch.rows]) for batch in made]

    def epoch(self) -> None:
        for views, labels in self.batches:
            loss = F.cross_entropy(self.network(views), labels)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()


def _network(spec: NetworkSpec, device: torch.device) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(spec).to(device, memory_format=torch.channels_last)


def _seconds(work, device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

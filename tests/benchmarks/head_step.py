"""What the attention head costs: training steps of a network with it against steps of the same network with pooling.

    OMP_NUM_THREADS=1 python tests/benchmarks/head_step.py --size 64

Both take their steps in turn on one batch, so that a drift of the machine hits both, and what counts is the time of
this process alone, so that others on the machine do not.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from labelfix.methods.binary_losses import binary_cross_entropy
from labelfix.networks import NetworkSpec, build

_WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(args.batch_size, 3, args.size, args.size).to(memory_format=torch.channels_last)
    targets = (torch.rand(args.batch_size, args.classes) < 0.25).float()
    sides = [
        _Side(NetworkSpec(args.backbone, args.classes, args.size, head=head), bf16=args.bf16)
        for head in ("", "attention")
    ]
    rounds = [[side.seconds(images, targets) for side in sides] for _ in range(args.rounds + _WARM_UP)]
    pool, attention = 1000 * np.median(rounds[_WARM_UP:], axis=0)
    ratio = np.median([there / here for here, there in rounds[_WARM_UP:]])
    print(f"{args.backbone}, {args.size} px, batches of {args.batch_size}, {'bf16' if args.bf16 else 'fp32'}")
    print(f"step: pooling {pool:.1f} ms, attention {attention:.1f} ms; ratio {ratio:.2f} (median of pairs)")


class _Side:
    """A network under training."""

    def __init__(self, spec: NetworkSpec, *, bf16: bool) -> None:
        self.network = build(spec).to(memory_format=torch.channels_last).train()
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        self.bf16 = bf16

    def seconds(self, images: torch.Tensor, targets: torch.Tensor) -> float:
        """Of this process, for one step."""
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = binary_cross_entropy(self.network(images).float(), targets).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return time.process_time() - started


if __name__ == "__main__":
    main()

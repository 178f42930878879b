"""Training steps of an encoder on a processor: in bf16 with depthwise convolutions in float32, all in bf16, or neither.

    python tests/benchmarks/depthwise.py [--threads 2]

The same network, images and steps in turn, so that a drift of the machine hits all; seconds are medians.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F

from labelfix.networks.depthwise import depthwise_in_float32
from labelfix.networks.encoders import LITE0, pretrained_encoder


def step(network: torch.nn.Module, images: torch.Tensor, *, is_bf16: bool) -> float:
    """Seconds of one step without the optimiser."""
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
        features = network(images)
        loss = F.mse_loss(features.float(), torch.zeros(features.shape))
    loss.backward()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    images = torch.randn(args.batch_size, 3, args.size, args.size).to(memory_format=torch.channels_last)
    kinds = {"bf16, depthwise fp32": True, "bf16": True, "fp32": False}
    networks = {}
    for kind in kinds:
        networks[kind] = pretrained_encoder(LITE0, args.size).to(memory_format=torch.channels_last).train()
    depthwise_in_float32(networks["bf16, depthwise fp32"])
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.rounds + 1):
        for kind, is_bf16 in kinds.items():
            seconds[kind].append(step(networks[kind], images, is_bf16=is_bf16))
    medians = {kind: sorted(each[1:])[args.rounds // 2] for kind, each in seconds.items()}
    for kind, median in medians.items():
        ratio = median / medians["bf16, depthwise fp32"]
        print(f"{kind}: {1000 * median:.0f} ms a step of {args.batch_size}, {ratio:.2f} times the first")


if __name__ == "__main__":
    main()

"""Encode images as a scan does, and with the bare encoder in a loop: the ratio of the two rates, and the memory.

    LABELFIX_CACHE=$(mktemp -d) python tests/benchmarks/encoding.py [--rows 400] [--size 144] [--rounds 3]

Both see the same views of the same random images in batches of the same size; rounds alternate, medians count.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch

from labelfix.data.images.store import ImageStore, stored_size
from labelfix.networks.encoders import LITE0, encoder_facts, pretrained_encoder
from labelfix.networks.heads import FrozenEncoder
from labelfix.training.augmentation import Augmentation
from labelfix.training.features import encoded_views, open_features

CPU = torch.device("cpu")
BATCH = 8


def random_store(rows: int, size: int, seed: int) -> ImageStore:
    side = stored_size(size)
    images = np.random.default_rng(seed).integers(0, 256, (rows, 3, side, side), dtype=np.uint8)
    return ImageStore(images, np.ones(rows, dtype=bool), {}, size, side)


@torch.inference_mode()
def bare(encoder: torch.nn.Module, rows: int, views: int, size: int) -> float:
    """Seconds for so many views of images that are there already."""
    images = torch.rand(BATCH, 3, size, size).to(memory_format=torch.channels_last)
    started = time.monotonic()
    for _ in range(views * -(-rows // BATCH)):
        encoder(images)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--size", type=int, default=144)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    facts = encoder_facts(LITE0)
    encoder = pretrained_encoder(LITE0, args.size).to(memory_format=torch.channels_last).eval()
    frozen = FrozenEncoder(encoder).requires_grad_(False)
    images = Augmentation(args.size, facts.mean, facts.std, flip=True, device=CPU)
    views = encoded_views(flip=True, has_margin=stored_size(args.size) > args.size)
    bare(encoder, BATCH, 2, args.size)
    loops, scans = [], []
    for number in range(args.rounds):
        loops.append(bare(encoder, args.rows, len(views), args.size))
        store = random_store(args.rows, args.size, number)  # new pixels, or the cache would answer
        started = time.monotonic()
        open_features(store, frozen, images, views, CPU)
        scans.append(time.monotonic() - started)
    loop, scan = (args.rows * len(views) / float(np.median(part)) for part in (loops, scans))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"bare loop {loop:.0f} views a second, as a scan {scan:.0f}: {scan / loop:.2f}; peak {peak} MiB")


if __name__ == "__main__":
    main()

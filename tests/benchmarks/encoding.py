"""Encode images as a scan does, and with the bare encoder in a loop: the ratio of the two rates, and the memory.

    LABELFIX_CACHE=$(mktemp -d) python tests/benchmarks/encoding.py [--rows 400] [--size 144] [--rounds 3]
    LABELFIX_CACHE=$(mktemp -d) python tests/benchmarks/encoding.py --rows 100000 --memory

Both see the same views of the same random images in batches of the same size; rounds alternate, medians count. With
`--memory` the encoder is the mean of patches, so that many images take minutes, and what the process holds of its own
(mapped files not counted, Linux) is told before and during the encoding; the images are a file of zeros.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

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


class Patches(torch.nn.Module):
    """The mean colour of 20 x 20 patches, said over: (B, 3, H, H) to (B, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 20).flatten(1).repeat(1, 2)[:, :1280]


def own_memory() -> int:
    """MiB that the process holds, mapped files not counted."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) // 1024


def memory_of_encoding(rows: int, size: int) -> None:
    """Print what encoding so many images holds beside the encoder."""
    facts, side = encoder_facts(LITE0), stored_size(size)
    images = Augmentation(size, facts.mean, facts.std, flip=True, device=CPU)
    views = encoded_views(flip=True, has_margin=side > size)
    frozen = FrozenEncoder(Patches()).requires_grad_(False).eval()
    with tempfile.TemporaryFile() as file:
        file.truncate(rows * 3 * side * side)
        pixels = np.memmap(file, np.uint8, "r", shape=(rows, 3, side, side))
        store = ImageStore(pixels, np.ones(rows, dtype=bool), {}, size, side)
        before, seen = own_memory(), [own_memory()]
        open_features(store, frozen, images, views, CPU, on_progress=lambda *_: seen.append(own_memory()))
        seen.append(own_memory())
    print(f"{rows} images: {before} MiB before, at most {max(seen)} MiB: {max(seen) - before} more")


@torch.inference_mode()
def bare(encoder: torch.nn.Module, rows: int, views: int, size: int) -> float:
    """Seconds for so many views of images that are there already."""
    images = torch.rand(BATCH, 3, size, size).to(memory_format=torch.channels_last)
    started = time.monotonic()
    for _ in range(views * -(-rows // BATCH)):
        encoder(images)
    return time.monotonic() - started


def compare(rows: int, size: int, rounds: int) -> None:
    """Print the rates of the two loops."""
    facts = encoder_facts(LITE0)
    encoder = pretrained_encoder(LITE0, size).to(memory_format=torch.channels_last).eval()
    frozen = FrozenEncoder(encoder).requires_grad_(False)
    images = Augmentation(size, facts.mean, facts.std, flip=True, device=CPU)
    views = encoded_views(flip=True, has_margin=stored_size(size) > size)
    bare(encoder, BATCH, 2, size)
    loops, scans = [], []
    for number in range(rounds):
        loops.append(bare(encoder, rows, len(views), size))
        store = random_store(rows, size, number)  # new pixels, or the cache would answer
        started = time.monotonic()
        open_features(store, frozen, images, views, CPU)
        scans.append(time.monotonic() - started)
    loop, scan = (rows * len(views) / float(np.median(part)) for part in (loops, scans))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"bare loop {loop:.0f} views a second, as a scan {scan:.0f}: {scan / loop:.2f}; peak {peak} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--size", type=int, default=144)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    if args.memory:
        memory_of_encoding(args.rows, args.size)
    else:
        compare(args.rows, args.size, args.rounds)


if __name__ == "__main__":
    main()

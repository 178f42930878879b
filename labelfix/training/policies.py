"""Augmentation by the published policies of torchvision: AutoAugment's for CIFAR-10, and RandAugment.

They draw on the host, image by image: a step on a GPU waits for them.
"""

from __future__ import annotations

import numpy as np
import torch

POLICIES = ("autoaugment", "randaugment")
_OPERATIONS, _BINS = 2, 11  # of RandAugment; magnitudes 1 to 9 of 10 (the code of Zhang et al. 2020)


def by_policy(
    images: torch.Tensor, border: torch.Tensor, name: str, rng: np.random.Generator
) -> torch.Tensor:
    """Every image after operations drawn for it alone.

    Sources: Cubuk et al. 2019, "AutoAugment" (table 7); Cubuk et al. 2020, "RandAugment".

    Args:
        images: (B, 3, H, H) uint8.
        border: (1, 3, 1, 1) uint8, the colour of what comes in from outside.
        name: one of `POLICIES`; of RandAugment two operations, each image of one magnitude.
        rng: on the host.

    Returns:
        (B, 3, H, H) uint8.
    """
    from torchvision import transforms

    fill = border.flatten().tolist()
    magnitudes = rng.integers(1, _BINS - 1, size=len(images)).tolist()

    def policy(magnitude: int) -> torch.nn.Module:
        if name == "autoaugment":
            return transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10, fill=fill)
        return transforms.RandAugment(_OPERATIONS, magnitude, _BINS, fill=fill)

    # They draw from torch's own generator, which is put back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(1 << 31)))
        pairs = zip(images.cpu(), magnitudes, strict=True)
        changed = [policy(magnitude)(image) for image, magnitude in pairs]
    return torch.stack(changed).to(images.device)

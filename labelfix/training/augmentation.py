"""Augmented views of a batch: functions on the device, drawn per sample.

`plain` is the image as it is, `weak` a random crop and mirror of it, `strong` a distortion of that. A stored image
is (3, S, S) uint8. A view is (B, 3, H, H) float32, normalised, in channels-last layout. Below 96 px S equals H and the
random crop pads by an eighth of the side; from 96 px up S is 8/7 H and the crop moves inside the stored square.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from labelfix.training.distortions import distort

PAD_FRACTION = 8


class Augmentation:
    """How a stored image becomes a view.

    Args:
        image_size: H, side of the view in pixels.
        mean: per channel, of pixel values in 0..1.
        std: per channel, of pixel values in 0..1.
        flip: whether the weak view is mirrored left to right at random.
        device: where batches live.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        flip: bool,
        device: torch.device,
    ) -> None:
        self.image_size = image_size
        self.flip = flip
        # Made once: a tensor made from Python numbers in the loop would wait for the device.
        self.mean, self.std = tuple(mean), tuple(std)
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std, device=device).view(1, 3, 1, 1) * 255)
        # The mean colour in whole grey levels: nearly zero after normalisation, as the reference codes pad.
        self._border = self._mean.round().to(torch.uint8)

    def views(
        self,
        names: Sequence[str],
        pixels: torch.Tensor,
        generator: torch.Generator,
        rng: np.random.Generator,
    ) -> tuple[torch.Tensor, ...]:
        """Views of one batch, in the order of their names.

        Args:
            names: "plain", "weak", and "strong", which distorts the weak view before it.
            pixels: (B, 3, S, S) uint8.
            generator: on the device, for crops and mirrors.
            rng: on the host, for distortions.

        Returns:
            For each name (B, 3, H, H) float32, normalised.
        """
        made = []
        moved = pixels
        for name in names:
            if name == "plain":
                made.append(self.plain(pixels))
            elif name == "weak":
                moved = self._moved(pixels, generator)
                made.append(self._normalise(moved))
            else:
                made.append(self._normalise(distort(moved, self._border, rng)))
        return tuple(made)

    def plain(self, pixels: torch.Tensor) -> torch.Tensor:
        """The central square of every image: (B, 3, S, S) uint8 to (B, 3, H, H) float32."""
        margin = (pixels.shape[-1] - self.image_size) // 2
        inside = slice(margin, margin + self.image_size)
        return self._normalise(pixels[:, :, inside, inside])

    def weak(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Random crop and, if `flip`, a random mirror, drawn per sample from `generator` on the device."""
        return self._normalise(self._moved(pixels, generator))

    def _moved(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        # Cropped and mirrored as bytes, a quarter of the memory that floats would move.
        if pixels.shape[-1] == self.image_size:
            pixels = self._padded(pixels, self.image_size // PAD_FRACTION)
        pixels = crop(pixels, self.image_size, generator)
        return mirror(pixels, generator) if self.flip else pixels

    def _padded(self, pixels: torch.Tensor, pad: int) -> torch.Tensor:
        count, channels, side, _ = pixels.shape
        canvas = self._border.expand(count, channels, side + 2 * pad, side + 2 * pad).contiguous()
        canvas[:, :, pad : pad + side, pad : pad + side] = pixels
        return canvas

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        views = pixels.to(torch.float32, memory_format=torch.channels_last)
        return views.sub_(self._mean).mul_(self._scale)


def crop(images: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Cut a random `size` x `size` square out of every image.

    Args:
        images: (B, C, S, S), S >= size.
        size: side of the square in pixels.
        generator: on the device of `images`.

    Returns:
        (B, C, size, size), channels-last.
    """
    count, _, side, _ = images.shape
    top, left = torch.randint(side - size + 1, (2, count), generator=generator, device=images.device)
    # Every possible square as a strided view (B, top, left, C, size, size) without a copy; indexing then
    # gathers one per image, in channels-last order.
    squares = images.permute(0, 2, 3, 1).unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3)
    return squares[torch.arange(count, device=images.device), top, left].permute(0, 3, 1, 2)


def mirror(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flip each image (B, C, H, W) left to right with probability one half."""
    flips = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)

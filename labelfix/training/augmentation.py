"""Augmented views of a batch: functions on the device, drawn per sample.

`plain` is the image as it is, `weak` a random crop and mirror of it, `strong` a distortion of that, `cutout` that
without all of the distortion but its hole, `autoaugment` and `randaugment` a published policy and such a hole. A stored
image is (3, S, S) uint8. A view is (B, 3, H, H) float32, normalised, in channels-last layout. Below 96 px S equals H
and the random crop pads by a share of the side; from 96 px up S is 8/7 H and the crop moves inside the stored square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from labelfix.methods.batch import packed_to_device
from labelfix.training.policies import POLICIES, by_policy

PADDING = 1 / 8
_PROBABILITY = 0.5  # of each of the two operations
_MAGNITUDES = (0.1, 0.9)  # of the largest, 1 to 9 of RandAugment's 10
_LARGEST = {"rotate": np.pi / 6, "shear": 0.3, "translate": 0.45}  # radians, slope, share of the side
_MAPS = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
_CUT_SHARE = 0.5


_Colour = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Augmentation:
    """How a stored image becomes a view.

    Args:
        image_size: H, side of the view in pixels.
        mean: per channel, of pixel values in 0..1.
        std: per channel, of pixel values in 0..1.
        flip: whether the weak view is mirrored left to right at random.
        padding: what a random crop pads on every side, as a share of H, 0 to 0.5.
        device: where batches live.
    """

    def __init__(
        self,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        flip: bool,
        padding: float = PADDING,
        device: torch.device,
    ) -> None:
        self.image_size = image_size
        self._pad = int(image_size * padding)
        self.flip = flip
        self.held_out = "plain"
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
            names: "plain", "weak", and "strong", "cutout" or a policy's, which distort the weak view before it.
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
                made.append(self.normalise(moved))
            elif name == "cutout":
                made.append(self.normalise(cut_out(moved, self._border, rng)))
            elif name in POLICIES:
                changed = by_policy(moved, self._border, name, rng)
                made.append(self.normalise(cut_out(changed, self._border, rng)))
            else:
                made.append(self.normalise(strong_augment(moved, self._border, rng)))
        return tuple(made)

    def plain(self, pixels: torch.Tensor) -> torch.Tensor:
        """The central square of every image: (B, 3, S, S) uint8 to (B, 3, H, H) float32."""
        margin = (pixels.shape[-1] - self.image_size) // 2
        inside = slice(margin, margin + self.image_size)
        return self.normalise(pixels[:, :, inside, inside])

    def _moved(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Random crop and, if `flip`, a random mirror, drawn per sample from `generator` on the device."""
        # Cropped and mirrored as bytes, a quarter of the memory that floats would move.
        if pixels.shape[-1] == self.image_size:
            pixels = self._padded(pixels, self._pad)
        pixels = crop(pixels, self.image_size, generator)
        return mirror(pixels, generator) if self.flip else pixels

    def _padded(self, pixels: torch.Tensor, pad: int) -> torch.Tensor:
        count, channels, side, _ = pixels.shape
        canvas = self._border.expand(count, channels, side + 2 * pad, side + 2 * pad).contiguous()
        canvas[:, :, pad : pad + side, pad : pad + side] = pixels
        return canvas

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, H) in 0..255 to float32 of mean 0 and deviation 1 per channel, channels-last."""
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


def strong_augment(images: torch.Tensor, border: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Distort every image in its own way.

    Args:
        images: (B, 3, H, H) uint8.
        border: (1, 3, 1, 1) uint8, the colour of what comes in from outside and of the cut-out.
        rng: on the host.

    Returns:
        (B, 3, H, H) float32 in [0, 255].
    """
    count, side = len(images), images.shape[-1]
    maps, colours, holes = affine_maps(count, rng), _Colours.drawn(count, rng), _holes(count, side, rng)
    on_device = packed_to_device(images.device, maps, colours.rows, colours.amounts, colours.signs, holes)
    pixels, fill = images.float(), border.float()
    moved = _moved(pixels - fill, on_device[0]) + fill
    return torch.where(on_device[4].unsqueeze(1), fill, _recoloured(moved, colours.counts, *on_device[1:4]))


def cut_out(images: torch.Tensor, border: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Every image with a square hole of half its side at a random place, as `strong_augment` ends; same types."""
    count, side = len(images), images.shape[-1]
    (holes,) = packed_to_device(images.device, _holes(count, side, rng))
    return torch.where(holes.unsqueeze(1), border, images)


def affine_maps(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2, 3) float32: for each image the identity, or one random rotation, shear or shift.

    From places in the result to places in the image, in coordinates from -1 to 1.
    """
    chosen = rng.integers(len(_MAPS), size=count)
    signs = np.where(rng.random(count) < 0.5, -1, 1)
    amount = signs * rng.uniform(*_MAGNITUDES, count) * (rng.random(count) < _PROBABILITY)
    angle = np.where(chosen == 0, amount * _LARGEST["rotate"], 0)
    shear, shift = amount * _LARGEST["shear"], 2 * amount * _LARGEST["translate"]
    maps = np.zeros((count, 2, 3), np.float32)
    maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angle)
    maps[:, 0, 1] = np.where(chosen == 1, shear, -np.sin(angle))
    maps[:, 1, 0] = np.where(chosen == 2, shear, np.sin(angle))
    maps[:, 0, 2] = np.where(chosen == 3, shift, 0)
    maps[:, 1, 2] = np.where(chosen == 4, shift, 0)
    return maps


class _Colours(NamedTuple):
    """Changes of colours of half of the images, one each, in the order of `_COLOURS`.

    Attributes:
        counts: images that each change gets.
        rows: (R,) int64, which images those are.
        amounts: (R, 1, 1, 1) float32.
        signs: (R, 1, 1, 1) float32, 1 or -1.
    """

    counts: list[int]
    rows: np.ndarray
    amounts: np.ndarray
    signs: np.ndarray

    @classmethod
    def drawn(cls, count: int, rng: np.random.Generator) -> _Colours:
        chosen = np.where(rng.random(count) < _PROBABILITY, rng.integers(len(_COLOURS), size=count), -1)
        amounts = rng.uniform(*_MAGNITUDES, count).astype(np.float32)
        signs = np.where(rng.random(count) < 0.5, -1, 1).astype(np.float32)
        of_each = [np.flatnonzero(chosen == number) for number in range(len(_COLOURS))]
        rows = np.concatenate(of_each)
        wide = (slice(None), None, None, None)
        return cls([len(part) for part in of_each], rows, amounts[rows][wide], signs[rows][wide])


def _moved(pixels: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    grid = F.affine_grid(maps, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)


def _recoloured(
    pixels: torch.Tensor,
    counts: Sequence[int],
    rows: torch.Tensor,
    amounts: torch.Tensor,
    signs: torch.Tensor,
) -> torch.Tensor:
    """Each of some images through one change of colours, see `_Colours`."""
    if len(rows):
        parts = zip(pixels[rows].split(counts), amounts.split(counts), signs.split(counts), strict=True)
        changed = [
            change(*part) for change, part, count in zip(_COLOURS, parts, counts, strict=True) if count
        ]
        pixels[rows] = torch.cat(changed).clamp_(0, 255)
    return pixels


def _holes(count: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """(count, side, side) bool: a square of half the side around a random place in each image."""
    half = side * _CUT_SHARE / 2
    centre = rng.integers(side, size=(count, 2, 1))
    inside = np.abs(np.arange(side) + 0.5 - centre) < half
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    red, green, blue = pixels.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def _brightness(pixels: torch.Tensor, amount: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
    return pixels * (1 + sign * amount)


def _contrast(pixels: torch.Tensor, amount: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
    return torch.lerp(_grey(pixels).mean(dim=(2, 3), keepdim=True), pixels, 1 + sign * amount)


def _saturation(pixels: torch.Tensor, amount: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
    return torch.lerp(_grey(pixels), pixels, 1 + sign * amount)


def _posterise(pixels: torch.Tensor, amount: torch.Tensor, _sign: torch.Tensor) -> torch.Tensor:
    step = torch.exp2((4 * amount).round())  # keeps 8 to 4 bits
    return (pixels / step).floor() * step


def _solarise(pixels: torch.Tensor, amount: torch.Tensor, _sign: torch.Tensor) -> torch.Tensor:
    return torch.where(pixels >= 256 * (1 - amount), 255 - pixels, pixels)


def _stretch(pixels: torch.Tensor, _amount: torch.Tensor, _sign: torch.Tensor) -> torch.Tensor:
    """Every channel to the whole range, where it has one."""
    low, high = pixels.amin(dim=(2, 3), keepdim=True), pixels.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (pixels - low) * 255 / (high - low).clamp_min(1), pixels)


_COLOURS: tuple[_Colour, ...] = (_brightness, _contrast, _saturation, _posterise, _solarise, _stretch)

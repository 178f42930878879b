"""Strong distortions of a batch: an affine map, a change of colours and a cut-out square, drawn per sample.

Two operations and a cut-out per image, as in RandAugment (Cubuk et al. 2020) and Cutout (DeVries, Taylor 2017); every
image has its own operations and magnitudes. They are drawn on the host, so that the device is never asked how many
images drew which. Equalisation and sharpness are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from labelfix.methods.transfer import to_device

_PROBABILITY = 0.5  # of each of the two operations
_MAGNITUDES = (0.1, 0.9)  # of the largest, 1 to 9 of RandAugment's 10
_LARGEST = {"rotate": np.pi / 6, "shear": 0.3, "translate": 0.45}  # radians, slope, share of the side
_MAPS = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
_CUT_SHARE = 0.5


def distort(images: torch.Tensor, border: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Distort every image in its own way.

    Args:
        images: (B, 3, H, H) uint8.
        border: (1, 3, 1, 1) uint8, the colour of what comes in from outside and of the cut-out.
        rng: on the host.

    Returns:
        (B, 3, H, H) float32 in [0, 255].
    """
    pixels, fill = images.float(), border.float()
    moved = _moved(pixels - fill, affine_maps(len(images), rng)) + fill
    return _cut(_recoloured(moved, rng), fill, rng)


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


def _moved(pixels: torch.Tensor, maps: np.ndarray) -> torch.Tensor:
    grid = F.affine_grid(to_device(maps, pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)


def _recoloured(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Half of the images through one change of colours each."""
    count = len(pixels)
    chosen = np.where(rng.random(count) < _PROBABILITY, rng.integers(len(_COLOURS), size=count), -1)
    magnitudes = rng.uniform(*_MAGNITUDES, count).astype(np.float32)
    signs = np.where(rng.random(count) < 0.5, -1, 1).astype(np.float32)
    for number, change in enumerate(_COLOURS):
        rows = np.flatnonzero(chosen == number)
        if len(rows):
            index = to_device(rows, pixels.device)
            amount, sign = (
                to_device(part[rows, None, None, None], pixels.device) for part in (magnitudes, signs)
            )
            pixels[index] = change(pixels[index], amount, sign).clamp_(0, 255)
    return pixels


def _cut(pixels: torch.Tensor, fill: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A square of half the side around a random place in each image, filled."""
    count, side = len(pixels), pixels.shape[-1]
    half = side * _CUT_SHARE / 2
    centre = rng.integers(side, size=(count, 2, 1))
    inside = np.abs(np.arange(side) + 0.5 - centre) < half
    hole = to_device(inside[:, 0, :, None] & inside[:, 1, None, :], pixels.device)
    return torch.where(hole.unsqueeze(1), fill, pixels)


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


_Colour = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
_COLOURS: tuple[_Colour, ...] = (_brightness, _contrast, _saturation, _posterise, _solarise, _stretch)

"""The digits of the demo: their names under noisy labels, their images and the truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labelfix.data.images.decoding import encode
from labelfix.noise.planting import parse_noise, plant

NOISE = "symmetric-exclusive:0.2:exact"


@dataclass(frozen=True)
class Digits:
    """The 1,797 digits under the noisy labels of a seed.

    Attributes:
        seed: of the noise.
        names: `<noisy label>/<row>.png` of each row.
        true: (1797,) int64, the digits themselves.
        pixels: float64 (1797, 8, 8), 0 to 16.
    """

    seed: int
    names: list[str]
    true: np.ndarray
    pixels: np.ndarray

    @property
    def names_sha256(self) -> str:
        """SHA-256 (hex) of the names."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()

    def image(self, row: int) -> bytes:
        """The image file of a row."""
        return encode((self.pixels[row] * (255 / 16)).round().astype(np.uint8))

    def truth(self) -> str:
        """The table of true labels as CSV."""
        return pd.DataFrame({"file_name": self.names, "true_label": self.true}).to_csv(index=False)


def noisy_digits(seed: int) -> Digits:
    """Draw the noisy labels of a seed.

    Raises:
        InputError: a negative seed.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    true = digits.target.astype(np.int64)
    noisy = plant(true, [str(label) for label in range(10)], parse_noise(NOISE), seed)
    names = [f"{label}/{row:04d}.png" for row, label in enumerate(noisy)]
    return Digits(seed, names, true, digits.images)

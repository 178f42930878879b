"""Noise: label noise of known truth, planted in labels (planting) or in a source (corruption); imports the pipeline."""

from labelfix.noise.planting import parse_noise, plant

__all__ = ["parse_noise", "plant"]

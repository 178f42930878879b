"""Semantic noise: labels that are wrong as a weak network is wrong, so that images of one kind share their error.

A network is trained on a share S of the rows of each class (at least one), which keep their true labels, and relabels
all other rows by what it finds most probable. Rows whose image cannot be read keep their label, and so do rows of a
test split, on which it is not trained either.

Source: Lee, Yun, Lee, Lee, Li, Shin 2019, "Robust Inference via Generative Classifiers for Handling Noisy Labels"
(RoG), as Zhang et al. 2020 (table 4) use it: a VGG-13 trained on 5 % of CIFAR-10 (34 % wrong) or 20 % of CIFAR-100 (37
% wrong). Ours is the method `cross-entropy`, preset `fast`, with the image size that a scan would take here, and its
network unless the noise names one (semantic:0.05:vgg13_bn). Its 40 epochs are stretched, milestones and all, until they
hold at least `LEAST_STEPS` steps: a few rows make few steps an epoch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from labelfix.config import ScanConfig, ScanOptions
from labelfix.data.images.store import decoded
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError, LabelfixError
from labelfix.noise.planting import NoiseSpec, share_of_classes
from labelfix.reporting import Reporter
from labelfix.scan_plan import on_device
from labelfix.training.batches import even_slices, seed_of
from labelfix.training.setup import make_trainer, open_images
from labelfix.training.trainer import Trainer

# Measured: on 15 to 60 digits and 50 to 250 CIFAR-10 images more steps, up to ten times as many, change the share of
# wrong labels by 0.02 at most, as another seed does.
LEAST_STEPS = 300
_TRAINING_SEED = 7


def relabel(
    manifest: Manifest, noise: NoiseSpec, seed: int, reporter: Reporter
) -> tuple[np.ndarray, dict[str, Any]]:
    """Train on the share and relabel the rest; the same seed gives the same labels on the same kind of machine.

    Args:
        manifest: of the rows.
        noise: semantic, and the share.
        seed: of the draw and of the training, >= 0.
        reporter: gets progress and messages.

    Returns:
        (N,) int64 labels, -1 for unlabelled rows; and of the network: trained_rows, epochs, backbone, image_size,
        device and precision.

    Raises:
        InputError: no row is left to relabel, no image can be read, an unknown network, or a negative seed.
        LabelfixError: the training diverged.
    """
    config = _config(manifest, noise, seed)
    # A scan with the same seed must not start from the weights that its wrong labels come from.
    config = dataclasses.replace(config, seed=seed_of(seed, _TRAINING_SEED))
    num_classes = len(manifest.class_names)
    assert noise.rate is not None
    with on_device(config.device):
        store = decoded(manifest, config.image_size, reporter)
        usable = np.where(store.valid & ~manifest.held_out, manifest.given, -1)
        trained = share_of_classes(usable, noise.rate, num_classes, seed)
        labels = np.full_like(usable, -1)
        labels[trained] = usable[trained]
        rest = np.flatnonzero((usable >= 0) & (labels < 0))
        if not len(rest):
            raise InputError(
                f"--noise {noise}: the network trains on all {len(trained)} labelled images of {manifest.source}, none"
                " is left to relabel; take a smaller share, or more images"
            )
        config = _long_enough(config, trained)
        trainer = make_trainer(open_images(store, config), labels, num_classes, config, rest)
        _train(trainer, noise, reporter)
        noisy = manifest.given.copy()
        noisy[rest] = trainer.predict()[rest].argmax(dim=1).cpu().numpy()
    reported = ("backbone", "image_size", "device", "precision")
    facts = {"trained_rows": len(trained), "epochs": trainer.num_epochs}
    return noisy, {**facts, **{name: getattr(config, name) for name in reported}}


def _config(manifest: Manifest, noise: NoiseSpec, seed: int) -> ScanConfig:
    chosen = {} if noise.backbone is None else {"backbone": noise.backbone, "encoder": "none"}
    try:
        return ScanOptions.of({"method": "cross-entropy", "seed": seed, **chosen}).resolve(manifest)
    except InputError as error:
        raise InputError(f"--noise {noise}: {error}" if chosen else str(error)) from None


def _long_enough(config: ScanConfig, trained: np.ndarray) -> ScanConfig:
    """The same schedule over so many epochs that these rows make `LEAST_STEPS` steps; never fewer epochs."""
    settings = config.settings
    steps_per_epoch = len(even_slices(trained, settings.batch_size))
    epochs = max(settings.epochs, -(-LEAST_STEPS // steps_per_epoch))
    return dataclasses.replace(config, settings=settings.with_epochs(epochs))


def _train(trainer: Trainer, noise: NoiseSpec, reporter: Reporter) -> None:
    for report in trainer.epochs():
        reporter.progress("train", report.epoch, trainer.num_epochs)
        if not report.is_finite:
            raise LabelfixError(
                f"--noise {noise}: the training diverged in epoch {report.epoch}; take another seed"
            )

"""From a resolved config to what is trained: the network, the views, the trainer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import nn

from labelfix import networks, processes
from labelfix.config import OWN_FEATURES, ScanConfig
from labelfix.data.images.store import ImageStore, stored_size
from labelfix.data.known_truth import validation_rows
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.device_errors import is_of_device
from labelfix.errors import InputError
from labelfix.methods import method_class
from labelfix.methods.base import MethodSettings
from labelfix.methods.batch import Labels
from labelfix.networks import NetworkSpec
from labelfix.networks.depthwise import depthwise_in_float32
from labelfix.networks.encoded import frozen_encoder, head_on
from labelfix.networks.encoders import (
    ONNX,
    encoder_facts,
    feature_shape,
    is_encoder,
    load_encoder,
    pretrained_encoder,
)
from labelfix.networks.heads import FeatureHead, FrozenEncoder, TunedNetwork
from labelfix.networks.weights import load_weights
from labelfix.random_state import seed_generators
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source, seed_of
from labelfix.training.features import (
    EncodedView,
    FeatureViews,
    bytes_per_image,
    encoded_views,
    map_views,
    open_features,
    seconds_per_image,
    statistics,
)
from labelfix.training.shards import Shard
from labelfix.training.trainer import Trainer

_NETWORK_SEED = 4
_FOLD_SEED = 5
_PROCESS_SEED = 7
_STATISTICS_ROWS = 10_000
_TIMED_ROWS = 64
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Watched(NamedTuple):
    """Labelled images on which the accuracy is measured after every epoch.

    Attributes:
        name: "test", "validation" or "trusted".
        source: of the images.
        labels: (N,) int64, -1 for rows that do not count; or (N, K) float32 of several labels a row, NaN for those.
    """

    name: str
    source: Source
    labels: np.ndarray


def training_targets(manifest: Manifest, trusted: Trusted) -> np.ndarray | None:
    """(N, K) float32: how sure each class of a row is, where a row may have several; else None.

    A trusted row counts with its verified labels, unless it is kept for scoring.
    """
    if manifest.targets is None or trusted.targets is None:
        return manifest.targets
    rows = ((trusted.label >= 0) & ~trusted.is_scored)[:, None]
    return np.where(rows, trusted.targets, manifest.targets)


def training_labels(manifest: Manifest, valid: np.ndarray, trusted: Trusted) -> np.ndarray:
    """(N,) int64: what each row is trained towards, -1 for rows that are not trained on.

    A trusted row counts with its verified label, unless it is kept for scoring; rows of a test split and rows that are
    not `valid` (N,) bool are left out.
    """
    labels = np.where((trusted.label >= 0) & ~trusted.is_scored, trusted.label, manifest.given)
    return np.where(valid & ~manifest.held_out, labels, -1)


def held_out_rows(manifest: Manifest, valid: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) bool: the rows of a test split that are `valid` (N,) bool and have a label in `labels` (N,) int64."""
    return manifest.held_out & valid & (labels >= 0)


def trusted_stream_labels(
    method: str, manifest: Manifest, usable: np.ndarray, trusted: Trusted
) -> np.ndarray:
    """(N,) int64: verified labels of the rows of a method's trusted stream, -1 for all other rows.

    Args:
        method: its name.
        manifest: of the source.
        usable: (N,) bool, rows that can be trained on.
        trusted: its verified labels.

    Raises:
        InputError: the method needs verified rows of every class and one has none.
    """
    if not method_class(method).needs_trusted:
        return np.full(manifest.num_rows, -1)
    verified = np.where(usable & ~trusted.is_scored, trusted.label, -1)
    present, known = (np.unique(labels[labels >= 0]) for labels in (manifest.given, verified))
    missing = [manifest.class_names[label] for label in np.setdiff1d(present, known)]
    way_out = (
        "name a few of each class with --trusted FILE (file_name,label), or mark them in a column is_trusted"
    )
    if not len(known):
        raise InputError(
            f"--method {method} learns from samples whose label a person has verified: {way_out}"
        )
    if missing:
        raise InputError(
            f"--method {method} needs verified samples of every class, usable for training: {missing[0]!r} has none"
            + (f", nor have {len(missing) - 1} others" if len(missing) > 1 else "")
            + f"; {way_out}"
        )
    return verified


def watch(
    source: Source,
    manifest: Manifest,
    store: ImageStore,
    trusted: Trusted,
    test: Manifest | None = None,
    test_source: Source | None = None,
    test_valid: np.ndarray | None = None,
) -> list[Watched]:
    """What there is to measure on: the test source, else the rows of a test split; and the trusted rows.

    Beside a test source also the rows of a validation split: an epoch is not chosen by what it is then measured on.

    Raises:
        InputError: none of the labelled images of the test source can be read.
    """
    if manifest.targets is not None:
        return _watch_targets(source, manifest, store, trusted, test, test_source, test_valid)
    found = [Watched("trusted", source, np.where(store.valid, trusted.label, -1))]
    if test is None or test_source is None or test_valid is None:
        best_known = np.where(trusted.label >= 0, trusted.label, manifest.given)
        split = np.where(held_out_rows(manifest, store.valid, best_known), best_known, -1)
        found.insert(0, Watched("test", source, split))
    else:
        place = {name: index for index, name in enumerate(manifest.class_names)}
        # A class that no row of the test source has may be none of ours.
        index = np.array([*(place.get(name, -1) for name in test.class_names), -1])
        found.insert(0, Watched("test", test_source, np.where(test_valid, index[test.given], -1)))
        if not (found[0].labels >= 0).any():
            raise InputError(f"--test {test.name}: none of its labelled images can be read")
        chosen = held_out_rows(manifest, store.valid, manifest.given) & validation_rows(manifest)
        found.insert(1, Watched("validation", source, np.where(chosen, manifest.given, -1)))
    return [watched for watched in found if (watched.labels >= 0).any()]


def _watch_targets(
    source: Source,
    manifest: Manifest,
    store: ImageStore,
    trusted: Trusted,
    test: Manifest | None,
    test_source: Source | None,
    test_valid: np.ndarray | None,
) -> list[Watched]:
    """The same where a row may have several labels."""
    assert manifest.targets is not None
    known, rows = manifest.targets, trusted.label >= 0
    if trusted.targets is not None:
        known = np.where(rows[:, None], trusted.targets, known)
    seen = manifest.held_out & store.valid
    found = [Watched("trusted", source, _only(known, store.valid & rows))]
    if test is None or test_source is None or test_valid is None:
        found.insert(0, Watched("test", source, _only(known, seen)))
    else:
        assert test.targets is not None
        ours = np.zeros((test.num_rows, len(manifest.class_names)), np.float32)
        ours[:, [manifest.class_names.index(name) for name in test.class_names]] = test.targets
        labelled = np.isfinite(test.targets).all(axis=1)
        found.insert(0, Watched("test", test_source, _only(ours, test_valid & labelled)))
        if not np.isfinite(found[0].labels).any():
            raise InputError(f"--test {test.name}: none of its labelled images can be read")
        found.insert(1, Watched("validation", source, _only(known, seen & validation_rows(manifest))))
    return [watched for watched in found if _can_be_ranked(watched.labels)]


def _can_be_ranked(targets: np.ndarray) -> bool:
    """Whether some labelled rows have a class and others lack it."""
    has = targets[np.isfinite(targets).all(axis=1)] >= 0.5
    return bool((has.any(axis=0) & ~has.all(axis=0)).any()) if len(has) else False


def _only(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(N, K) with NaN but in some rows (N,) bool."""
    return np.where(rows[:, None], targets, np.float32("nan"))


def open_encoder(config: ScanConfig) -> FrozenEncoder | None:
    """The encoder that a scan sees through and leaves as it is; None where the whole network is trained.

    Raises:
        InputError: its weights cannot be had; an attention head on an encoder without maps.
    """
    if not config.is_frozen or config.backbone == OWN_FEATURES:
        return None
    name, size = config.backbone, config.image_size
    encoder = pretrained_encoder(name, size, config.weights)
    frozen = frozen_encoder(encoder, name, size, config.network_head).eval().requires_grad_(False)
    return frozen.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def open_images(
    store: ImageStore,
    config: ScanConfig,
    encoder: FrozenEncoder | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    beside: Source | None = None,
    shard: Shard | None = None,
    resident: bool | None = None,
) -> Source:
    """The images of a scan as its network sees them, or their features as its head does.

    Args:
        store: the decoded images.
        config: of the scan.
        encoder: see `open_encoder`.
        on_progress: of the encoding, called with (rows done, rows in all) now and then.
        beside: the source that is trained on, where these images are only measured on: then they are seen as its are.
        shard: the rows of this process; None for all.
        resident: as of `Source`.

    Raises:
        InputError: no room for the features, or features that are not finite.
    """
    device = torch.device(config.device)
    views = None if beside is None else beside.augmentation
    if encoder is None:
        own = _augmentation(store, config) if views is None else views
        return Source(store.images, own, device, resident, beside, shard)
    images = _augmentation(store, config)
    seen = _encoded_views(config, store.stored_size)
    name = f"--encoder {config.weights if config.backbone == ONNX else config.backbone}"
    name += "" if beside is None else ", of --test"
    features = open_features(store, encoder, images, seen, device, config.precision_type, on_progress, name)
    if views is None:
        found = processes.from_first(lambda: statistics(features, store.valid))
        centre, spread = (torch.from_numpy(part).to(device) for part in found)
        views = FeatureViews(images, centre, spread, features.shape[2:])
    return Source(features, views, device, resident, beside, shard)


def _encoded_views(config: ScanConfig, stored_size: int) -> tuple[EncodedView, ...]:
    """The views in which a frozen encoder sees images that are stored with sides of `stored_size` px."""
    if config.network_head:
        return map_views(flip=config.flip)
    return encoded_views(flip=config.flip, has_margin=stored_size > config.image_size)


def open_own_features(
    features: np.ndarray, valid: np.ndarray, config: ScanConfig, shard: Shard | None = None
) -> Source:
    """The user's own features (N, D) float32 as heads see them: one view a row, by the statistics of the `valid`.

    Raises:
        InputError: no valid row.
    """
    if not valid.any():
        raise InputError("none of the images can be read; see the errors of a scan with --rows 10")
    device, views = torch.device(config.device), features[:, None]
    centre, spread = (torch.from_numpy(part).to(device) for part in statistics(views, valid))
    nothing_seen = Augmentation(1, (0.0,) * 3, (1.0,) * 3, flip=False, device=device)
    return Source(views, FeatureViews(nothing_seen, centre, spread, views.shape[2:]), device, shard=shard)


def _augmentation(store: ImageStore, config: ScanConfig) -> Augmentation:
    mean: tuple[float, ...]
    std: tuple[float, ...]
    if is_encoder(config.backbone):
        facts = encoder_facts(config.backbone, config.weights)
        mean, std = facts.mean, facts.std
    elif config.weights == "imagenet":
        mean, std = _IMAGENET
    else:
        mean, std = _channel_statistics(store)
    device, padding = torch.device(config.device), config.settings.crop_padding
    return Augmentation(config.image_size, mean, std, flip=config.flip, padding=padding, device=device)


def make_trainer(
    source: Source,
    labels: np.ndarray,
    num_classes: int,
    config: ScanConfig,
    predicted: np.ndarray,
    fold: int | None = None,
    trusted_labels: np.ndarray | None = None,
    unseen: np.ndarray | None = None,
    targets: np.ndarray | None = None,
) -> Trainer:
    """The trainer of a scan, or of one of its folds, with a network, an order and views of its own.

    Args:
        source: of the images; where it has a shard of the rows, the trainer has it too.
        labels: (N,) int64 that are trained towards, -1 for rows that are not.
        num_classes: K.
        config: of the scan.
        predicted: (P,) int64, rows that are predicted during training.
        fold: its number; None for the training on all rows.
        trusted_labels: (N,) int64, verified labels of rows with a stream of their own, see `trusted_stream_labels`.
        unseen: (U,) int64, rows that are not trained on, whose predictions are averaged all the same.
        targets: (N, K) float32 where a row may have several labels, see `training_targets`.

    Raises:
        InputError: a network that does not take images of this size, or fewer than two rows to train on, in all or in
            a step of each process.
    """
    seed = config.seed if fold is None else seed_of(config.seed, _FOLD_SEED, fold)
    views = source.augmentation
    network = build_network(config, num_classes, seed, views if isinstance(views, FeatureViews) else None)
    device = torch.device(config.device)
    known, trained = (
        Labels.of(labels, num_classes, device, trusted_labels, targets),
        np.flatnonzero(labels >= 0),
    )
    settings, shard = config.settings, source.shard
    if shard is not None:
        known, settings = known.of_rows(shard.rows), shared_settings(settings)
        trained, predicted = shard.places(trained), shard.places(predicted)
        unseen = None if unseen is None else shard.places(unseen)
        seed = seed_of(seed, _PROCESS_SEED, processes.rank())
    method = method_class(config.method, config.task)(network, known, settings)
    return Trainer(
        method.to(device),
        source,
        trained_rows=trained,
        predicted_rows=predicted,
        unseen_rows=unseen,
        seed=seed,
        # A head is quick as it is.
        precision=torch.float32 if config.is_frozen else config.precision_type,
    )


def shared_settings(settings: MethodSettings) -> MethodSettings:
    """The settings of one process of several: a step is shared among them."""
    number = processes.count()
    size = settings.batch_size // number
    if size < 2:
        raise InputError(
            f"--batch-size {settings.batch_size} is too small for {number} processes, which take 2 rows of a step each:"
            f" give at least {2 * number}, or start fewer"
        )
    return settings.model_copy(update={"batch_size": size})


def build_network(
    config: ScanConfig, num_classes: int, seed: int, features: FeatureViews | None = None
) -> nn.Module:
    """The network of a scan on its device, with its first weights; of a frozen encoder, the head on its `features`."""
    seed_generators(seed_of(seed, _NETWORK_SEED), torch.device(config.device))
    spec = NetworkSpec(config.backbone, num_classes, config.image_size)
    if features is not None:
        head = head_on(features.shape, num_classes, config.network_head).to(config.device)
        head.standardise(features.centre, features.spread)
        return head
    network = networks.build(spec)
    if is_encoder(config.backbone):
        load_encoder(
            cast("TunedNetwork", network).encoder, config.backbone, config.image_size, config.weights
        )
    elif config.weights != "none":
        load_weights(network, config.backbone, config.weights)
    if config.network_head:
        network = networks.with_head(network, replace(spec, head=config.network_head))
    network = network.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.device == "cpu" and config.precision == "bf16":
        depthwise_in_float32(network)
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, config.image_size, config.image_size, device=config.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        if is_of_device(error):
            raise
        raise InputError(
            f"--backbone {config.backbone} does not take images of {config.image_size} px "
            f"({str(error).splitlines()[0]}); use --image-size 224, or another backbone"
        ) from None
    return network.train()


class Encoding(NamedTuple):
    """What it takes to encode one image in all its views.

    Attributes:
        seconds: of the device.
        bytes: in the cache.
        shape: of the features of a view.
    """

    seconds: float
    bytes: int
    shape: tuple[int, ...]


def planned_network(
    config: ScanConfig, num_classes: int, own_features: int | None
) -> tuple[nn.Module, Encoding | None]:
    """The network of a scan before its images are known, and what encoding one takes; None without encoding.

    `own_features` is how many the user gives for a row, None where images are what is seen.

    Raises:
        InputError: as `build_network` and `open_encoder`.
    """
    if own_features is not None:
        return head_on((own_features,), num_classes, "").to(config.device), None
    encoder = open_encoder(config)
    if encoder is None:
        return build_network(config, num_classes, config.seed), None
    device, size = torch.device(config.device), config.image_size
    shape, num_bytes = encoded_size(config, encoder)
    head = head_on(shape, num_classes, config.network_head).to(device)
    views = len(_encoded_views(config, stored_size(size)))
    seconds = seconds_per_image(encoder, size, views, device, config.precision_type)
    return head, Encoding(seconds, num_bytes, shape)


def encoded_size(config: ScanConfig, encoder: FrozenEncoder) -> tuple[tuple[int, ...], int]:
    """The shape of the features of a view, and the bytes that those of an image take in all its views."""
    shape = feature_shape(encoder, config.image_size)
    return shape, bytes_per_image(shape, len(_encoded_views(config, stored_size(config.image_size))))


def _channel_statistics(store: ImageStore) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixel values in 0..1, over a spread of valid images."""
    rows = np.flatnonzero(store.valid)
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _STATISTICS_ROWS)).astype(np.int64)]
    counts = np.zeros((3, 256))  # of every grey level: exact, and a few images in memory at a time
    for part in np.array_split(chosen, -(-len(chosen) // 100)):
        for channel in range(3):
            counts[channel] += np.bincount(store.images[part, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    std = np.sqrt(np.maximum(counts @ levels**2 / counts.sum(axis=1) - mean**2, 0))
    # An empty channel must not blow up: a deviation under one grey level counts as one.
    return tuple(mean.round(6).tolist()), tuple(np.maximum(std, 1 / 255).round(6).tolist())


def seconds_per_unit(network: nn.Module, config: ScanConfig, steps: int = 3) -> float:
    """Seconds of one row's forward pass, from a few training steps (three units each) on noise.

    On a GPU in batches of the scan: what they take depends on it, and no more of them may fit.
    """
    size, batch = config.image_size, _TIMED_ROWS if config.device == "cpu" else config.settings.batch_size
    shape = network.input_shape if isinstance(network, FeatureHead) else (3, size, size)
    images = torch.randn(batch, *shape, device=config.device)
    images = images.to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(steps + 1):
        started = time.monotonic()
        is_bf16 = config.precision == "bf16" and not config.is_frozen
        with torch.autocast(images.device.type, torch.bfloat16, enabled=is_bf16):
            total = network(images).float().logsumexp(dim=1).mean()
        total.backward()
        total.item()  # waits for the device
        seconds.append(time.monotonic() - started)
    return float(np.median(seconds[1:])) / (3 * batch)

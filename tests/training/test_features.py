"""Features of a frozen encoder: what it gives, once, kept in the cache, and no other's."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import timm
import torch
from memory_data import digit_arrays
from onnx_files import onnx_file
from refusals import refuses
from torch import nn

from labelfix.data.cache import cache_folder
from labelfix.data.images.store import ImageStore
from labelfix.networks.encoders import build_encoder
from labelfix.networks.frozen_maps import frozen_maps
from labelfix.networks.heads import FrozenEncoder
from labelfix.networks.onnx_encoder import OnnxEncoder
from labelfix.training import features
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source
from labelfix.training.features import (
    MIRRORED,
    PLAIN,
    EncodedView,
    FeatureViews,
    encoded_views,
    map_views,
    open_features,
    statistics,
)
from labelfix.training.features import seen as seen_part

SIZE = 16
CPU = torch.device("cpu")
BROKEN = 5
BOTH = encoded_views(flip=True, has_margin=False)


class Counting(nn.Module):
    """An encoder that counts the images it sees."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.images = encoder, 0

    def forward(self, images):
        self.images += len(images)
        return self.encoder(images)


@pytest.fixture(scope="module")
def store():
    """40 digits of 16 px of which one could not be read."""
    images = digit_arrays(40)[0].repeat(2, axis=1).repeat(2, axis=2)[:, None].repeat(3, axis=1)
    valid = np.arange(40) != BROKEN
    images[BROKEN] = 0
    return ImageStore(images, valid, {BROKEN: "no image"}, SIZE, SIZE)


@pytest.fixture
def encoder(tmp_path):
    return Counting(FrozenEncoder(OnnxEncoder.from_file(onnx_file(tmp_path / "own.onnx"))))


def seen(mean=0.5) -> Augmentation:
    return Augmentation(SIZE, (mean,) * 3, (0.25,) * 3, flip=True, device=CPU)


def opened(store, encoder, views=BOTH, images=None, **options):
    return open_features(store, encoder, images or seen(), views, CPU, **options)


def files(kind) -> list:
    return list((cache_folder() / "features").glob(f"*.{kind}"))


def test_rows_hold_what_the_encoder_gives_and_invalid_ones_nothing(store, encoder):
    found = opened(store, encoder)
    assert (found.shape, found.dtype) == ((40, 2, 12), np.float16)
    images = seen().plain(torch.from_numpy(store.images))
    for view, pixels in enumerate((images, images.flip(3))):
        expected = encoder(pixels).numpy().astype(np.float16)
        np.testing.assert_array_equal(found[store.valid, view], expected[store.valid])
    assert not found[BROKEN].any()
    assert not (found[:, 0] == found[:, 1]).all()
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_statistics_are_those_of_the_mean_view_of_valid_rows(store, encoder):
    found = opened(store, encoder)
    plain = found[store.valid].astype(np.float64).mean(axis=1)
    for ours, theirs in zip(
        statistics(found, store.valid), (plain.mean(axis=0), plain.std(axis=0)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_images_are_encoded_once(store, encoder):
    first = opened(store, encoder)
    assert encoder.images == 1 + 2 * 39  # the one to learn how many features there are
    encoder.images = 0
    second = opened(store, encoder)
    assert encoder.images == 1
    assert first.tobytes() == second.tobytes()
    assert [path.suffix for path in (cache_folder() / "features").iterdir() if path.suffix != ".lock"] == [
        ".npy"
    ]


class Moody(Counting):
    """An encoder that gives `value` for an image without any ink."""

    value = 0.0

    def forward(self, images):
        found, is_blank = super().forward(images), (images == images.amin()).all(dim=(1, 2, 3))
        return torch.where(is_blank[:, None] & (len(images) > 1), self.value, found)


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), 1e6])
def test_the_first_image_whose_features_are_not_finite_is_named(store, encoder, monkeypatch, value):
    monkeypatch.setattr(features, "_BLOCK", 16)
    blank = store.images.copy()
    blank[[21, 30]] = 0
    moody = Moody(encoder)
    moody.value = value
    for _ in range(2):  # the second goes on with the block that the first stopped at
        words = "e.onnx: what it gives for the image of row 21 is not finite"
        refuses(opened, words, store=replace(store, images=blank), encoder=moody, name="e.onnx")
    assert not files("npy")


def stop_at_second_block(done, _):
    if done:
        raise KeyboardInterrupt


def killed_before_the_end(monkeypatch, store, encoder):
    """A build that dies when all is encoded and nothing in place."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", partial(_die, os.replace))
        with pytest.raises(KeyboardInterrupt):
            opened(store, encoder)


def _die(put, source, target):
    if str(target).endswith(".npy"):
        raise KeyboardInterrupt
    put(source, target)


def test_a_killed_build_goes_on_where_it_was(monkeypatch, store, encoder):
    whole = opened(store, encoder).tobytes()
    (path,) = files("npy")
    path.unlink()
    monkeypatch.setattr(features, "_BLOCK", 16)
    with pytest.raises(KeyboardInterrupt):
        opened(store, encoder, on_progress=stop_at_second_block)
    assert not files("npy")
    encoder.images = 0
    steps = []
    assert opened(store, encoder, on_progress=lambda *step: steps.append(step)).tobytes() == whole
    assert encoder.images == 1 + 2 * (39 - 16)
    assert steps == [(16, 39), (32, 39), (39, 39)]
    path.unlink()
    killed_before_the_end(monkeypatch, store, encoder)
    encoder.images = 0
    assert opened(store, encoder).tobytes() == whole
    assert encoder.images == 1
    assert not files("partial")
    assert not files("json")


@pytest.mark.parametrize("note", ['{"rows_done": 99}', '{"rows_done": -1}', "[16]", "[" * 10**5, "", None])
def test_a_build_whose_note_is_lost_or_wrong_starts_anew(monkeypatch, store, encoder, note):
    whole = opened(store, encoder).tobytes()
    files("npy")[0].unlink()
    killed_before_the_end(monkeypatch, store, encoder)
    (path,) = files("json")
    path.unlink() if note is None else path.write_text(note)
    encoder.images = 0
    assert opened(store, encoder).tobytes() == whole
    assert encoder.images == 1 + 2 * 39


@pytest.mark.parametrize("harm", ["short", "header", "link"])
@pytest.mark.parametrize("kind", ["npy", "partial"])
def test_what_is_not_as_it_was_written_is_not_used(monkeypatch, store, encoder, tmp_path, harm, kind):
    whole = opened(store, encoder).tobytes()
    if kind == "partial":
        files("npy")[0].unlink()
        killed_before_the_end(monkeypatch, store, encoder)
    (path,) = files(kind)
    content = path.read_bytes()
    path.unlink()
    if harm == "link":
        (tmp_path / "theirs").write_bytes(content)
        path.symlink_to(tmp_path / "theirs")
    else:
        path.write_bytes(content[:-2] if harm == "short" else b"\x93" + b"x" * (len(content) - 1))
    encoder.images = 0
    assert opened(store, encoder).tobytes() == whole
    assert encoder.images == 1 + 2 * 39
    assert files("npy")[0].is_file()
    assert not files("npy")[0].is_symlink()
    if harm == "link":
        assert (tmp_path / "theirs").read_bytes() == content


def test_a_folder_in_the_way_is_named(store, encoder):
    opened(store, encoder)
    (path,) = files("npy")
    path.unlink()
    path.mkdir()
    refuses(opened, path.name, "Is a directory", store=store, encoder=encoder)


def test_whatever_changes_the_features_changes_their_place(monkeypatch, store, encoder, tmp_path):
    opened(store, encoder)
    other = FrozenEncoder(OnnxEncoder.from_file(onnx_file(tmp_path / "other.onnx", output="map")))
    opened(store, other)
    opened(store, encoder, views=(PLAIN,))
    opened(store, encoder, images=seen(mean=0.4))
    opened(replace(store, images=255 - store.images), encoder)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    opened(store, encoder)
    assert len(files("npy")) == 6


def test_two_networks_of_the_same_weights_have_their_own_features(store):
    """Padding, say, is in no tensor."""
    names = ("timm:efficientnet_lite0", "timm:tf_efficientnet_lite0")
    first, second = (build_encoder(name, SIZE).eval() for name in names)
    second.load_state_dict(first.state_dict())
    keys = {
        features._key(store, FrozenEncoder(each), seen(), BOTH, CPU, torch.float32)
        for each in (first, second)
    }
    assert len(keys) == 2


@pytest.mark.parametrize("flip", [True, False])
def test_views_of_features(flip):
    """`plain` is what a classifier sees, `averaged` all that is kept, the others one of the views by the seed."""
    stored = np.random.default_rng(0).normal(size=(30, 4, 3)).astype(np.float16)
    images = Augmentation(SIZE, (0.5,) * 3, (0.25,) * 3, flip=flip, device=CPU)
    views = FeatureViews(images, torch.zeros(3), torch.ones(3), (3,))
    slices, drawn = np.array_split(np.arange(30), 3), {}
    for resident in (True, False):
        source = Source(stored, views, CPU, resident=resident)
        batches = list(source.batches(slices, ("plain", "averaged", "weak", "strong"), [1, 2, 1]))
        drawn[resident] = [torch.cat([batch.views[k] for batch in batches]) for k in range(4)]
    assert all(map(torch.equal, drawn[True], drawn[False]))
    assert drawn[True][0].shape == (30, 3, 1, 1)
    plain, averaged, weak, strong = (part[:, :, 0, 0].numpy() for part in drawn[True])
    whole = stored.astype(np.float32)
    np.testing.assert_allclose(plain, whole[:, : 1 + flip].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(averaged, whole.mean(axis=1), rtol=1e-6, atol=1e-7)
    picks = [(part[:, None] == whole).all(axis=2) for part in (weak, strong)]
    for pick in picks:
        assert (pick.sum(axis=1) == 1).all()
        assert pick.any(axis=0).all()
        assert (pick[:10] == pick[20:]).all()  # the same seed
        assert (pick[:10] != pick[10:20]).any()
    assert (picks[0] != picks[1]).any()


def test_views_of_maps():
    """The map of a mirror image is turned back where views are averaged, and stays as it was seen where it is drawn."""
    stored = np.random.default_rng(0).normal(size=(20, 2, 3, 2, 4)).astype(np.float16)
    images = Augmentation(SIZE, (0.5,) * 3, (0.25,) * 3, flip=True, device=CPU)
    views = FeatureViews(images, torch.zeros(3), torch.ones(3), (3, 2, 4))
    source = Source(stored, views, CPU)
    (batch,) = source.batches([np.arange(20)], ("plain", "averaged", "weak"), [1])
    whole = stored.astype(np.float32)
    expected = (whole[:, 0] + whole[:, 1, :, :, ::-1]) / 2
    for view in batch.views[:2]:
        np.testing.assert_allclose(view.numpy(), expected, rtol=1e-6, atol=1e-7)
    picks = (batch.views[2].numpy()[:, None] == whole).all(axis=(2, 3, 4))
    assert (picks.sum(axis=1) == 1).all()
    assert picks.any(axis=0).all()
    np.testing.assert_allclose(
        source.features(np.arange(20)), whole.mean(axis=(1, 3, 4)), rtol=1e-5, atol=1e-6
    )
    assert (source.num_pixels, source.has_large_images) == (1, False)
    assert map_views(flip=True) == (PLAIN, MIRRORED)
    valid = np.arange(20) != BROKEN
    places = np.moveaxis(stored[valid, 0].astype(np.float64), 1, -1).reshape(-1, 3)
    for ours, theirs in zip(
        statistics(stored, valid), (places.mean(axis=0), places.std(axis=0)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_killed_build_of_maps_goes_on_where_it_was(monkeypatch, store):
    torch.manual_seed(0)
    tiny = timm.create_model("test_resnet", num_classes=0)
    encoder = Counting(FrozenEncoder(frozen_maps(tiny, "tiny", SIZE))).eval()
    whole = opened(store, encoder)
    assert whole.shape[3:] == (1, 1)
    content = whole.tobytes()
    (path,) = files("npy")
    path.unlink()
    monkeypatch.setattr(features, "_BLOCK", 16)
    with pytest.raises(KeyboardInterrupt):
        opened(store, encoder, on_progress=stop_at_second_block)
    encoder.images = 0
    assert opened(store, encoder).tobytes() == content
    assert encoder.images == 1 + 2 * (39 - 16)


def test_the_first_views_are_those_that_a_classifier_sees():
    for flip in (False, True):
        for has_margin in (False, True):
            found = encoded_views(flip=flip, has_margin=has_margin)
            assert found[: 1 + flip] == (PLAIN, MIRRORED)[: 1 + flip]
            assert len(set(found)) == 1 + flip + 2 * has_margin
            assert flip or not any(view.mirrored for view in found)


def test_a_view_is_a_square_of_the_image():
    pixels = torch.arange(2 * 3 * 6 * 6).view(2, 3, 6, 6)
    assert torch.equal(seen_part(pixels, 4, PLAIN), pixels[:, :, 1:5, 1:5])
    assert torch.equal(seen_part(pixels, 4, MIRRORED), pixels[:, :, 1:5, 1:5].flip(3))
    assert torch.equal(seen_part(pixels, 4, EncodedView(1, 1, mirrored=False)), pixels[:, :, 2:, 2:])

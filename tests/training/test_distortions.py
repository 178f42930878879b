"""The strong view: every image is distorted in a way of its own, reproducibly and within bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from labelfix.training import augmentation as distortions
from labelfix.training.augmentation import Augmentation, affine_maps, strong_augment
from labelfix.training.policies import POLICIES, by_policy

BORDER = torch.tensor([120, 130, 140], dtype=torch.uint8).view(1, 3, 1, 1)


def images(count: int = 200, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_pixels_stay_in_their_range_and_the_images_untouched():
    before = images()
    kept = before.clone()
    found = strong_augment(before, BORDER, np.random.default_rng(0))
    assert found.shape == before.shape
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 255
    assert torch.equal(before, kept)


def test_the_draw_depends_on_the_generator_alone():
    first, again, other = (
        strong_augment(images(), BORDER, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_equal_images_are_distorted_each_in_its_own_way():
    one = images(1).expand(50, -1, -1, -1)
    found = strong_augment(one, BORDER, np.random.default_rng(0))
    assert len(found.flatten(1).unique(dim=0)) > 45


def test_half_of_the_images_are_moved_each_by_one_map():
    maps = affine_maps(4_000, np.random.default_rng(0))
    identity = np.eye(2, 3, dtype=np.float32)
    moved = np.abs(maps - identity).max(axis=(1, 2)) > 0
    assert moved.mean() == pytest.approx(0.5, abs=0.03)
    rotated = maps[:, 0, 1] == -maps[:, 1, 0]
    turned = moved & rotated & (maps[:, 0, 1] != 0)
    assert turned.sum() / moved.sum() == pytest.approx(0.2, abs=0.03)  # five kinds alike
    np.testing.assert_allclose(np.linalg.det(maps[turned][:, :, :2]), 1, atol=1e-6)
    assert np.abs(np.arcsin(maps[turned][:, 0, 1])).max() <= np.pi / 6
    assert np.abs(maps[:, :, 2]).max() <= 0.9


def test_images_move_as_an_independent_resampling_does():
    pixels = images(20).double()
    maps = affine_maps(20, np.random.default_rng(3))
    found = distortions._moved(pixels, torch.from_numpy(maps).double()).numpy()
    for image, matrix, moved in zip(pixels.numpy(), maps.astype(np.float64), found, strict=True):
        # From coordinates of -1 to 1, x first, to pixels, row first.
        linear = matrix[:, :2][::-1, ::-1]
        offset = 8 * matrix[:, 2][::-1] + 7.5 - linear @ np.array([7.5, 7.5])
        wanted = [
            affine_transform(channel, linear, offset, order=1, mode="grid-constant") for channel in image
        ]
        np.testing.assert_allclose(moved, wanted, atol=1e-6)


def test_a_square_of_half_the_side_is_cut_out():
    hole = torch.from_numpy(distortions._holes(300, 16, np.random.default_rng(0)))
    sizes = hole.sum(dim=(1, 2))
    assert sizes.max() == 64
    assert sizes.min() >= 16  # around a corner a quarter of it is left
    assert hole.float().mean(dim=0).min() > 0


@pytest.mark.parametrize("change", distortions._COLOURS, ids=lambda change: change.__name__.strip("_"))
def test_no_amount_changes_little_and_a_large_one_much(change):
    pixels, one = images(30).float(), torch.ones(30, 1, 1, 1)
    changed = [change(pixels.clone(), amount * one, one).clamp(0, 255) for amount in (0.0, 0.9)]
    small, large = ((each - pixels).abs().mean() for each in changed)
    assert small < 2.5
    assert large > small or change is distortions._stretch  # which knows no amount


def test_known_colours():
    pixels = torch.tensor([10.0, 100.0, 200.0]).view(1, 3, 1, 1)
    one, half = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)
    assert distortions._brightness(pixels, half, -one).flatten().tolist() == [5, 50, 100]
    assert distortions._solarise(pixels, half, one).flatten().tolist() == [10, 100, 55]
    assert distortions._posterise(pixels, one, one).flatten().tolist() == [0, 96, 192]
    grey = 0.299 * 10 + 0.587 * 100 + 0.114 * 200
    assert distortions._saturation(pixels, one, -one).flatten().tolist() == pytest.approx([grey] * 3)


class TestPolicies:
    @pytest.mark.parametrize("name", POLICIES)
    def test_every_image_has_its_own_and_the_draw_depends_on_the_generator_alone(self, name):
        state = torch.get_rng_state()
        one = images(1).expand(40, -1, -1, -1)
        first, again, other = (
            by_policy(one, BORDER, name, np.random.default_rng(seed)) for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert (first.dtype, first.shape) == (torch.uint8, one.shape)
        assert len(first.flatten(1).unique(dim=0)) > 20
        assert torch.equal(torch.get_rng_state(), state)

    def test_it_is_the_published_policy(self):
        found = by_policy(images(3), BORDER, "autoaugment", np.random.default_rng(5))
        rng = np.random.default_rng(5)
        rng.integers(1, 10, size=3)
        policy = AutoAugment(AutoAugmentPolicy.CIFAR10, fill=[120, 130, 140])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(1 << 31)))
            expected = torch.stack([policy(image) for image in images(3)])
        assert torch.equal(found, expected)

    def test_a_view_has_a_hole_besides(self):
        view = Augmentation(16, (0.5,) * 3, (0.25,) * 3, flip=False, device=torch.device("cpu"))
        generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
        white = torch.full((20, 3, 16, 16), 250, dtype=torch.uint8)
        weak, strong = view.views(("weak", "randaugment"), white, generator, rng)
        assert weak.shape == strong.shape
        border = (128 / 255 - 0.5) / 0.25
        hole = (strong - border).abs().amax(dim=1) < 1e-3
        assert hole.flatten(1).sum(dim=1).min() >= 16

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelfix.training.augmentation import Augmentation, crop, mirror

CPU = torch.device("cpu")


def augmentation(size: int, *, flip: bool = False) -> Augmentation:
    return Augmentation(size, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0), flip=flip, device=CPU)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weak_view(made, pixels, generator):
    return made.views(("weak",), pixels, generator, np.random.default_rng(0))[0]


def test_plain_normalises_each_channel():
    pixels = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    view = augmentation(8).plain(pixels)
    assert view.dtype == torch.float32
    torch.testing.assert_close(view[0, :, 0, 0], torch.tensor([1.0, 3.0, 1.0]))


def test_plain_cuts_the_centre_of_a_larger_store():
    pixels = torch.zeros((1, 3, 110, 110), dtype=torch.uint8)
    pixels[:, :, 7:103, 7:103] = 255
    view = augmentation(96).plain(pixels)
    assert view.shape == (1, 3, 96, 96)
    assert (view[:, 0] == 1).all()


def test_views_are_channels_last():
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    for view in (augmentation(32).plain(pixels), weak_view(augmentation(32, flip=True), pixels, seeded())):
        assert view.is_contiguous(memory_format=torch.channels_last)


def test_crop_takes_a_real_square_of_each_image():
    images = torch.arange(5 * 2 * 9 * 9, dtype=torch.float32).reshape(5, 2, 9, 9)
    squares = crop(images, 6, seeded(1))
    places = set()
    for image, square in zip(images, squares, strict=True):
        top, left = divmod(int(square[0, 0, 0] - image[0, 0, 0]), 9)
        torch.testing.assert_close(square, image[:, top : top + 6, left : left + 6])
        places.add((top, left))
    assert len(places) > 1, "all images were cropped alike"


def test_small_images_are_padded_by_an_eighth():
    """A white image shows mean-coloured borders of at most 4 of 32 pixels, and crops differ."""
    pixels = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
    view = weak_view(augmentation(32), pixels, seeded())
    assert (view[:, 0, 4:28, 4:28] == 1).all()
    borders = (view[:, 0].abs() < 0.01).flatten(1).sum(dim=1)
    assert borders.max() > 0
    assert len(borders.unique()) > 5


def test_small_images_are_padded_by_the_share_that_is_asked_for():
    """2 of 32 pixels, as meta's paper has it: borders of at most two columns, in some crops of both widths."""
    pixels = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
    made = Augmentation(32, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0), flip=False, padding=1 / 16, device=CPU)
    view = weak_view(made, pixels, seeded())
    assert (view[:, 0, 2:30, 2:30] == 1).all()
    left = (view[:, 0, 16].abs() < 0.01)[:, :4].sum(dim=1)
    assert sorted(left.unique().tolist()) == [0, 1, 2]
    none = Augmentation(32, (0.5,) * 3, (0.5,) * 3, flip=False, padding=0, device=CPU)
    torch.testing.assert_close(weak_view(none, pixels, seeded()), none.plain(pixels))


def test_large_images_are_cropped_without_padding():
    pixels = torch.full((8, 3, 110, 110), 255, dtype=torch.uint8)
    assert (weak_view(augmentation(96), pixels, seeded())[:, 0] == 1).all()


def test_mirror_flips_about_half_and_only_left_to_right():
    images = torch.rand(200, 1, 3, 4)
    flipped = mirror(images, seeded())
    same = (flipped == images).flatten(1).all(dim=1)
    turned = (flipped == images.flip(3)).flatten(1).all(dim=1)
    assert (same | turned).all()
    assert 70 < int(turned.sum()) < 130


@pytest.mark.parametrize("flip", [False, True])
def test_the_weak_view_depends_on_the_seed_alone(flip):
    pixels = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8)
    make = augmentation(16, flip=flip)
    assert torch.equal(weak_view(make, pixels, seeded(3)), weak_view(make, pixels, seeded(3)))
    assert not torch.equal(weak_view(make, pixels, seeded(3)), weak_view(make, pixels, seeded(4)))


def test_views_come_in_the_order_of_their_names():
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    make = augmentation(16)
    plain, weak, strong = make.views(("plain", "weak", "strong"), pixels, seeded(), np.random.default_rng(0))
    assert torch.equal(plain, make.plain(pixels))
    assert torch.equal(weak, weak_view(make, pixels, seeded()))
    assert strong.shape == weak.shape
    assert strong.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(strong, weak)


def test_every_strong_view_is_of_the_weak_one_before_it():
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8)
    make = augmentation(16)
    weak, first, second = make.views(("weak", "strong", "strong"), pixels, seeded(), np.random.default_rng(0))
    # Where an image drew neither operation, only the cut-out square differs: a quarter of it at most.
    for strong in (first, second):
        same = ((strong - weak).abs() < 0.01).all(dim=1).float().mean(dim=(1, 2))
        assert 0.1 < (same >= 0.75).float().mean() < 0.45
    assert not torch.equal(first, second)


def test_a_cut_out_view_is_the_weak_one_but_for_a_hole_of_half_its_side():
    pixels = torch.randint(1, 256, (40, 3, 32, 32), dtype=torch.uint8)
    weak, cut = augmentation(32, flip=True).views(
        ("weak", "cutout"), pixels, seeded(), np.random.default_rng(0)
    )
    same = (weak == cut).all(dim=1)
    holes = (~same).flatten(1).sum(dim=1)
    assert holes.max() <= 256  # less where the place is near an edge
    assert holes.float().mean() > 100
    middle = cut[:, 0][~same]
    assert (middle == middle[0]).all()  # the mean colour
    assert middle[0].abs() < 0.01
    tops = [torch.nonzero(~image).amin(dim=0).tolist() for image in same]
    assert len({tuple(top) for top in tops}) > 20

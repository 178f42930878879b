from __future__ import annotations

import sys
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies

from labelfix.methods.batch import Labels
from labelfix.training import batches
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source, even_slices, seed_of
from labelfix.training.predictions import batch_logits

CPU = torch.device("cpu")


def pixels(rows: int, size: int = 8) -> np.ndarray:
    """Images that tell their row."""
    return np.zeros((rows, 3, size, size), np.uint8) + np.arange(rows, dtype=np.uint8)[:, None, None, None]


def source(rows: int = 20, *, resident: bool = True) -> Source:
    augmentation = Augmentation(8, (0, 0, 0), (1 / 255,) * 3, flip=False, device=CPU)
    return Source(pixels(rows), augmentation, CPU, resident=resident)


@given(strategies.integers(2, 500), strategies.integers(2, 200))
def test_an_epoch_is_equal_slices_without_remainder(rows, batch_size):
    slices = even_slices(np.arange(rows), batch_size)
    sizes = [len(part) for part in slices]
    assert np.concatenate(slices).tolist() == list(range(rows))
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    assert len(slices) == max(1, min(-(-rows // batch_size), rows // 2))


@pytest.mark.parametrize("resident", [True, False])
def test_a_batch_carries_its_rows(resident):
    slices = [np.array([3, 1]), np.array([7, 19, 2])]
    made = list(source(resident=resident).batches(slices, ("plain",), [1, 2]))
    assert [batch.rows.tolist() for batch in made] == [[3, 1], [7, 19, 2]]
    for batch in made:
        assert torch.equal(batch.views[0][:, 0, 0, 0].round().long(), batch.rows)


def test_streaming_gives_the_same_batches_as_residence():
    slices = even_slices(np.random.default_rng(0).permutation(20), 6)
    seeds = [seed_of(0, k) for k in range(len(slices))]
    resident = source().batches(slices, ("weak", "plain"), seeds)
    streamed = source(resident=False).batches(slices, ("weak", "plain"), seeds)
    for a, b in zip(resident, streamed, strict=True):
        assert torch.equal(a.views[0], b.views[0])
        assert torch.equal(a.views[1], b.views[1])
        assert a.rng.random() == b.rng.random()


def test_the_draws_of_a_step_depend_on_its_seed_alone():
    slices = [np.arange(10), np.arange(10)]
    first, second = source().batches(slices, ("weak",), [5, 5])
    assert torch.equal(first.views[0], second.views[0])
    (other,) = source().batches(slices[:1], ("weak",), [6])
    assert not torch.equal(first.views[0], other.views[0])


def test_seeds_differ_by_every_part():
    seeds = {
        seed_of(seed, kind, epoch, step)
        for seed in (0, 1)
        for kind in (1, 2)
        for epoch in (0, 1)
        for step in (0, 1)
    }
    assert len(seeds) == 16
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_class_prior_is_smoothed_and_ignores_rows_without_label():
    labels = Labels.of(np.array([0, 0, 1, -1]), 3, CPU)
    torch.testing.assert_close(labels.class_prior, torch.tensor([3.0, 2.0, 1.0]) / 6)
    assert labels.num_classes == 3


@pytest.mark.parametrize(("side", "sizes"), [(64, [40]), (96, [16, 16, 8])])
def test_large_images_are_predicted_a_few_at_a_time(side, sizes):
    augmentation = Augmentation(side, (0, 0, 0), (1 / 255,) * 3, flip=False, device=CPU)
    images = Source(pixels(40, side), augmentation, CPU)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    found = list(batch_logits(network, images, np.arange(40)))
    assert [len(rows) for rows, _ in found] == sizes
    assert torch.cat([logits[:, 0] for _, logits in found]).tolist() == pytest.approx(list(range(40)))


def test_images_that_are_measured_on_count_with_those_that_are_trained_on(monkeypatch):
    """A GPU with room for either alone in half of its memory, and not for both."""
    augmentation = Augmentation(8, (0, 0, 0), (1 / 255,) * 3, flip=False, device=CPU)
    size = pixels(20).nbytes
    monkeypatch.setattr(batches, "_free_on", lambda _device: free)
    free = 3 * size
    first = Source(pixels(20), augmentation, CPU)
    free -= size
    assert first.resident
    assert not Source(pixels(20), augmentation, CPU, beside=first).resident
    assert not Source(pixels(20), augmentation, CPU).resident
    free = 10 * size
    assert Source(pixels(20), augmentation, CPU, beside=first).resident
    monkeypatch.setattr(batches, "free_memory", lambda: 0)
    assert not Source(pixels(20), augmentation, CPU).resident


@pytest.fixture
def mapped(tmp_path):
    """4,000 images of 64 px in a file, 49 MB; the columns of each are 0, 1, 2, ..."""
    stored = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (4_000, 3, 64, 64))
    stored[:] = np.arange(64, dtype=np.uint8)
    stored.flush()
    del stored
    return np.load(tmp_path / "images.npy", mmap_mode="r")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_images_come_to_the_device_slice_by_slice(mapped):
    """What they take of the main memory beside their copy is a slice, not the mapped file again."""
    augmentation = Augmentation(64, (0, 0, 0), (1 / 255,) * 3, flip=False, device=CPU)
    before = _mapped_kib()
    made = Source(mapped, augmentation, CPU, resident=True)
    assert _mapped_kib() - before < mapped.nbytes / 1024 / 4
    (batch,) = made.batches([np.array([3999])], ("plain",), [0])
    assert batch.views[0][0, 0, 0].round().tolist() == list(range(64))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_streamed_images_do_not_stay_in_the_memory_of_the_process(mapped):
    augmentation = Augmentation(64, (0, 0, 0), (1 / 255,) * 3, flip=False, device=CPU)
    made = Source(mapped, augmentation, CPU, resident=False)
    slices = even_slices(np.random.default_rng(0).permutation(4_000), 128)
    before = _mapped_kib()
    for batch in made.batches(slices, ("plain",), range(len(slices))):
        assert batch.views[0][-1, 0, 0].round().tolist() == list(range(64))
    assert _mapped_kib() - before < mapped.nbytes / 1024 / 4


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_images_are_streamed_twice_at_once(mapped):
    """As `meta` does: a stream of verified rows, which is done before or after the others."""
    augmentation = Augmentation(64, (0, 0, 0), (1 / 255,) * 3, flip=False, device=CPU)
    made = Source(mapped, augmentation, CPU, resident=False)
    for lengths in ((2, 9), (9, 2)):
        one, other = (
            made.batches(even_slices(np.arange(8 * length), 8), ("plain",), range(length))
            for length in lengths
        )
        for both in zip_longest(one, other):
            for batch in filter(None, both):
                assert batch.views[0][-1, 0, 0].round().tolist() == list(range(64))
        del one, other


def _mapped_kib() -> int:
    """Of mapped files, how much lies in main memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("RssFile:")[2].split()[0])

"""Copies: the same picture in several files, under one label or two, on one side of a split or both."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from pictures import picture_of, saved
from PIL import Image

import labelfix
from labelfix.data.copies import exact_copies, merged
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.estimation import neighbours as neighbours_module
from labelfix.estimation.copies import judged_together
from labelfix.estimation.evidence import Evidence, Rule
from labelfix.estimation.neighbours import neighbours
from labelfix.estimation.surroundings import FALSE_PAIRS, NEIGHBOURS, look_around
from labelfix.estimation.verdicts import decide
from labelfix.training.folds import assign_folds

NOISE = np.random.default_rng(0).integers(0, 256, (40, 3, 20, 20), dtype=np.uint8)


def written(folder, names):
    """Images by name: each is a picture's number, or bytes; a manifest of them, labels by folder."""
    for name, what in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(what if isinstance(what, bytes) else saved(picture_of(NOISE[what]), "PNG"))
    return Manifest.read(folder)


def test_copies_are_the_same_picture_however_it_is_written(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    upright = NOISE[1].transpose(0, 2, 1)[:, ::-1]  # so that turning it gives picture 1
    larger = picture_of(NOISE[2]).resize((40, 40), Image.Resampling.NEAREST)
    manifest = written(
        tmp_path,
        {
            "a/0.png": 0, "a/1.png": 1, "a/2.png": 2, "a/3.png": 3, "a/broken.png": b"x",
            "b/0.bmp": saved(picture_of(NOISE[0]), "BMP"), "b/0.png": 0,
            "b/1.tif": saved(picture_of(upright), "TIFF", exif=turned),
            "b/2-larger.png": saved(larger, "PNG"), "b/broken.png": b"y",
        },
    )  # fmt: skip
    store = ImageStore.open_or_build(manifest, 20)
    group = exact_copies(store)
    names = manifest.file_names().to_pylist()
    shown = {
        tuple(names[row] for row in np.flatnonzero(group == first)) for first in np.unique(group[group >= 0])
    }
    assert shown == {("a/0.png", "b/0.bmp", "b/0.png"), ("a/1.png", "b/1.tif")}
    assert store.facts["width"][names.index("b/2-larger.png")] == 40
    again = ImageStore.open_or_build(manifest, 20)
    np.testing.assert_array_equal(exact_copies(again), group)


def test_copies_are_held_out_with_the_groups_of_all_of_them():
    groups = np.array([0, 0, 1, 2, 3, 3, 4, 5])
    copies = np.array([-1, 1, 1, -1, -1, 5, -1, 5])
    found = merged(groups, copies)
    np.testing.assert_array_equal(found, [0, 0, 0, 3, 4, 4, 6, 4])
    assert merged(groups, np.full(8, -1)) is groups
    np.testing.assert_array_equal(merged(None, copies), [0, 1, 1, 3, 4, 5, 6, 5])
    folds = assign_folds(np.zeros(8, np.int64), found, 3, 0)
    assert len(set(folds[:3])) == len(set(folds[[4, 5, 7]])) == 1


def random_evidence(seed, rows=200, classes=4):
    """A network that has learned each row's own label by heart, surer of some than of others."""
    rng = np.random.default_rng(seed)
    given = rng.integers(0, classes, rows)
    probs = rng.dirichlet(np.full(classes, 0.3), rows).astype(np.float32)
    noise = 1 - probs[np.arange(rows), given].astype(np.float64)
    return Evidence(noise, probs, rule=Rule(0.3, 1.0, needs_other=False, spares_classes=True)), given


@pytest.mark.parametrize("seed", range(5))
def test_copies_under_two_labels_never_swap_them(seed):
    evidence, given = random_evidence(seed)
    copies = np.repeat(np.arange(0, 200, 2), 2)
    nobody = np.full(200, -1)
    found = judged_together(evidence, given, copies, nobody)
    np.testing.assert_allclose(found.probs[::2], found.probs[1::2])
    corrected = decide(found, given, np.ones(200, bool), given).corrected
    first, second = corrected[::2], corrected[1::2]
    was_first, was_second = given[::2], given[1::2]
    two = was_first != was_second
    assert two.sum() > 50
    assert not ((first == was_second) & (second == was_first) & two).any()
    alone = decide(evidence, given, np.ones(200, bool), given).corrected
    swapped = (alone[::2] == was_second) & (alone[1::2] == was_first) & two
    assert swapped.any()  # that is what would happen
    np.testing.assert_array_equal(found.noise >= 0.5, 1 - found.probs[np.arange(200), given] >= 0.5)


def test_a_verified_copy_speaks_for_the_others():
    evidence, given = random_evidence(0)
    copies, known = np.full(200, -1), np.full(200, -1)
    copies[:3], copies[3:5] = 0, 3
    known[0], known[3], known[4] = (given[1] + 1) % 4, 0, 1  # the second pair was verified as two things
    found = judged_together(evidence, given, copies, known)
    assert found.noise[1] == 1
    assert found.probs[1].argmax() == known[0]
    assert 0 < found.noise[3] < 1
    np.testing.assert_array_equal(found.noise[5:], evidence.noise[5:])


def test_a_scan_names_contradicting_copies_and_leaks(tmp_path):
    rows = []
    for row in range(40):
        path = tmp_path / "images" / f"{row:02d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(saved(picture_of(NOISE[row] // 2 + 120 * (row % 2)), "PNG"))
        rows.append((f"images/{path.name}", "ab"[row % 2], "test" if row > 35 else "train"))
    for row, label, split in ((0, "b", "train"), (1, "b", "train"), (2, "a", "test")):
        shutil.copy(tmp_path / rows[row][0], tmp_path / "images" / f"copy-{row}.png")
        rows.append((f"images/copy-{row}.png", label, split))
    pd.DataFrame(rows, columns=["file_name", "label", "split"]).to_csv(tmp_path / "list.csv", index=False)
    listed = pd.DataFrame(rows, columns=["file_name", "label", "split"])
    listed[listed["split"] == "test"].drop(columns="split").to_csv(tmp_path / "test.csv", index=False)
    options = {"method": "cross-entropy", "folds": 3, "epochs": 2, "image_size": 8}
    run = labelfix.scan(tmp_path / "list.csv", test=tmp_path / "test.csv", out=tmp_path / "run", **options)
    df = labelfix.read_corrections(run.out)
    group = df.duplicate_group
    assert group.dropna().astype(int).to_dict() == {0: 0, 1: 1, 2: 2, 40: 0, 41: 1, 42: 2}
    copies = run.summary["copies"]
    assert copies["in_test"] == 6  # the five of the test split, and row 2
    assert (copies["rows"], copies["groups"], copies["largest_group"]) == (6, 3, 2)
    assert (copies["contradicting_groups"], copies["contradicting_rows"]) == (1, 2)
    assert (copies["leaking_groups"], copies["leaking_rows"]) == (1, 2)
    assert copies["contradicting_examples"] == [
        {
            "sample_ids": [0, 40],
            "file_names": ["images/00.png", "images/copy-0.png"],
            "given_labels": ["a", "b"],
        }
    ]
    np.testing.assert_allclose(df.label_distribution[0], df.label_distribution[40], atol=1e-6)
    assert not (df.corrected_label[0] == "b" and df.corrected_label[40] == "a")


def planted(rows, dimensions, copies, seed=0):
    """Features of rows that are thrown at random, and near copies of the first of them at the end."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(rows, dimensions))
    return np.r_[found, found[:copies] + 0.02 * rng.normal(size=(copies, dimensions))].astype(np.float32)


@pytest.mark.parametrize("dimensions", [8, 30, 200])
def test_near_copies_are_found_with_the_false_rate_that_was_asked_for(dimensions):
    rows, copies = 3_000, 60
    features = planted(rows, dimensions, copies)
    found = look_around(*neighbours(features.__getitem__, len(features), NEIGHBOURS))
    np.testing.assert_array_equal(found.copies[rows:], np.arange(copies))
    false_pairs = (found.copies[copies:rows] >= 0).sum() / 2
    assert false_pairs <= 3 * FALSE_PAIRS * rows
    assert (found.outlier_score < 0.9).all()


@pytest.mark.parametrize("size", [NEIGHBOURS, NEIGHBOURS + 1, 12, 40, 300])
def test_a_pile_larger_than_the_neighbours_that_are_known_of_a_row_is_one_group(size):
    rng = np.random.default_rng(1)
    features = planted(1_500, 12, 0)
    pile = features[[7] * (size - 1)] + 0.02 * rng.normal(size=(size - 1, 12)).astype(np.float32)
    found = look_around(*neighbours(np.r_[features, pile].__getitem__, 1_500 + size - 1, NEIGHBOURS))
    assert (found.copies[[7, *range(1_500, 1_500 + size - 1)]] == 7).all()
    assert ((found.copies >= 0).sum() - size) / 2 <= 3 * FALSE_PAIRS * 1_500


def test_a_dense_place_is_no_pile():
    """Its rows lie as near to each other as copies do elsewhere, and thin out towards its border."""
    rng = np.random.default_rng(0)
    place = rng.normal(size=12) + 0.7 * rng.normal(size=(400, 12)) * rng.random((400, 1)) ** 2
    features = np.r_[rng.normal(size=(2_000, 12)), place].astype(np.float32)
    rows, distances = neighbours(features.__getitem__, len(features), NEIGHBOURS)
    found = look_around(rows, distances)
    crowded = distances[:, -1] <= found.copy_share * np.median(distances[:, -1])
    assert crowded.sum() > 50
    assert (found.copies >= 0).sum() < 40


def test_neighbours_in_cells_are_those_of_all_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    rows = 12 * np.eye(120)[rng.integers(0, 40, 2_000)] + rng.normal(size=(2_000, 120))
    features = np.r_[rows, rows[:50] + 0.1 * rng.normal(size=(50, 120))].astype(np.float32)
    exact, distances = neighbours(features.__getitem__, len(features), 5)
    centred = features - features.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    measured = np.linalg.norm(centred - centred[exact[:, 0]], axis=1)
    np.testing.assert_allclose(distances[:, 0], measured, atol=1e-4)
    assert (exact[2_000:, 0] == np.arange(50)).all()
    monkeypatch.setattr("labelfix.estimation.neighbours._ALL_PAIRS_UP_TO", 100)
    monkeypatch.setattr("labelfix.estimation.neighbours._ROWS_OF_A_CELL", 60)
    in_cells, _ = neighbours(features.__getitem__, len(features), 5)
    assert (in_cells[:, 0] == exact[:, 0]).mean() > 0.95
    assert (in_cells[2_000:, 0] == np.arange(50)).all()


def test_a_cell_that_a_pile_swells_takes_no_more_memory_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3_000, 30)).astype(np.float32)
    rows[1_000:] = rows[7] + 0.01 * rng.normal(size=(2_000, 30))
    monkeypatch.setattr("labelfix.estimation.neighbours._ALL_PAIRS_UP_TO", 100)
    expected, _ = neighbours(rows.__getitem__, len(rows), 5)
    monkeypatch.setattr("labelfix.estimation.neighbours._PAIRS_AT_ONCE", 50_000)
    seen, best = [], neighbours_module._best
    monkeypatch.setattr(
        neighbours_module,
        "_best",
        lambda short, own, part, others, k: (
            seen.append((part.stop - part.start) * len(others)) or best(short, own, part, others, k)
        ),
    )
    found, _ = neighbours(rows.__getitem__, len(rows), 5)
    assert max(seen) <= 50_000
    assert (found == expected).mean() > 0.999  # ties of rounding


def test_rows_that_belong_to_none_stand_out():
    rng = np.random.default_rng(0)
    of_classes = 10 * np.eye(20)[rng.integers(0, 4, 1_000)] + rng.normal(size=(1_000, 20))
    features = np.r_[of_classes, 12 * rng.normal(size=(8, 20))].astype(np.float32)
    found = look_around(*neighbours(features.__getitem__, len(features), NEIGHBOURS)).outlier_score
    assert (found[1_000:] > 0.9).all()
    assert (found[:1_000] > 0.9).mean() < 0.01


def test_few_rows_say_nothing_of_what_is_usual():
    features = planted(40, 5, 2)
    found = look_around(*neighbours(features.__getitem__, len(features), NEIGHBOURS))
    assert found.outlier_score is None
    assert (found.copies < 0).all()


def test_a_scan_of_features_holds_near_copies_together(tmp_path):
    features = planted(200, 12, 20)
    labels = ["ab"[int(value > 0)] for value in features[:, 0]]
    labels[200:] = ["b" if label == "a" else "a" for label in labels[:20]]
    table = pd.DataFrame({"label": labels, "name": range(220)})
    run = labelfix.scan(
        table, features=features, no_images=True, method="cross-entropy", epochs=2, out=tmp_path / "run"
    )
    df = labelfix.read_corrections(run.out)
    assert df.duplicate_group[200:].tolist() == list(range(20))
    assert run.summary["copies"]["contradicting_groups"] >= 20
    assert df.outlier_score.between(0, 1).all()
    first, second = df.corrected_label[:20].astype(str), df.corrected_label[200:].astype(str)
    assert not [pair for pair in zip(first, second, labels, strict=False) if pair[0] != pair[2] == pair[1]]

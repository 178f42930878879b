"""Open-set noise: whole images of another source under kept labels, whatever holds the images of either."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from click.testing import CliRunner
from conftest import write_digits
from pictures import picture as png
from scipy import stats
from sources import PICTURE

import labelfix
import labelfix.noise.writing as writing
from labelfix.cli import cli
from labelfix.data.images.decoding import encode
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.noise.corruption import corrupt

OURS, THEIRS = 40, 60
CLASSES = ["cat", "dog", "eel", "fox"]
BROKEN, MISSING, UNLABELLED = 3, 17, 22


def ours(row):
    return b"no picture" if row == BROKEN else png(row)


def theirs(row):
    return b"" if row == 5 else png(100 + row)


def write_parquet(path, images, **columns):
    pq.write_table(pa.table({"image": pa.array(images, PICTURE), **columns}), path, row_group_size=11)
    return path


def write_ours(folder, holds_bytes):
    """40 rows of four classes: one image is none, one is missing, one row has no label; a column passes through."""
    labels = [None if row == UNLABELLED else CLASSES[row % 4] for row in range(OURS)]
    names = [None if row == MISSING else f"ours/{row}.png" for row in range(OURS)]
    if holds_bytes:
        images = [{"bytes": ours(row), "path": names[row]} if names[row] else None for row in range(OURS)]
        return write_parquet(folder / "ours.parquet", images, label=labels, place=range(OURS))
    (folder / "ours").mkdir()
    for row in range(OURS):
        (folder / f"ours/{row}.png").write_bytes(ours(row))
    (folder / f"ours/{MISSING}.png").unlink()
    names[MISSING] = f"ours/{MISSING}.png"
    pd.DataFrame({"file_name": names, "label": labels, "place": range(OURS)}).to_csv(
        folder / "ours.csv", index=False
    )
    return folder / "ours.csv"


def write_theirs(folder, holds_bytes):
    """60 images without labels, one of them empty: in a folder without classes, or inside a file."""
    if holds_bytes:
        images = [{"bytes": theirs(row), "path": f"{row:02d}.png"} for row in range(THEIRS)]
        return write_parquet(folder / "theirs.parquet", images)
    (folder / "theirs").mkdir()
    for row in range(THEIRS):
        (folder / f"theirs/{row:02d}.png").write_bytes(theirs(row))
    return folder / "theirs"


def contents(path):
    """The image bytes of every row of a source, None where there is none."""
    manifest = Manifest.read(path)
    found = manifest.images(0, manifest.num_rows)
    return [
        image if not hasattr(image, "read_bytes") else image.read_bytes() if image.exists() else None
        for image in found
    ]


@pytest.mark.parametrize("ours_hold_bytes", [False, True], ids=["paths", "bytes"])
@pytest.mark.parametrize("theirs_hold_bytes", [False, True], ids=["paths", "bytes"])
class TestLayouts:
    @pytest.fixture
    def made(self, tmp_path, ours_hold_bytes, theirs_hold_bytes, monkeypatch):
        # A few images a piece, so that pieces do not start where batches of the source do.
        monkeypatch.setattr(writing, "_PIECE_BYTES", 300)
        source = write_ours(tmp_path, ours_hold_bytes)
        other = write_theirs(tmp_path, theirs_hold_bytes)
        (tmp_path / "out").mkdir()
        out = tmp_path / "out" / "noisy.parquet"
        return out, corrupt(source, noise="open-set:0.5", open_set=other, out=out)

    def test_images_come_in_and_labels_stay(self, made):
        out, result = made
        table = pq.read_table(out).to_pydict()
        hit = np.flatnonzero(table["is_corrupted"])
        # Half of the 37 rows that have a label and a readable image.
        assert len(hit) == result["corrupted"] == round(0.5 * 37)
        assert not {BROKEN, MISSING, UNLABELLED} & set(hit)
        assert table["label"] == [None if row == UNLABELLED else CLASSES[row % 4] for row in range(OURS)]
        assert table["true_label"] == [
            None if row in hit else label for row, label in enumerate(table["label"])
        ]
        assert [int(place) for place in table["place"]] == list(range(OURS))
        found = contents(out)
        for row in set(range(OURS)) - set(hit) - {MISSING}:
            assert found[row] == ours(row)
        assert found[MISSING] is None
        incoming = [found[row] for row in hit]
        assert len(set(incoming)) == len(hit)
        assert set(incoming) <= {theirs(row) for row in range(THEIRS)} - {b""}

    def test_the_file_holds_bytes_if_a_source_does(self, made, ours_hold_bytes, theirs_hold_bytes):
        first = "image" if ours_hold_bytes or theirs_hold_bytes else "file_name"
        columns = [first, "label", "true_label", "is_corrupted", "place"]
        assert pq.read_schema(made[0]).names == columns
        names = Manifest.read(made[0]).file_names().to_pylist()
        marks = pq.read_table(made[0])["is_corrupted"].to_pylist()
        for name, mark, own in zip(names, marks, range(OURS), strict=True):
            if own != MISSING:
                assert name.endswith(f"ours/{own}.png") != mark

    def test_a_scan_still_tells_what_cannot_be_read(self, made):
        store = ImageStore.open_or_build(Manifest.read(made[0]), 8)
        assert sorted(store.errors) == [BROKEN, MISSING]

    def test_what_is_reported(self, made):
        result = made[1]
        assert (result["kind"], result["rate"], result["network"]) == ("open-set", 0.5, None)
        assert result["open_set"].rpartition("/")[2].startswith("theirs")
        assert (result["rows"], result["labelled"]) == (OURS, OURS - 1)
        assert result["realised_rate"] == result["corrupted"] / (OURS - 1)
        assert result["transition_matrix"] == np.eye(4).tolist()
        json.dumps(result, allow_nan=False)


@pytest.fixture
def both(tmp_path):
    return write_ours(tmp_path, False), write_theirs(tmp_path, False)


def test_no_torch(both, tmp_path):
    source, other, out = (str(path) for path in (*both, tmp_path / "noisy.parquet"))
    call = f"corrupt({source!r}, noise='open-set:0.5', open_set={other!r}, out={out!r})"
    code = (
        f"import sys; from labelfix.noise.corruption import corrupt; {call}; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestDraw:
    def test_the_seed_decides(self, both, tmp_path):
        source, other = both
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            corrupt(source, noise="open-set:0.3", open_set=other, out=tmp_path / f"{name}.parquet", seed=seed)
        first, second, third = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
        assert first == second != third

    def test_which_image_goes_where_has_no_order(self, tmp_path):
        """Both sources are sorted by class: a class must not get the images of one class."""
        images = (np.arange(800) // 4 % 256).astype(np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
        source = (images, np.repeat(["a", "b"], 400))
        other = [{"bytes": encode(image), "path": f"{row:03d}.png"} for row, image in enumerate(images)]
        write_parquet(tmp_path / "other.parquet", other)
        out = tmp_path / "noisy.parquet"
        corrupt(source, noise="open-set:1", open_set=tmp_path / "other.parquet", out=out)
        order = [int(image["path"][:3]) for image in pq.read_table(out)["image"].to_pylist()]
        assert sorted(order) == list(range(800))
        assert stats.spearmanr(order, range(800)).pvalue > 1e-3

    def test_no_row_at_rate_0(self, both, tmp_path):
        result = corrupt(both[0], noise="open-set:0", open_set=both[1], out=tmp_path / "noisy.parquet")
        assert result["corrupted"] == 0
        assert contents(tmp_path / "noisy.parquet") == contents(both[0])

    def test_a_file_that_is_named_twice_comes_in_once(self, both, tmp_path):
        names = [f"theirs/{row:02d}.png" for row in range(10, 30)] * 2
        pd.DataFrame({"picture": names}).to_csv(tmp_path / "twice.csv", index=False)
        pd.read_csv(both[0]).rename(columns={"file_name": "picture"}).to_csv(both[0], index=False)
        out = tmp_path / "n.parquet"
        options = {"open_set": tmp_path / "twice.csv", "image_column": "picture", "out": out}
        corrupt(both[0], noise="open-set:0.54", **options)  # 20 rows
        table = pq.read_table(out).to_pandas()
        assert sorted(table["file_name"][table["is_corrupted"]]) == sorted(set(names))


refuses = partial(refusals.refuses, corrupt)


class TestRefused:
    def test_too_few_images(self, tmp_path):
        source, few, out = write_ours(tmp_path, False), tmp_path / "few", tmp_path / "noisy.parquet"
        few.mkdir()
        for row in range(10):
            (few / f"{row}.png").write_bytes(png(row) if row else b"")
        parts = [
            "few has 9 different readable images",
            "open-set:0.5 replaces 18 of",
            "larger source",
            "rate",
        ]
        refuses(*parts, source=source, noise="open-set:0.5", open_set=few, out=out)
        assert not out.exists()

    def test_noise_and_option_go_together(self, tmp_path):
        missing = tmp_path / "missing"
        refuses("--noise open-set:0.5", "--open-set SOURCE", source=missing, noise="open-set:0.5")
        refuses("--open-set", "pair:0.5", "leave it out", source=missing, noise="pair:0.5", open_set=missing)

    def test_the_source_itself_an_out_inside_the_second_one_and_a_negative_seed(self, both, tmp_path):
        source, other = both
        asked = {"source": source, "noise": "open-set:0.5"}
        out = tmp_path / "noisy.parquet"
        refuses("--open-set", "is SOURCE itself", **asked, open_set=source, out=out)
        refuses("lies in --open-set", "theirs", **asked, open_set=other, out=other / "noisy.parquet")
        refuses("--seed -1", **asked, open_set=other, out=out, seed=-1)

    def test_an_image_of_both(self, both, tmp_path):
        names = [f"theirs/{row:02d}.png" for row in range(10, 30)]
        pd.DataFrame({"file_name": [*names, "ours/9.png"]}).to_csv(tmp_path / "more.csv", index=False)
        options = {"open_set": tmp_path / "more.csv", "out": tmp_path / "noisy.parquet"}
        refuses("--open-set", "ours/9.png", "too", source=both[0], noise="open-set:0.57", **options)
        assert not (tmp_path / "noisy.parquet").exists()

    @pytest.mark.parametrize("theirs_hold_bytes", [False, True], ids=["paths", "bytes"])
    def test_a_column_named_as_that_of_the_images_that_come_in(self, tmp_path, theirs_hold_bytes):
        source, out = write_ours(tmp_path, False), tmp_path / "noisy.parquet"
        pd.read_csv(source).rename(columns={"place": "image"}).to_csv(source, index=False)
        options = {"noise": "open-set:0.5", "open_set": write_theirs(tmp_path, theirs_hold_bytes), "out": out}
        if theirs_hold_bytes:
            refuses("ours.csv", "'image' would pass through", "rename", source=source, **options)
            assert not out.exists()
        else:
            corrupt(source, **options)
            assert Manifest.read(out).pass_through == ("true_label", "is_corrupted", "image")


def test_from_the_command_line_to_evaluate_and_bench(tmp_path):
    """Digits, some of whose images are stripes: wrong labels without a right one, in evaluate and in bench alike."""
    write_digits(tmp_path / "images", 120)
    (tmp_path / "stripes").mkdir()
    for row in range(80):
        stripes = np.random.default_rng(row).integers(0, 256, (8, 1)) * np.ones((1, 8), np.int64)
        (tmp_path / "stripes" / f"{row}.png").write_bytes(encode(stripes.astype(np.uint8)))
    noisy = tmp_path / "noisy.parquet"
    sources = [str(tmp_path / "images"), "--open-set", str(tmp_path / "stripes")]
    done = CliRunner().invoke(cli, ["corrupt", *sources, "--noise", "open-set:0.3", "--out", str(noisy)])
    assert done.exit_code == 0, done.output
    assert "36 of 120 labels wrong (30.0%)" in done.stdout

    with pytest.raises(InputError) as caught:
        labelfix.bench(tmp_path / "images", methods="bmm", noise="open-set:0.3", out=tmp_path / "bench")
    way_out = str(caught.value).rpartition("labelfix bench noisy.parquet ")[2]
    assert way_out == "--noise given --truth-column true_label --label-column label"
    options = {
        "methods": "cross-entropy:epochs=2",
        "noise": "given",
        "out": tmp_path / "bench",
        "device": "cpu",
    }
    result = labelfix.bench(noisy, truth_column="true_label", label_column="label", **options)
    (row,) = result["rows"]
    assert row["rows_evaluated"] == 120
    assert row["noise_rate_true"] == pytest.approx(0.3)
    assert row["label_accuracy_given"] == 1.0
    (run,) = (path for path in (tmp_path / "bench" / "runs").iterdir() if path.is_dir())
    found = labelfix.evaluate(run, truth=noisy)
    shared = [name for name in row if name in found and name != "method"]
    assert len(shared) > 10
    assert {name: row[name] for name in shared} == {name: found[name] for name in shared}
    findings = labelfix.read_corrections(run)
    wrong = pq.read_table(noisy)["is_corrupted"].to_numpy()
    flagged = findings["is_label_issue"].to_numpy(dtype=bool)
    assert found["recall"] == pytest.approx((flagged & wrong).sum() / 36)
    changed = findings["corrected_label"].astype(str) != findings["given_label"].astype(str)
    assert found["changed"] == (changed & ~wrong).sum()


def test_images_of_a_test_split_stay(tmp_path):
    source = write_ours(tmp_path, holds_bytes=False)
    frame = pd.read_csv(source).assign(split=["test" if row % 2 else "train" for row in range(OURS)])
    frame.to_csv(source, index=False)
    out = tmp_path / "noisy.parquet"
    result = corrupt(source, noise="open-set:1", open_set=write_theirs(tmp_path, holds_bytes=False), out=out)
    table = pd.read_parquet(out)
    # Even rows, but one without a label; the two that cannot be read are odd.
    assert np.flatnonzero(table.is_corrupted).tolist() == [
        row for row in range(0, OURS, 2) if row != UNLABELLED
    ]
    assert (result["test_rows"], result["realised_rate"]) == (OURS // 2, 1)

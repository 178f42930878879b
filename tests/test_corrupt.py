"""corrupt(): the file it writes scans as it is, keeps the truth, and nothing else is touched."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from labelfix.corrupt import corrupt
from labelfix.errors import InputError
from labelfix.manifest import Manifest
from labelfix.noise import NoiseSpec, plant

CLASSES = ["cat", "dog", "eel", "fox"]
PER_CLASS = 10


def png(value):
    import io

    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Class folders: 4 classes of 10 images."""
    for label, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            (tmp_path / "images" / name / f"{number}.png").write_bytes(png(40 * label + number))
    return tmp_path / "images"


@pytest.fixture
def csv_manifest(folder):
    """A CSV beside the folder with two more columns, an unlabelled row and a row without an image."""
    rows = [f"images/{name}/{n}.png,{name},{n},k {n}" for name in CLASSES for n in range(PER_CLASS)]
    text = "file_name,label,frame,=note\n" + "\n".join(rows) + '\nimages/cat/0.png,,7,"a, b"\n,dog,,\n'
    (folder.parent / "train.csv").write_text(text)
    return folder.parent / "train.csv"


def write_hf(path, *, extra=None, count=12):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": png(i), "path": f"{i}.png" if i % 3 else None} for i in range(count)]
    images[5] = None
    labels = pa.array([i % 3 if i != 4 else -1 for i in range(count)], pa.int64())
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["zebra", "ape", "cow"], "_type": "ClassLabel"},
    }
    table = pa.table({"image": pa.array(images, kind), "label": labels, **(extra or {})})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=5)
    return path


def texts(manifest, labels):
    return [manifest.class_names[label] if label >= 0 else None for label in labels]


class TestFiles:
    def test_counts_are_exact_and_said(self, folder, tmp_path):
        result = corrupt(folder, noise="symmetric-exclusive:0.25", out=tmp_path / "noisy.parquet")
        table = pq.read_table(tmp_path / "noisy.parquet").to_pydict()
        wrong = [a != b for a, b in zip(table["label"], table["true_label"], strict=True)]
        assert table["is_corrupted"] == wrong
        assert sum(wrong) == result["corrupted"] == 10
        assert (result["rows"], result["labelled"], result["realised_rate"]) == (40, 40, 0.25)
        assert (result["kind"], result["rate"], result["seed"]) == ("symmetric-exclusive", 0.25, 0)
        assert result["class_names"] == CLASSES
        counts = pd.crosstab(pd.Series(table["true_label"]), pd.Series(table["label"]), normalize="index")
        np.testing.assert_allclose(counts.to_numpy(), result["transition_matrix"])
        json.dumps(result, allow_nan=False)

    def test_the_file_scans_without_a_root(self, folder, tmp_path):
        corrupt(folder, noise="pair:0.3", out=tmp_path / "deep" / "er" / "noisy.parquet")
        table = pq.read_table(tmp_path / "deep" / "er" / "noisy.parquet")
        assert table.column_names == ["file_name", "label", "true_label", "is_corrupted"]
        assert table["file_name"][0].as_py() == "../../images/cat/0.png"
        noisy = Manifest.read(tmp_path / "deep" / "er" / "noisy.parquet")
        clean = Manifest.read(folder)
        assert noisy.class_names == clean.class_names
        assert noisy.pass_through == ("true_label", "is_corrupted")
        for ours, theirs in zip(noisy.images(0, 40), clean.images(0, 40), strict=True):
            assert ours.samefile(theirs)

    def test_labels_are_those_that_plant_draws(self, folder, tmp_path):
        corrupt(folder, noise="symmetric:0.5", out=tmp_path / "noisy.parquet", seed=3)
        clean = Manifest.read(folder)
        drawn = plant(clean.given, clean.class_names, NoiseSpec("symmetric", 0.5), 3)
        assert pq.read_table(tmp_path / "noisy.parquet")["label"].to_pylist() == texts(clean, drawn)

    def test_beside_the_images(self, folder, tmp_path):
        corrupt(folder / ".." / "images", noise="pair:0.3", out=tmp_path / "noisy.parquet")
        assert pq.read_table(tmp_path / "noisy.parquet")["file_name"][0].as_py() == "images/cat/0.png"

    @pytest.mark.usefixtures("folder")
    def test_through_a_link(self, tmp_path):
        (tmp_path / "far" / "away").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
        (tmp_path / "far" / "train.csv").write_text(
            f"file_name,label\n{tmp_path}/link/../../images/cat/1.png,cat\n../images/dog/1.png,dog\n"
        )
        corrupt(tmp_path / "far" / "train.csv", noise="pair:1", out=tmp_path / "link" / "noisy.parquet")
        noisy = Manifest.read(tmp_path / "link" / "noisy.parquet")
        assert [path.read_bytes() for path in noisy.images(0, 2)] == [png(1), png(41)]

    def test_manifest_columns_pass_through(self, csv_manifest, tmp_path):
        result = corrupt(csv_manifest, noise="symmetric:0.5", out=tmp_path / "noisy.parquet")
        table = pq.read_table(tmp_path / "noisy.parquet")
        assert table.column_names == ["file_name", "label", "true_label", "is_corrupted", "frame", "=note"]
        assert table["=note"].to_pylist()[40] == "a, b"
        unlabelled, pictureless = table.slice(40, 2).to_pylist()
        assert unlabelled["label"] is None
        assert unlabelled["true_label"] is None
        assert unlabelled["is_corrupted"] is False
        assert pictureless["file_name"] is None
        assert (result["rows"], result["labelled"]) == (42, 41)
        assert result["warnings"] == []
        assert Manifest.read(tmp_path / "noisy.parquet").given[40] == -1

    def test_options_reach_the_source(self, folder, tmp_path):
        lines = [f'{{"photo": "{name}/1.png", "animal": "{name}"}}' for name in CLASSES]
        (tmp_path / "train.jsonl").write_text("\n".join(lines))
        options = {"root": folder, "image_column": "photo", "label_column": "animal", "rows": 3}
        result = corrupt(tmp_path / "train.jsonl", noise="pair:1", out=tmp_path / "noisy.parquet", **options)
        assert (result["rows"], result["corrupted"]) == (3, 3)
        table = pq.read_table(tmp_path / "noisy.parquet").to_pydict()
        assert table["label"] == ["dog", "eel", "cat"]
        assert table["file_name"] == [f"images/{name}/1.png" for name in CLASSES[:3]]
        assert result["warnings"]

    @pytest.mark.usefixtures("folder")
    def test_default_out_is_here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert corrupt("images", noise="pair:0.3")["path"] == "noisy.parquet"
        assert (tmp_path / "noisy.parquet").is_file()

    def test_same_seed_same_bytes_and_another_is_another(self, folder, tmp_path):
        files = [tmp_path / f"{name}.parquet" for name in "abc"]
        for file, seed in zip(files, (0, 0, 1), strict=True):
            corrupt(folder, noise="symmetric:0.4", out=file, seed=seed)
        first, second, third = (file.read_bytes() for file in files)
        assert first == second
        assert first != third

    def test_nothing_else_is_written(self, folder, tmp_path):
        before = sorted(folder.rglob("*"))
        corrupt(folder, noise="pair:0.3", out=tmp_path / "out" / "noisy.parquet")
        assert sorted(folder.rglob("*")) == before
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["noisy.parquet"]


class TestBytes:
    def test_images_stay_inside(self, tmp_path):
        source = write_hf(tmp_path / "hf.parquet", extra={"index": pa.array(range(12))})
        result = corrupt(source, noise="symmetric-exclusive:0.5", out=tmp_path / "noisy.parquet")
        table = pq.read_table(tmp_path / "noisy.parquet")
        assert table.column_names == ["image", "label", "true_label", "is_corrupted", "index"]
        clean, noisy = Manifest.read(source), Manifest.read(tmp_path / "noisy.parquet")
        assert noisy.images(0, 12) == clean.images(0, 12)
        assert noisy.images(5, 6) == [None]
        assert noisy.file_names().to_pylist() == clean.file_names().to_pylist()
        assert table["true_label"].to_pylist() == texts(clean, clean.given)
        assert table["label"][4].as_py() is None
        assert (result["labelled"], result["corrupted"]) == (11, round(0.5 * 11))
        assert table["index"].to_pylist() == list(range(12))

    def test_metadata_says_that_it_is_an_image(self, tmp_path):
        corrupt(write_hf(tmp_path / "hf.parquet"), noise="pair:0.5", out=tmp_path / "noisy.parquet")
        metadata = pq.read_schema(tmp_path / "noisy.parquet").metadata
        assert json.loads(metadata[b"huggingface"])["info"]["features"] == {"image": {"_type": "Image"}}

    def test_pair_follows_the_order_of_the_source(self, tmp_path):
        corrupt(write_hf(tmp_path / "hf.parquet"), noise="pair:1", out=tmp_path / "noisy.parquet")
        table = pq.read_table(tmp_path / "noisy.parquet").to_pydict()
        pairs = set(zip(table["true_label"], table["label"], strict=True))
        assert pairs == {("zebra", "ape"), ("ape", "cow"), ("cow", "zebra"), (None, None)}

    def test_many_rows_stay_aligned(self, tmp_path):
        """More rows than one reading or one batch holds."""
        count = 70_001
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        images = pa.array([{"bytes": b"%d" % i, "path": f"{i}.png"} for i in range(count)], kind)
        table = pa.table({"image": images, "label": [f"c{i % 5}" for i in range(count)], "n": range(count)})
        pq.write_table(table, tmp_path / "many.parquet", row_group_size=7_777)
        corrupt(tmp_path / "many.parquet", noise="pair:0", out=tmp_path / "noisy.parquet")
        written = pq.read_table(tmp_path / "noisy.parquet")
        assert written.select(["image", "label", "n"]).equals(table)


class TestRefused:
    def refuses(self, *parts, **options):
        with pytest.raises(InputError) as caught:
            corrupt(**options)
        assert "\n" not in str(caught.value)
        for part in parts:
            assert part in str(caught.value)

    def test_existing_out(self, folder, tmp_path):
        out = tmp_path / "noisy.parquet"
        out.write_bytes(b"mine")
        self.refuses(str(out), "--overwrite", source=folder, noise="pair:0.3", out=out)
        assert out.read_bytes() == b"mine"
        corrupt(folder, noise="pair:0.3", out=out, overwrite=True)
        assert pq.read_metadata(out).num_rows == 40

    def test_out_inside_the_class_folders(self, folder, monkeypatch):
        self.refuses("inside the source", source=folder, noise="pair:0.3", out=folder / "noisy.parquet")
        monkeypatch.chdir(folder / "cat")
        self.refuses("inside the source", source="..", noise="pair:0.3")

    def test_out_is_the_source(self, tmp_path):
        source = write_hf(tmp_path / "hf.parquet")
        before = source.read_bytes()
        self.refuses("source itself", source=source, noise="pair:0.3", out=source, overwrite=True)
        assert source.read_bytes() == before

    def test_out_is_a_folder(self, folder, tmp_path):
        (tmp_path / "out.parquet").mkdir()
        self.refuses(
            "is a folder", "noisy.parquet", source=folder, noise="pair:0.3", out=tmp_path / "out.parquet"
        )

    def test_out_is_no_parquet(self, folder, tmp_path):
        self.refuses("ends in .parquet", source=folder, noise="pair:0.3", out=tmp_path / "noisy.csv")

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize("name", ["true_label", "is_corrupted", "label"])
    def test_a_column_with_our_name(self, tmp_path, name):
        source = tmp_path / "train.csv"
        source.write_text(f"file_name,class,{name}\nimages/cat/1.png,cat,x\nimages/dog/1.png,dog,x\n")
        options = {"noise": "pair:0.3", "label_column": "class", "out": tmp_path / "noisy.parquet"}
        self.refuses(repr(name), "train.csv", source=source, **options)

    def test_a_second_picture(self, tmp_path):
        source = write_hf(
            tmp_path / "hf.parquet", extra={"file_name": pa.array([f"{i}.png" for i in range(12)])}
        )
        options = {"image_column": "file_name", "out": tmp_path / "noisy.parquet"}
        self.refuses("'image'", source=source, noise="pair:0.3", **options)

    def test_bad_noise_comes_first(self, tmp_path):
        self.refuses("--noise", "unknown kind", source=tmp_path / "missing", noise="salt:0.3")

    def test_asymmetric_on_other_classes(self, folder, tmp_path):
        out = tmp_path / "noisy.parquet"
        self.refuses("pair", source=folder, noise="asymmetric:0.4", out=out)
        assert not out.exists()


class TestCommand:
    def run(self, *arguments):
        from labelfix.cli.corrupt import command

        return CliRunner().invoke(command, [str(argument) for argument in arguments])

    def test_json_is_one_object(self, folder, tmp_path):
        done = self.run(folder, "--noise", "pair:0.3", "--out", tmp_path / "noisy.parquet", "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["corrupted"] == 12

    def test_for_people(self, folder, tmp_path):
        done = self.run(folder, "--noise", "pair:0.3", "--out", tmp_path / "noisy.parquet")
        assert "12 of 40 labels wrong (30.0%)" in done.stdout
        assert "labelfix scan" in done.stdout
        assert "0.70" in done.stdout

    def test_help_ends_with_an_example(self):
        done = self.run("--help")
        assert "Example:" in done.stdout.split("Options:")[1]
        assert done.stdout.rstrip().endswith("noisy.parquet")

    def test_no_torch(self):
        code = "import sys, labelfix.corrupt; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

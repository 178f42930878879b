"""corrupt(): the file it writes scans as it is, keeps the truth, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
import sources
from click.testing import CliRunner
from pictures import picture as png

from labelfix.data.manifest import Manifest
from labelfix.noise.corruption import corrupt
from labelfix.noise.planting import KINDS, NoiseSpec, parse_noise, plant

CLASSES = ["cat", "dog", "eel", "fox"]
PER_CLASS = 10


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
    images = [{"bytes": png(i), "path": f"{i}.png" if i % 3 else None} for i in range(count)]
    images[5] = None
    labels = pa.array([i % 3 if i != 4 else -1 for i in range(count)], pa.int64())
    return sources.write_hf(
        path, images, labels, names=["zebra", "ape", "cow"], extra=extra, row_group_size=5
    )


def texts(manifest, labels):
    return [manifest.class_names[label] if label >= 0 else None for label in labels]


def corrupted(source, noise, folder, **options):
    """What corrupt() returns, and the table that it writes into a folder."""
    out = folder / "noisy.parquet"
    return corrupt(source, noise=noise, out=out, **options), pq.read_table(out)


class TestFiles:
    def test_counts_are_exact_and_reported(self, folder, tmp_path):
        result = corrupt(folder, noise="symmetric-exclusive:0.25:exact", out=tmp_path / "noisy.parquet")
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

    @pytest.mark.usefixtures("folder")
    def test_beside_the_images_and_by_default_here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert corrupt("images/../images", noise="pair:0.3")["path"] == "noisy.parquet"
        assert pq.read_table("noisy.parquet")["file_name"][0].as_py() == "images/cat/0.png"

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
        result, table = corrupted(csv_manifest, "symmetric:0.5", tmp_path)
        assert table.column_names == ["file_name", "label", "true_label", "is_corrupted", "frame", "=note"]
        assert table["=note"].to_pylist()[40] == "a, b"
        unlabelled, pictureless = table.slice(40, 2).to_pylist()
        found = [unlabelled[name] for name in ("label", "true_label", "is_corrupted")]
        assert found == [None, None, False]
        assert pictureless["file_name"] is None
        assert (result["rows"], result["labelled"], result["warnings"]) == (42, 41, [])
        assert Manifest.read(tmp_path / "noisy.parquet").given[40] == -1

    @pytest.mark.parametrize("noise", ["symmetric-exclusive:1", "pair:1", "simplex:1", "confusion"])
    def test_rows_of_a_test_split_stay_right(self, folder, tmp_path, noise):
        """What a scan measures its accuracy on: every third row here; all others are hit."""
        if noise == "confusion":
            matrix = pd.DataFrame(np.roll(np.eye(4), 1, axis=1), index=CLASSES, columns=CLASSES)
            matrix.to_csv(tmp_path / "matrix.csv", index_label="class")
            noise = f"confusion:{tmp_path / 'matrix.csv'}"
        lines = [
            f"{name}/{n}.png,{name},{'val' if n % 3 == 0 else 'train'}" for name in CLASSES for n in range(10)
        ]
        (tmp_path / "train.csv").write_text("file_name,label,split\n" + "\n".join(lines))
        result, table = corrupted(tmp_path / "train.csv", noise, tmp_path, root=folder)
        frame = table.to_pandas()
        assert (frame.is_corrupted == (frame.split == "train")).all()
        assert (frame.label[frame.split == "val"] == frame.true_label[frame.split == "val"]).all()
        counts = (result["rows"], result["labelled"], result["test_rows"], result["corrupted"])
        assert counts == (40, 40, 16, 24)
        assert result["realised_rate"] == 1
        assert np.trace(result["transition_matrix"]) == 0

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
        result, table = corrupted(source, "symmetric-exclusive:0.5:exact", tmp_path)
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
        table = corrupted(write_hf(tmp_path / "hf.parquet"), "pair:1", tmp_path)[1].to_pydict()
        pairs = set(zip(table["true_label"], table["label"], strict=True))
        assert pairs == {("zebra", "ape"), ("ape", "cow"), ("cow", "zebra"), (None, None)}

    def test_many_rows_stay_aligned(self, tmp_path):
        """More rows than one batch holds."""
        count = 70_001
        images = [{"bytes": b"%d" % i, "path": f"{i}.png"} for i in range(count)]
        labels, extra = [f"c{i % 5}" for i in range(count)], {"n": range(count)}
        source = sources.write_hf(
            tmp_path / "many.parquet", images, labels, extra=extra, metadata=False, row_group_size=7_777
        )
        corrupt(source, noise="pair:0", out=tmp_path / "noisy.parquet")
        written = pq.read_table(tmp_path / "noisy.parquet")
        assert written.select(["image", "label", "n"]).equals(pq.read_table(source))


refuses = partial(refusals.refuses, corrupt)


class TestRatesFiles:
    def test_each_class_has_its_rate(self, folder, tmp_path):
        rates = tmp_path / "rates.csv"
        rates.write_bytes(b"\xef\xbb\xbfclass,rate\r\nfox,1\r\n\r\ndog, .25 \r\ncat,0\r\neel,5e-1\r\n")
        result = corrupt(folder, noise=f"pair:{rates}:exact", out=tmp_path / "noisy.parquet")
        assert (result["kind"], result["rate"], result["noise"]) == ("pair", None, f"pair:{rates}:exact")
        assert result["noise_file_sha256"] == hashlib.sha256(rates.read_bytes()).hexdigest()
        assert result["class_names"] == CLASSES
        assert result["class_rates"] == [0, 0.25, 0.5, 1]
        expected = [[1, 0, 0, 0], [0, 0.8, 0.2, 0], [0, 0, 0.5, 0.5], [1, 0, 0, 0]]
        np.testing.assert_allclose(result["transition_matrix"], expected)
        table = pq.read_table(tmp_path / "noisy.parquet").to_pandas()
        assert table.groupby("true_label")["is_corrupted"].sum().tolist() == [0, 2, 5, 10]

    @pytest.mark.parametrize("kind", ["symmetric", "symmetric-exclusive"])
    def test_also_for_symmetric_kinds(self, folder, tmp_path, kind):
        (tmp_path / "rates.csv").write_text("class,rate\ncat,0\ndog,0\neel,1\nfox,0\n")
        table = corrupted(folder, f"{kind}:{tmp_path / 'rates.csv'}", tmp_path)[1].to_pandas()
        assert set(table["true_label"][table["is_corrupted"]]) == {"eel"}

    def test_a_rate_for_all_has_no_file(self, folder, tmp_path):
        result = corrupt(folder, noise="simplex:0.3:exact", out=tmp_path / "noisy.parquet")
        assert (result["rate"], result["corrupted"]) == (0.3, 12)
        assert (result["noise_file_sha256"], result["class_rates"]) == (None, None)

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("", ["class,rate"]),
            ("class;rate\ncat;0.1\n", ["class,rate"]),
            ("cat,0.1\ndog,0.1\n", ["class,rate"]),
            ("class,rate\ncat,0.1\ndog,0\neel,1\n", ["lacks the class 'fox'"]),
            ("class,rate\ncat,0.1\ndog,0\neel,1\nfox,0\ngnu,0\n", ["line 6", "'gnu'"]),
            ("class,rate\ncat,0.1\ndog,0\ncat,1\nfox,0\n", ["line 4", "'cat'", "second time"]),
            ("class,rate\ncat,1.1\ndog,0\neel,1\nfox,0\n", ["line 2", "'cat'", "'1.1'", "0 to 1"]),
            ("class,rate\ncat,0.1\ndog,nan\neel,1\nfox,0\n", ["line 3", "'dog'", "'nan'"]),
            ("class,rate\ncat,0.1\ndog,\neel,1\nfox,0\n", ["line 3", "'dog'", "''"]),
            ("class,rate\ncat,0.1\ndog\neel,1\nfox,0\n", ["line 3", "'dog'", "1 cells"]),
            ('class,rate\n"cat"s,0.1\n', ["quotes"]),
        ],
    )
    def test_refused(self, folder, tmp_path, text, parts):
        rates, out = tmp_path / "rates.csv", tmp_path / "noisy.parquet"
        rates.write_text(text)
        refuses(str(rates), *parts, source=folder, noise=f"symmetric:{rates}", out=out)
        assert not out.exists()


class TestConfusionFile:
    NAMES = ('a, "b"', "=cat", "'=cat", "café", "two\nlines")
    MATRIX = np.array([
        [0.5, 0.5, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0.25, 0.25, 0.25, 0, 0.25], [0, 0.1, 0.2, 0.3, 0.4],
    ])  # fmt: skip

    def write(self, path, order=range(5), columns=range(5), matrix=MATRIX):
        """As our own csv export writes it: quoted where needed, formulas escaped. A name holds a line break."""
        from labelfix.data.readers import escape_cell

        names = [escape_cell(name) for name in self.NAMES]
        table = pd.DataFrame(matrix, names, names).iloc[list(order), list(columns)]
        table.to_csv(path, index_label="true")
        return path

    @pytest.fixture
    def source(self, tmp_path):
        lines = [json.dumps({"file_name": f"{n}.png", "label": self.NAMES[n % 5]}) for n in range(100)]
        (tmp_path / "train.jsonl").write_text("\n".join(lines))
        for n in range(100):
            (tmp_path / f"{n}.png").write_bytes(png(n))
        return tmp_path / "train.jsonl"

    def test_any_order_of_any_names(self, source, tmp_path):
        file = self.write(tmp_path / "matrix.csv", order=(3, 1, 4, 0, 2), columns=(2, 4, 0, 1, 3))
        result = corrupt(source, noise=f"confusion:{file}", exact=True, out=tmp_path / "noisy.parquet")
        ours = [self.NAMES.index(name) for name in result["class_names"]]
        expected = self.MATRIX[np.ix_(ours, ours)]
        assert result["class_rates"] == pytest.approx((1 - np.diag(expected)).tolist())
        np.testing.assert_allclose(np.diag(result["transition_matrix"]), np.diag(expected))
        assert (np.array(result["transition_matrix"])[expected == 0] == 0).all()
        clean = Manifest.read(source)
        drawn = plant(clean.given, clean.class_names, parse_noise(f"confusion:{file}:exact"), 0, expected)
        assert pq.read_table(tmp_path / "noisy.parquet")["label"].to_pylist() == texts(clean, drawn)
        again = corrupt(
            source,
            noise=f"confusion:{self.write(tmp_path / 'other.csv')}:exact",
            out=tmp_path / "again.parquet",
        )
        assert again["transition_matrix"] == result["transition_matrix"]
        assert again["noise_file_sha256"] != result["noise_file_sha256"]

    @pytest.mark.parametrize("off", [-1e-6, 1e-6])
    def test_a_row_that_sums_to_nearly_one(self, source, tmp_path, off):
        matrix = self.MATRIX.copy()
        matrix[0, 0] += off
        file = self.write(tmp_path / "matrix.csv", matrix=matrix)
        noise, out = f"confusion:{file}", tmp_path / "noisy.parquet"
        result = corrupt(source, noise=noise, out=out)
        rate = result["class_rates"][result["class_names"].index(self.NAMES[0])]
        assert rate == pytest.approx(0.5 / (1 + off), rel=1e-12)
        matrix[0, 0] += off
        self.write(file, matrix=matrix)
        refuses(str(file), "line 3", "'a, \"b\"'", "sum", source=source, noise=noise, out=out, overwrite=True)

    @pytest.mark.parametrize(
        ("order", "columns", "parts"),
        [
            (range(5), range(4), ["the header lacks the class", "two\\nlines"]),
            (range(4), range(5), ["the first column lacks the class", "two\\nlines"]),
            ([*range(5), 0], range(5), ["line 9", "second time"]),
            (range(5), [*range(5), 1], ["the header", "'=cat'", "second time"]),
        ],
    )
    def test_a_class_too_few_or_too_many(self, source, tmp_path, order, columns, parts):
        file = self.write(tmp_path / "matrix.csv", order, columns)
        out = tmp_path / "noisy.parquet"
        refuses(str(file), *parts, source=source, noise=f"confusion:{file}", out=out)
        assert not out.exists()

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("", ["header lacks", "'cat'"]),
            ("true,cat,dog,eel,gnu\n", ["the header", "'gnu'"]),
            ("true,café\n", ["UTF-8"]),
            (",cat,dog,eel,fox\ncat,1,0,0,0\nfox,2,-1,0,0\n", ["first column lacks the class 'dog'"]),
            (",cat,dog,eel,fox\neel,1,0,0,0\ncat,1,0,0,0\nfox,2,-1,0,0\ndog,0,0,0,1\n",
             ["line 4", "'fox'", "column 'cat'", "'2'"]),
            (",cat,dog,eel,fox\neel,1,0,0,0\ncat,.2,.3,.1,.3\nfox,1,0,0,0\ndog,0,0,0,1\n",
             ["line 3", "'cat'", "sums to 0.9;"]),
            (",cat,dog,eel,fox\neel,1,0,0\n", ["line 2", "'eel'", "4 cells where the header has 5"]),
        ],
    )  # fmt: skip
    def test_refused(self, folder, tmp_path, text, parts):
        (tmp_path / "matrix.txt").write_bytes(text.encode("latin-1"))
        noise = f"confusion:{tmp_path / 'matrix.txt'}"
        refuses("matrix.txt", *parts, source=folder, noise=noise, out=tmp_path / "noisy.parquet")


class TestRefused:
    def test_existing_out(self, folder, tmp_path):
        out = tmp_path / "noisy.parquet"
        out.write_bytes(b"mine")
        refuses(str(out), "--overwrite", source=folder, noise="pair:0.3", out=out)
        assert out.read_bytes() == b"mine"
        corrupt(folder, noise="pair:0.3", out=out, overwrite=True)
        assert pq.read_metadata(out).num_rows == 40

    @pytest.mark.parametrize(
        ("parts", "options"),
        [
            (["lies in the source"], {"out": "images/noisy.parquet"}),
            (["is a folder", "noisy.parquet"], {"out": "out.parquet"}),
            (["ends in .parquet"], {"out": "noisy.csv"}),
            (["pair"], {"noise": "asymmetric:0.4"}),
            # Bad noise comes before a bad source.
            (["--noise", "unknown kind"], {"source": "missing", "noise": "salt:0.3"}),
            (
                ["--noise", "matrix.csv", "No such file"],
                {"source": "missing", "noise": "confusion:matrix.csv"},
            ),
        ],
    )
    @pytest.mark.usefixtures("folder")
    def test_by_options(self, tmp_path, monkeypatch, parts, options):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "out.parquet").mkdir()
        before = sorted(tmp_path.rglob("*"))
        refuses(*parts, **{"source": "images", "noise": "pair:0.3", **options})
        assert sorted(tmp_path.rglob("*")) == before

    def test_default_out_inside_the_class_folders(self, folder, monkeypatch):
        monkeypatch.chdir(folder / "cat")
        refuses("lies in the source", source="..", noise="pair:0.3")

    def test_out_is_the_source(self, tmp_path):
        source = write_hf(tmp_path / "hf.parquet")
        before = source.read_bytes()
        refuses("is the source", source=source, noise="pair:0.3", out=source, overwrite=True)
        assert source.read_bytes() == before

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize("name", ["true_label", "is_corrupted", "label"])
    def test_a_column_with_our_name(self, tmp_path, name):
        source = tmp_path / "train.csv"
        source.write_text(f"file_name,class,{name}\nimages/cat/1.png,cat,x\nimages/dog/1.png,dog,x\n")
        options = {"noise": "pair:0.3", "label_column": "class", "out": tmp_path / "noisy.parquet"}
        refuses(repr(name), "train.csv", source=source, **options)

    def test_a_second_picture(self, tmp_path):
        source = write_hf(
            tmp_path / "hf.parquet", extra={"file_name": pa.array([f"{i}.png" for i in range(12)])}
        )
        options = {"image_column": "file_name", "out": tmp_path / "noisy.parquet"}
        refuses("'image'", source=source, noise="pair:0.3", **options)


class TestCommand:
    def run(self, *arguments):
        from labelfix.cli.corrupt import command

        return CliRunner().invoke(command, [str(argument) for argument in arguments])

    def test_json_is_one_object(self, folder, tmp_path):
        done = self.run(folder, "--noise", "pair:0.3:exact", "--out", tmp_path / "noisy.parquet", "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["corrupted"] == 12

    def test_each_row_is_drawn_on_its_own_unless_counts_shall_be_exact(self, folder, tmp_path):
        """The option says what the suffix does; without either 40 rows do not always have 12 wrong ones."""
        found = {}
        for name, noise, options in (
            ("option", "pair:0.3", ["--exact"]), ("suffix", "pair:0.3:exact", []), ("neither", "pair:0.3", []),
            ("both", "pair:0.3:exact", ["--exact"]),
        ):  # fmt: skip
            counts, files = [], []
            for seed in range(6):
                out = tmp_path / f"{name}-{seed}.parquet"
                done = self.run(folder, "--noise", noise, *options, "--seed", seed, "--out", out, "--json")
                counts.append(json.loads(done.stdout)["corrupted"])
                files.append(out.read_bytes())
            found[name] = counts, files
        assert found["option"] == found["suffix"] == found["both"]
        assert found["option"][0] == [12] * 6
        assert len(set(found["neither"][0])) > 2

    def test_for_people(self, folder, tmp_path):
        done = self.run(folder, "--noise", "pair:0.3", "--exact", "--out", tmp_path / "noisy.parquet")
        assert "12 of 40 labels wrong (30.0%)" in done.stdout
        assert "labelfix scan" in done.stdout
        assert "0.70" in done.stdout

    def test_help_has_all_kinds_and_each_as_it_is_written(self):
        shown = self.run("--help").stdout.split("Kinds of noise:")[1].split("Example:")[0]
        written = re.findall(r"^    ([a-z-]+:\S+)", shown, re.MULTILINE)
        assert {parse_noise(noise).kind for noise in written} == set(KINDS)

    def test_the_example_of_the_help_runs(self, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        example = shlex.split(self.run("--help").stdout.split("Example:")[1])
        assert example[:2] == ["labelfix", "corrupt"]
        assert self.run(*example[2:]).exit_code == 0
        assert pq.read_metadata("noisy.parquet").num_rows == 40

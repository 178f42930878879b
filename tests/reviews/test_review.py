"""review(): which rows a page shows, in which order, with which pictures, and what it says of the run."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urljoin
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from click.testing import CliRunner
from conftest import write_digits
from PIL import Image
from review_data import Reader
from review_runs import make_run

import labelfix
from labelfix.choices import REVIEW_SORTS
from labelfix.cli import cli
from labelfix.data.images.decoding import encode
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.results import corrections
from labelfix.results.corrections import Corrections
from labelfix.reviews import review
from labelfix.reviews.charts import all_charts
from labelfix.reviews.pictures import relative_url
from labelfix.reviews.report import report_of
from labelfix.reviews.survey import Survey
from labelfix.reviews.suspects import batches_of
from labelfix.reviews.svg import drawn

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "../../etc/passwd",
    "$x_1$ & \"'",
    "犬 \u202egpj.exe",
    f"a\x01b{'c' * 60}",
]


def page_of(summary):
    """What a page holds: its data with the thumbnails in their places, and its text."""
    text = Path(summary["path"]).read_text(encoding="utf-8")
    return Reader(text).blocks["data"], text


def ids(summary):
    return [sample["id"] for sample in page_of(summary)[0]["samples"]]


def picture_of(sample):
    kind, _, data = sample["thumb"].partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:{Image.MIME[picture.format]}"
    return picture


def pixels_of(sample):
    return np.asarray(picture_of(sample)).transpose(2, 0, 1)


@pytest.fixture
def images(tmp_path):
    """40 digits as class folders."""
    write_digits(tmp_path / "images", 40)
    return tmp_path / "images"


@pytest.fixture
def run(tmp_path, images):
    """A run that flags rows 26 to 39, the last one most, and corrects them to the next class."""
    return make_run(tmp_path / "runs" / "one", images, noise=np.arange(40) / 50)


@pytest.fixture
def description(tmp_path, images):
    """The same with the summary and the epochs of a scan."""
    return make_run(tmp_path / "runs" / "summarised", images, noise=np.arange(40) / 50, with_summary=True)


refuses = partial(refusals.refuses, review)


class TestRows:
    def test_flagged_rows_most_suspect_first(self, run):
        summary = review(run)
        frame = labelfix.read_corrections(run)
        flagged = frame[frame["is_label_issue"]].sort_values("noise_score", ascending=False)
        assert ids(summary) == flagged["sample_id"].tolist()
        counts = {"shown": len(flagged), "beside": 0, "flagged": len(flagged), "without_picture": 0}
        said = {"path": str(run / "review.html"), "pictures": "originals", "message": None}
        assert summary | {"bytes": 0} == {**said, **counts, "bytes": 0}
        assert summary["bytes"] == (run / "review.html").stat().st_size

    def test_what_a_card_says(self, run):
        data, _ = page_of(review(run))
        frame = labelfix.read_corrections(run)
        assert data["class_names"] == [str(label) for label in range(10)]
        assert data["run"] | {"id": ""} == {
            "id": "", "source": "images", "method": "bmm", "task": "single", "sort": "score",
        }  # fmt: skip
        for sample in data["samples"]:
            row = frame.iloc[sample["id"]]
            given = int(row["given_label"])
            assert sample["file"] == row["file_name"]
            assert (sample["given"], sample["flagged"]) == (given, True)
            assert sample["suggested"] == sample["corrected"] == (given + 1) % 10
            assert sample["score"] == pytest.approx(row["noise_score"], abs=1e-4)
            assert sample["confidence"] == pytest.approx(row["corrected_confidence"], abs=1e-4)
            assert len(sample["likely"]) == 10
            assert sample["likely"][0] == [(given + 1) % 10, pytest.approx(1 / 1.9, abs=1e-4)]
            shares = [share for _, share in sample["likely"]]
            assert shares == sorted(shares, reverse=True)

    @pytest.mark.parametrize("flagged", [True, False])
    def test_another_label_is_suggested_for_flagged_rows_alone(self, tmp_path, images, flagged):
        given = Manifest.read(images).given
        probs = np.full((40, 10), 0.02, np.float32)
        probs[np.arange(40), given] = 0.6
        probs[np.arange(40), (given + 3) % 10] = 0.24
        made = {"noise": np.full(40, 0.6), "flagged": np.full(40, flagged)}
        run = make_run(tmp_path / "run", images, probs=probs, corrected=given, **made)
        for sample in page_of(review(run))[0]["samples"]:
            assert sample["corrected"] == sample["given"]
            assert sample["suggested"] == (sample["given"] + (3 if flagged else 0)) % 10
            assert sample["confidence"] == pytest.approx(0.24 if flagged else 0.6, abs=0.1)

    def test_limit(self, run):
        assert ids(review(run, limit=2)) == [39, 38]
        summary = review(run, limit=20)
        assert ids(summary) == list(range(39, 19, -1))
        assert (summary["shown"], summary["flagged"]) == (20, 14)
        assert review(run, limit=1000)["shown"] == 40

    def test_flagged_rows_come_before_higher_scores(self, tmp_path, images):
        flagged = np.arange(40) < 3
        run = make_run(tmp_path / "run", images, noise=np.where(flagged, 0.6, 0.9), flagged=flagged)
        assert ids(review(run, limit=5)) == [0, 1, 2, 3, 4]

    def test_nothing_flagged_shows_the_highest_scores(self, tmp_path):
        write_digits(tmp_path / "images", 120)
        run = make_run(tmp_path / "run", tmp_path / "images", noise=np.arange(120) / 300)
        summary = review(run)
        assert ids(summary) == list(range(119, 19, -1))
        assert (summary["shown"], summary["flagged"]) == (100, 0)

    def test_sorts(self, tmp_path, images):
        noise, given = 0.6 + np.arange(40) / 200, Manifest.read(images).given
        corrected = np.where(np.arange(40) % 3 == 0, (given + 2) % 10, (given + 1) % 10)
        run = make_run(tmp_path / "run", images, noise=noise, corrected=corrected)
        by_score = list(range(39, -1, -1))
        assert ids(review(run)) == by_score
        assert ids(review(run, sort="class")) == sorted(by_score, key=lambda row: given[row])
        pairs = [(given[row], corrected[row]) for row in range(40)]
        found = ids(review(run, sort="confusion"))
        assert found == sorted(by_score, key=lambda row: (-pairs.count(pairs[row]), pairs[row]))
        assert found != by_score

    def test_rows_that_nobody_can_judge_are_never_shown(self, tmp_path, images):
        noise = np.where(np.arange(40) < 3, np.nan, 0.9)
        made = {"noise": noise, "flagged": np.zeros(40, bool)}
        run = make_run(tmp_path / "run", images, valid=np.arange(40) != 39, **made)
        assert ids(review(run, limit=40)) == list(range(3, 39))

    def test_reads_only_the_row_groups_that_it_needs(self, run):
        file = run / "corrections.parquet"
        pq.write_table(pq.read_table(file), file, row_group_size=7)
        opened = Corrections.open(file)
        batches = list(batches_of(opened, np.array([39, 8, 7]), ["sample_id"]))
        assert [batch.column(0).to_pylist() for batch in batches] == [[7, 8], [39]]
        assert sorted(ids(review(file)), reverse=True) == ids(review(file))


class TestPictures:
    def test_thumbnails_and_links_are_of_the_right_files(self, run, images):
        summary = review(run, limit=40)
        page = Path(summary["path"]).absolute().as_uri()
        for sample in page_of(summary)[0]["samples"]:
            original = images / sample["file"]
            assert unquote(urljoin(page, sample["href"])) == original.as_uri()
            expected = np.asarray(Image.open(original).convert("RGB"))
            np.testing.assert_array_equal(np.asarray(picture_of(sample)), expected)

    @pytest.mark.parametrize("name", ["a b#c?.png", "javascript:x.png", "%41.png", "ü犬.png", "a\\b'\".png"])
    def test_links_of_odd_names(self, tmp_path, name):
        url = relative_url(tmp_path / "images" / name, tmp_path / "runs" / "a b")
        assert url.startswith("../../images/")
        assert url.isascii()
        assert not set(url) & set("?#:\"'\\ ")
        assert unquote(url) == f"../../images/{name}"

    def test_parquet_of_bytes_has_no_links(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 20, 30), dtype=np.uint8)
        cells = [{"bytes": encode(image), "path": f"{row}.png"} for row, image in enumerate(pixels)]
        table = pa.table({"image": cells, "label": list("aabbab")})
        pq.write_table(table, tmp_path / "data.parquet")
        run = make_run(tmp_path / "run", tmp_path / "data.parquet", noise=[0.9] * 6)
        data, _ = page_of(review(run))
        assert data["run"]["source"] == "data.parquet"
        for sample in data["samples"]:
            assert sample["href"] is None
            np.testing.assert_array_equal(pixels_of(sample), pixels[sample["id"]])

    def test_moved_data(self, run, images, tmp_path):
        images.rename(tmp_path / "elsewhere")
        refuses("is not there", "--source", corrections=run)
        data, _ = page_of(review(run, source=tmp_path / "elsewhere"))
        assert data["samples"][0]["href"].startswith("../../elsewhere/")
        ImageStore.open_or_build(Manifest.read(tmp_path / "elsewhere"), 8)
        shutil.move(tmp_path / "elsewhere", images)
        store = ImageStore.open_or_build(Manifest.read(images), 8)
        shutil.move(images, tmp_path / "elsewhere")
        summary = review(run)
        assert summary["pictures"] == "store"
        assert "--source" in summary["message"]
        assert "\n" not in summary["message"]
        for sample in page_of(summary)[0]["samples"]:
            assert sample["href"] is None
            np.testing.assert_array_equal(pixels_of(sample), store.images[sample["id"]])
        refuses("check the path", corrections=run, source=images)

    def test_a_wrong_source_is_an_error_though_the_cache_has_everything(self, run, images, tmp_path):
        ImageStore.open_or_build(Manifest.read(images), 8)
        write_digits(tmp_path / "other", 30)
        refuses("is not what", corrections=run, source=tmp_path / "other")

    def test_changed_data_are_refused_where_the_cache_has_nothing(self, run, images):
        (images / "0" / "0000.png").write_bytes(encode(np.zeros((9, 9), np.uint8)))
        refuses("has changed since", "--source", corrections=run)

    @pytest.mark.parametrize("is_stored", [False, True])
    def test_an_image_that_broke_since(self, run, images, is_stored):
        store = ImageStore.open_or_build(Manifest.read(images), 8) if is_stored else None
        file = images / labelfix.read_corrections(run)["file_name"][39]
        file.write_bytes(bytes(file.stat().st_size))
        summary = review(run)
        assert (summary["without_picture"], summary["pictures"]) == (1 - is_stored, "originals")
        first, *others = page_of(summary)[0]["samples"]
        assert all(sample["thumb"] for sample in others)
        if store is None:
            assert first["thumb"] is None
        else:
            np.testing.assert_array_equal(pixels_of(first), store.images[39])

    def test_a_large_store_is_shown_with_links_to_the_originals(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), dtype=np.uint8)
        for row, label in enumerate("abab"):
            file = tmp_path / "images" / label / f"{row}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[row]).resize((200, 150)).save(file)
        run = make_run(tmp_path / "run", tmp_path / "images", noise=[0.9] * 4, size=96)
        ImageStore.open_or_build(Manifest.read(tmp_path / "images"), 96)
        summary = review(run)
        assert (summary["pictures"], summary["message"]) == ("store", None)
        for sample in page_of(summary)[0]["samples"]:
            assert picture_of(sample).size == (100, 100)
            assert unquote(sample["href"]) == f"../images/{sample['file']}"

    def test_a_real_scan_in_memory_shows_the_store(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
        labels = ["even", "odd"] * 20
        labelfix.scan((pixels, labels), method="cross-entropy", epochs=2, out=tmp_path / "run")
        summary = review(tmp_path / "run", limit=40)
        assert (summary["pictures"], summary["message"], summary["without_picture"]) == ("store", None, 0)
        data, text = page_of(summary)
        assert data["run"]["source"] == "images in memory"
        for sample in data["samples"]:
            np.testing.assert_array_equal(np.asarray(picture_of(sample)), pixels[sample["id"]])
        assert text.count('role="img"') >= 3
        refuses("is not what", corrections=tmp_path / "run", source=(pixels[::-1].copy(), labels))
        assert review(tmp_path / "run", source=(pixels, labels))["pictures"] == "originals"


class TestReport:
    def test_numbers_are_those_of_the_table(self, tmp_path, images):
        paths = [str(file) for file in sorted(images.rglob("*.png"))]
        columns = {"path": paths, "label": ["a", "b", "", "c"] * 10}
        pq.write_table(pa.table(columns), tmp_path / "data.parquet")
        made = {"noise": np.random.default_rng(0).random(40), "valid": np.arange(40) != 4}
        run = make_run(tmp_path / "run", tmp_path / "data.parquet", **made)
        file = run / "corrections.parquet"
        pq.write_table(pq.read_table(file), file, row_group_size=11)
        frame = labelfix.read_corrections(run)
        survey = Survey.of(Corrections.open(run), 10)
        eligible = frame[frame["is_valid"] & frame["given_label"].notna() & ~frame["is_trusted"]]
        changed = eligible[eligible["given_label"].astype(str) != eligible["corrected_label"].astype(str)]
        flagged = int(frame["is_label_issue"].sum())
        counted = {"rows": 40, "judged": len(eligible), "flagged": flagged, "corrected": len(changed)}
        assert survey.counts == counted | {"unlabelled": 10, "invalid": 1}
        assert survey.counts["trusted"] == 0
        assert survey.invalid == [4]
        for label, name in enumerate("abc"):
            of_class = eligible[eligible["given_label"] == name]
            assert survey.noise_by_class[label] == pytest.approx(of_class["noise_score"].mean())
            assert survey.by_class[0, label] == len(of_class)
            assert survey.by_class[1, label] == of_class["is_label_issue"].sum()
            assert survey.by_class[2, label] == (changed["given_label"] == name).sum()
        pairs = changed.groupby(["given_label", "corrected_label"], observed=True).size()
        assert survey.pairs == pairs.to_dict()
        assert survey.scores.tolist() == np.histogram(eligible["noise_score"], 50, (0, 1))[0].tolist()
        assert survey.flagged_scores.sum() == survey.counts["flagged"]

    def test_what_the_summary_shows(self, tmp_path, images):
        made = {"noise": np.ones(40), "valid": np.arange(40) != 4}
        run = make_run(tmp_path / "run", images, with_summary=True, **made)
        _, text = page_of(review(run))
        assert "undecodable: &lt;b&gt;4" in text
        for title in ("Which labels", "Noise scores", "mixture", "Loss in", "Accuracy in"):
            assert title in text
        for setting in ("image size", "w.pt", "trusted.csv", "source fingerprint"):
            assert setting in text

    def test_a_note_where_rows_are_shown_that_are_not_flagged(self, run, images, tmp_path):
        def note(run, shown):
            opened = Corrections.open(run)
            return report_of(opened, Survey.of(opened, 10), "images", shown)["note"]

        clean = make_run(tmp_path / "clean", images, noise=np.arange(40) / 100)
        summary = {"fit_reason": "the labels look clean: none is changed"}
        (clean / "summary.json").write_text(json.dumps(summary))
        assert note(run, 14) == ""
        assert "14 flagged" in note(run, 15)
        assert note(clean, 40).startswith("The labels look clean: none is changed. No row is flagged")

    def test_no_folder_of_this_machine_is_named(self, description, tmp_path):
        _, text = page_of(review(description))
        assert str(tmp_path) not in text
        assert str(tmp_path.parent) not in text

    def test_corrections_without_their_run(self, run, images, tmp_path):
        shutil.copy(run / "corrections.parquet", tmp_path / "alone.parquet")
        refuses("config.json", "--source", corrections=tmp_path / "alone.parquet")
        summary = review(tmp_path / "alone.parquet", source=images)
        assert summary["path"] == str(tmp_path / "review.html")
        data, text = page_of(summary)
        assert data["run"]["source"] == "images"
        assert "Noise scores" in text
        assert "mixture" not in text.replace("mixture</", "")
        assert data["run"]["id"] == page_of(review(run))[0]["run"]["id"]

    def test_the_same_findings_keep_their_decisions_and_others_do_not(self, run, images, tmp_path):
        def key(summary):
            return page_of(summary)[0]["run"]["id"]

        first = key(review(run))
        assert key(review(run, limit=3, sort="class", out=tmp_path / "x.html")) == first
        given, noise = Manifest.read(images).given, np.arange(40) / 50
        corrected = np.where(np.arange(40) == 39, given, (given + 1) % 10)
        changes = ({"noise": noise / 2 + 0.4}, {"noise": noise, "corrected": corrected})
        others = {key(review(make_run(tmp_path / "other", images, **change))) for change in changes}
        assert len(others - {first}) == 2

    def test_two_calls_give_the_same_bytes(self, description):
        review(description)
        review(description, out=description / "again.html")
        assert (description / "review.html").read_bytes() == (description / "again.html").read_bytes()


class TestHostileNames:
    @pytest.fixture
    def hostile(self, tmp_path):
        """Classes and files with names of the worst kind, from a Parquet manifest."""
        folder = tmp_path / "images"
        folder.mkdir()
        files = [f"{row}'\"<script>alert(1)<_script> \N{RIGHT-TO-LEFT OVERRIDE}.png" for row in range(10)]
        for file in files:
            (folder / file).write_bytes(encode(np.zeros((8, 8), np.uint8)))
        pq.write_table(pa.table({"file_name": files, "label": HOSTILE * 2}), folder / "m.parquet")
        return make_run(tmp_path / "run", folder / "m.parquet", noise=[0.9] * 10, with_summary=True)

    def test_they_are_text(self, hostile):
        data, text = page_of(review(hostile))
        assert set(data["class_names"]) == set(HOSTILE)
        assert "<img src=x" not in text
        assert "<script>alert" not in text
        assert text.count("$x_1$") >= 2
        assert {sample["file"] for sample in data["samples"]} == {
            row["file_name"] for row in pq.read_table(hostile / "corrections.parquet").to_pylist()
        }


def texts_of(chart):
    return [part.text for part in ElementTree.fromstring(chart["svg"]).iter() if part.tag.endswith("text")]


class TestCharts:
    def charts(self, description, names=tuple("0123456789"), matrix=None):
        opened = Corrections.open(description)
        summary = json.loads((description / "summary.json").read_text())
        if matrix is not None:
            summary["transition_matrix"] = matrix.tolist()
        epochs = pq.read_table(description / "epochs.parquet")
        return list(all_charts(Survey.of(opened, 10), list(names), summary, epochs))

    def test_they_fit_a_strict_policy_and_the_page_s_colours(self, description):
        found = [drawn(chart) for chart in self.charts(description)]
        assert len(found) == 5
        used = []
        for chart in found:
            root = ElementTree.fromstring(chart["svg"])
            assert root.attrib["role"] == "img"
            assert [child.tag.rpartition("}")[2] for child in root[:2]] == ["title", "desc"]
            assert root[0].text == chart["title"]
            assert root[1].text
            named = {element.get("id") for element in root.iter()} - {None}
            used += sorted(named)
            assert set(root.attrib["aria-labelledby"].split()) <= named
            for element in root.iter():
                assert element.tag.rpartition("}")[2] not in ("style", "script", "metadata", "image")
                assert "style" not in element.attrib
                for name in ("fill", "stroke"):
                    assert element.get(name, "none") in ("none", *COLOURS_OF_PAGE), element.attrib
                for value in (element.get("href", ""), element.get("clip-path", "")):
                    if value:
                        assert value.removeprefix("url(").removesuffix(")")[1:] in named
        assert len(used) == len(set(used))

    def test_of_many_classes_the_most_confused(self, description):
        matrix = np.eye(40)
        matrix[7, [7, 33]] = 0.6, 0.4
        chart = drawn(self.charts(description, [f"class {label}" for label in range(40)], matrix)[0])
        assert "30 most confused of 40" in chart["caption"]
        texts = texts_of(chart)
        assert texts.count("class 7") == texts.count("class 33") == 2
        assert sum(str(text).startswith("class ") for text in texts) == 60
        assert "class 7 labelled class 33: 40.0%" in chart["svg"]

    def test_names_stay_text(self, description):
        names = [*HOSTILE, *"fghij"]
        chart = drawn(self.charts(description, names)[0])
        texts = texts_of(chart)
        assert "$x_1$ & \"'" in texts
        assert "<img src=x onerro"[:17] + "…" in texts
        assert all(str(text).isprintable() for text in texts)

    def test_a_matplotlib_that_is_set_up_otherwise(self, description):
        import matplotlib

        scores = self.charts(description)[1]
        plain = drawn(scores)
        with matplotlib.rc_context({"font.size": 40, "svg.fonttype": "path", "axes.facecolor": "red"}):
            assert drawn(scores) == plain

    def test_a_gaussian_mixture(self, description):
        summary = json.loads((description / "summary.json").read_text())
        for name, mean in (("clean", 0.1), ("noisy", 0.7)):
            summary["diagnostics"]["mixture"][name] = {"variance": 0.01, "weight": 0.5, "mean": mean}
        (description / "summary.json").write_text(json.dumps(summary))
        chart = self.charts(description)[2]
        assert "around a loss relative to its class of -0.08" in chart.description
        assert drawn(chart)["title"] == chart.title


COLOURS_OF_PAGE = [f"var(--{name})" for name in ("ink", "muted", "line", "accent", "accent-2")]


class TestMultiLabel:
    @pytest.fixture
    def multi(self, tmp_path):
        """Three rows with several labels, in the schema of the contract; class "c" is new in row 0, "a" wrong in 1."""
        names = ["a", "b", "c"]
        rows = [
            (["a"], ["a", "c"], ["c"], [], [0.9, 0.1, 0.8], [0.1, 0.1, 0.9], True),
            (["a", "b"], ["b"], [], ["a"], [0.2, 0.9, 0.1], [0.95, 0.1, 0.1], True),
            ([], [], [], [], [0.1, 0.1, 0.3], [0.1, 0.1, 0.3], False),
        ]
        given, corrected, added, removed, probs, class_noise, flagged = zip(*rows, strict=True)
        noise = np.array(class_noise, np.float32).max(axis=1)
        labels, numbers = pa.list_(pa.string()), pa.list_(pa.float32(), 3)
        columns = {
            "sample_id": pa.array([0, 1, 2], pa.int64()), "file_name": ["0.png", "1.png", "2.png"],
            "given_label": pa.array(given, labels), "noise_score": noise, "label_score": 1 - noise,
            "is_label_issue": pa.array(flagged), "corrected_label": pa.array(corrected, labels),
            "corrected_confidence": np.array([0.8, 0.8, 0.7], np.float32),
            "label_distribution": pa.array(probs, numbers), "predicted_label": pa.array(corrected, labels),
            "predicted_probs": pa.array(probs, numbers), "is_trusted": [False] * 3, "is_valid": [True] * 3,
            "error": pa.nulls(3, pa.string()), "class_noise_scores": pa.array(class_noise, numbers),
            "added_labels": pa.array(added, labels), "removed_labels": pa.array(removed, labels),
        }  # fmt: skip
        table = pa.table(columns)
        for row in range(3):
            (tmp_path / f"{row}.png").write_bytes(encode(np.full((8, 8), row, np.uint8)))
        pd.DataFrame({"file_name": columns["file_name"], "label": names}).to_csv(
            tmp_path / "m.csv", index=False
        )
        manifest = Manifest.read(tmp_path / "m.csv")
        metadata = {
            "method": "cross-entropy", "seed": 0, "task": "multi", "class_names": names, "fit_ok": True,
            "labelfix_version": "0.1.0", "noise_rate": 0.3, "source_fingerprint": manifest.fingerprint,
            "schema_version": 1, "out_of_sample": False, "resumed_elsewhere": False, "flag_rule": "a rule",
        }  # fmt: skip
        table = table.replace_schema_metadata({corrections.METADATA_KEY: json.dumps(metadata).encode()})
        pq.write_table(table, tmp_path / "corrections.parquet")
        return tmp_path

    def test_added_and_removed_labels(self, multi):
        data, text = page_of(review(multi / "corrections.parquet", source=multi / "m.csv"))
        first, second = data["samples"]
        assert data["run"]["task"] == "multi"
        assert (first["id"], first["given"], first["corrected"], first["added"], first["removed"]) == (
            1, [0, 1], [1], [], [0],
        )  # fmt: skip
        assert (second["id"], second["given"], second["corrected"], second["added"], second["removed"]) == (
            0, [0], [0, 2], [2], [],
        )  # fmt: skip
        assert first["likely"] == [[1, pytest.approx(0.9)], [0, pytest.approx(0.2)], [2, pytest.approx(0.1)]]
        assert "a, b" in text

    def test_flagged_classes_are_suggested_too_where_the_method_corrects_nothing(self, multi):
        path = multi / "corrections.parquet"
        table = pq.read_table(path)
        metadata = json.loads(table.schema.metadata[corrections.METADATA_KEY])
        metadata["flag_above"] = [0.05, 0.5, 0.2]
        text = json.dumps(metadata).encode()
        pq.write_table(table.replace_schema_metadata({corrections.METADATA_KEY: text}), path)
        data, _ = page_of(review(path, source=multi / "m.csv", limit=3))
        rows = {row["id"]: row for row in data["samples"]}
        assert (rows[0]["corrected"], rows[0]["suggested"]) == ([0, 2], [2])
        assert (rows[0]["added"], rows[0]["removed"]) == ([2], [0])
        assert rows[0]["confidence"] == pytest.approx(0.1), "that a is gone"
        assert rows[1]["suggested"] == rows[1]["corrected"] == [1]
        assert (rows[2]["suggested"], rows[2]["added"]) == ([], []), "a row that is not flagged"

    def test_numbers(self, multi):
        survey = Survey.of(Corrections.open(multi / "corrections.parquet"), 10)
        assert survey.counts["corrected"] == survey.counts["flagged"] == 2
        assert survey.pairs == {("a", "a, c"): 1, ("a, b", "b"): 1}
        assert survey.by_class.tolist() == [[2, 1, 0], [2, 1, 0], [2, 1, 0]]
        assert survey.noise_by_class == [pytest.approx((0.1 + 0.95) / 2), pytest.approx(0.1), None]

    @pytest.mark.parametrize("sort", REVIEW_SORTS)
    def test_sorts(self, multi, sort):
        found = ids(review(multi / "corrections.parquet", source=multi / "m.csv", sort=sort, limit=3))
        assert found == {"score": [1, 0, 2], "class": [2, 0, 1], "confusion": [0, 1, 2]}[sort]


class TestRefused:
    def test_options(self, run, images, tmp_path):
        refuses("--sort age", "score, class, confusion", corrections=run, sort="age")
        refuses("--limit 0", corrections=run, limit=0)
        copy = shutil.copytree(images, tmp_path / "copy")
        refuses("lies in the source", corrections=run, out=copy / "x.html", source=copy)
        assert not list(tmp_path.rglob("*.html"))


class TestCommandLine:
    def invoke(self, *words):
        return CliRunner().invoke(cli, ["review", *map(str, words)])

    def test_says_what_it_made(self, run, tmp_path):
        done = self.invoke(run, "--limit", 3, "--sort", "class", "--out", tmp_path / "page.html")
        assert done.exit_code == 0, done.output
        assert f"{tmp_path / 'page.html'}: 3 rows to review" in done.stdout
        assert "--limit" in done.stdout
        assert done.stderr == ""

    def test_json(self, run, images, tmp_path):
        ImageStore.open_or_build(Manifest.read(images), 8)
        images.rename(tmp_path / "moved")
        done = self.invoke(run, "--json")
        assert json.loads(done.stdout)["pictures"] == "store"
        assert "--source" in done.stderr

    def test_the_public_name_can_be_called_whatever_was_imported_before(self, run):
        """And the page is made without torch."""
        show = f"print(labelfix.review({str(run)!r}, limit=3)['shown'], 'torch' in sys.modules)"
        code = f"import sys, labelfix.reviews.page; {show}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "3 False"
        assert labelfix.review(run, limit=2)["shown"] == 2

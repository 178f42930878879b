"""Files that somebody changed: every command that reads them ends with 0 or 2, and with one line where it is 2."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import write_digits
from onnx_files import onnx_file
from refusals import refuses, refuses_source
from runs import StopAt
from safetensors.torch import load_file, save_file

import labelfix
from labelfix.cli import main
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.results.corrections import METADATA_KEY, Corrections
from labelfix.training import checkpoint

QUICK = {"epochs": 1, "method": "cross-entropy", "batch_size": 16, "image_size": 8, "precision": "fp32"}
SCAN = [word for name, value in QUICK.items() for word in (f"--{name.replace('_', '-')}", value)]
WRONG = (None, -1, 1e308, "x", "\ud800", "\0", [], {}, [[]], 10**400, True)
HUGE = "[" * 100_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A source of 40 digits, a finished run over it, and one that stopped before its findings."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        write_digits(folder / "images", 40)
        labelfix.scan("images", out="run", **QUICK)
        with pytest.raises(KeyboardInterrupt):
            labelfix.scan("images", out="stopped", reporter=StopAt(None), **QUICK)
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch, capfd):
    """A copy to tamper with; `ends` runs a command there and checks how it ends."""
    monkeypatch.setenv("LABELFIX_CACHE", str(made / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("run", "stopped"):
        shutil.copytree(made / name, tmp_path / name)
    config = (tmp_path / "run" / "config.json").read_text()
    assert str(made / "images") in config

    def ends(*args, code=None):
        monkeypatch.setattr(sys, "argv", ["labelfix", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            main()
        line = capfd.readouterr().err
        assert end.value.code in ((0, 2) if code is None else (code,)), (args, line)
        if end.value.code == 2:
            said = [each for each in line.splitlines() if not each.startswith("warning: ")]
            assert len(said) == 1
        return line

    return SimpleNamespace(folder=tmp_path, images=made / "images", ends=ends)


def changed(value, depth=4):
    """The same JSON value many times, each time with one of its parts replaced by what it cannot be."""
    if depth and isinstance(value, dict):
        for name, inner in value.items():
            yield {other: part for other, part in value.items() if other != name}
            yield from ({**value, name: part} for part in changed(inner, depth - 1))
    if depth and isinstance(value, list) and value:
        yield from ([part, *value[1:]] for part in changed(value[0], depth - 1))
        yield [*value, *value]
    yield from (wrong for wrong in WRONG if type(wrong) is not type(value) or wrong != value)


def tampered(path):
    """Write each of these in place of a file, and what is no JSON at all."""
    whole = path.read_text()
    for value in changed(json.loads(whole)):
        path.write_text(json.dumps(value))
        yield
    for text in ("", HUGE, whole[:-9], '{"a": NaN}', '{"config": 1e999}'):
        path.write_text(text)
        yield
    path.write_text(whole)


def with_metadata(path, metadata):
    table = pq.read_table(path)
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: text}), path)


class TestCorrections:
    def test_metadata(self, place):
        path = place.folder / "run" / "corrections.parquet"
        metadata = Corrections.open(path).metadata
        for value in [*changed(metadata), HUGE.encode(), b"\xff", {**metadata, "class_names": ["a"] * 10}]:
            with_metadata(path, value)
            place.ends("export", "run", "--to", "csv", "--out", "x.csv")
        with_metadata(path, {**metadata, "class_names": metadata["class_names"][:-1]})
        for args in (("review", "run"), ("export", "run"), ("evaluate", "run", "--truth", place.images)):
            assert "not as labelfix writes it" in place.ends(*args, code=2)

    @pytest.mark.parametrize(
        ("column", "values"),
        [
            ("sample_id", np.arange(40)[::-1]),
            ("noise_score", np.full(40, np.nan, np.float32)),
            ("noise_score", np.full(40, 1e30, np.float32)),
            ("label_distribution", pa.array([[-1.0] * 10] * 40, pa.list_(pa.float32(), 10))),
            ("label_distribution", pa.array([[0.5]] * 40, pa.list_(pa.float32(), 1))),
            ("given_label", pa.array(["stranger"] * 40).dictionary_encode()),
            ("corrected_label", pa.array([1] * 40)),
            ("is_valid", pa.array([None] * 40, pa.bool_())),
            ("is_label_issue", pa.array(["no"] * 40)),
            ("file_name", pa.array([b"x"] * 40)),
            ("file_name", pa.array(["a\0b.png"] * 40)),
            ("file_name", pa.array([None] * 40, pa.string())),
            ("error", None),
            ("predicted_probs", None),
        ],
    )
    def test_columns(self, place, column, values):
        path = place.folder / "run" / "corrections.parquet"
        table = pq.read_table(path)
        number = table.schema.get_field_index(column)
        table = table.remove_column(number)
        if values is not None:
            table = table.add_column(number, column, pa.chunked_array([pa.array(values)]))
        pq.write_table(table, path)
        line = place.ends("review", "run", code=2)
        assert "is not as labelfix writes it" in line
        assert column in line
        with pytest.raises(InputError, match="is not as labelfix writes it"):
            labelfix.read_corrections(path)

    def test_names_that_are_no_text(self, place):
        path = place.folder / "run" / "corrections.parquet"
        table = pq.read_table(path)
        number = table.schema.get_field_index("file_name")
        broken = pa.array([b"\xff\xfe.png"] * 40, pa.binary()).view(pa.string())
        pq.write_table(table.set_column(number, table.field(number), broken), path)
        for command in ("export", "review"):
            assert "cannot be read" in place.ends(command, "run", code=2)

    @pytest.mark.parametrize(
        "values", [pa.array([1] * 40, pa.timestamp("s", "Mars/Phobos")), pa.array([2**30] * 40, pa.date32())]
    )
    def test_values_of_ones_own_that_no_text_can_hold(self, place, values):
        path = place.folder / "run" / "corrections.parquet"
        pq.write_table(pq.read_table(path).append_column("when", values), path)
        for to in ("csv", "jsonl", "labelstudio"):
            place.ends("export", "run", "--to", to, "--out", f"out-{to}" + f".{to}" * (to != "labelstudio"))

    def test_broken_pages(self, place):
        path = place.folder / "run" / "corrections.parquet"
        data = bytearray(path.read_bytes())
        data[4:400] = b"\xff" * 396
        path.write_bytes(data)
        for command in ("export", "review"):
            assert "cannot be read" in place.ends(command, "run", code=2)


def test_the_config_of_a_run(place):
    for _ in tampered(place.folder / "run" / "config.json"):
        place.ends("export", "run", "--to", "csv", "--out", "x.csv")
        place.ends("scan", place.images, "--out", "run", "--dry-run", *SCAN)
    assert "missing, or of another kind" in _with(place, "run/config.json", {"source": 7}, "export", "run")
    for _ in tampered(place.folder / "stopped" / "config.json"):
        place.ends("scan", place.images, "--out", "stopped", "--dry-run", *SCAN)


def _with(place, name, value, *args):
    (place.folder / name).write_text(json.dumps(value))
    return place.ends(*args, code=2)


def test_the_summary_of_a_run(place, monkeypatch):
    """As much of it as a page shows, of a method with a mixture."""

    def drawn(chart):  # charts take seconds, and so do thumbnails
        return {"title": chart.title, "caption": chart.caption, "svg": ""}

    def add_pictures(samples, *_):
        for sample in samples:
            sample["href"], sample["thumb"] = "", ""

    path = place.folder / "run" / "summary.json"
    clean = {"alpha": 0.5, "beta": 9.0, "weight": 0.8, "mean": 0.05}
    noisy = {"variance": 0.1, "weight": 0.2, "mean": 0.75}
    loss = {"loss_low": -0.4, "loss_high": 2.8, "loss_histogram": [3, 2, 1], "loss_kind": "loss"}
    diagnostics = {"mixture": {"clean": clean, "noisy": noisy}, **loss}
    matrix = np.eye(10).tolist()
    summary = {"fit_reason": "", "transition_matrix": matrix, "diagnostics": diagnostics}
    path.write_text(json.dumps(summary))
    monkeypatch.setattr("labelfix.reviews.report.drawn", drawn)
    monkeypatch.setattr("labelfix.reviews._add_pictures", add_pictures)
    for _ in tampered(path):
        place.ends("review", "run", "--limit", "1")


def test_the_description_of_a_classifier(place, monkeypatch):
    path = place.folder / "run" / "classifier" / "classifier.json"
    facts = json.loads(path.read_text())
    for _ in tampered(path):
        place.ends("predict", "run", place.images / "none")
    network, normalisation, many = facts["network"], facts["normalisation"], 200_000
    wrong = [
        {"network": {**network, "backbone": "vit_h_14"}},
        {"network": {**network, "backbone": "nothing"}},
        {"normalisation": {**normalisation, "std": [0.0, 1, 1]}},
        {"normalisation": {**normalisation, "mean": [0.0, 1]}},
        {"network": {**network, "num_classes": many}, "class_names": [str(number) for number in range(many)]},
    ]
    build = labelfix.networks.build

    def on_paper_only(spec):
        assert torch.empty(0).is_meta, "memory before the file is known to fit"
        return build(spec)

    monkeypatch.setattr("labelfix.results.classifier.networks.build", on_paper_only)
    for change in wrong:
        path.write_text(json.dumps({**facts, **change}))
        refuses(labelfix.load_classifier, "classifier cannot be read", folder="run")


@pytest.fixture(scope="module")
def seen(made):
    """A finished run through an ONNX encoder."""
    path = onnx_file(made / "own.onnx", size=8, cell=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(made / "cache"))
        labelfix.scan(made / "images", out=made / "seen", encoder=str(path), folds=2, **QUICK)
    return made / "seen"


def test_the_description_of_a_classifier_on_an_encoder(place, seen):
    shutil.copytree(seen, place.folder / "seen")
    path = place.folder / "seen" / "classifier" / "classifier.json"
    facts = json.loads(path.read_text())
    network = facts["network"]
    size, num_features = network["onnx_shape"]
    for _ in tampered(path):
        place.ends("predict", "seen", place.images / "none")
    for wrong in (
        {"onnx_shape": [size]},
        {"onnx_shape": [size, num_features, 1]},
        {"onnx_shape": [size + 1, num_features]},
        {"onnx_shape": [size, num_features + 1]},
        {"onnx_shape": [2**40, num_features]},
        {"onnx_shape": [size, 2**40]},
        {"views": 0},
        {"views": 3},
        {"backbone": "lite0"},
        {"backbone": "small"},
        {"backbone": "timm:test_resnet"},
        {"backbone": "timm:no_such_model"},
        {"backbone": "timm:"},
    ):
        path.write_text(json.dumps({**facts, "network": {**network, **wrong}}))
        with pytest.raises(InputError, match="classifier cannot be read"):
            labelfix.load_classifier("seen")
    path.write_text(json.dumps(facts))
    assert labelfix.load_classifier("seen").spec.views == 1
    weights = path.parent / "model.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "encoder.encoder.content": torch.zeros(size, dtype=torch.uint8)}, weights)
    line = place.ends("predict", "seen", place.images, code=2)
    assert "model.safetensors: it cannot be opened" in line


def test_what_was_tuned_in_an_unfinished_run(place):
    path = place.folder / "stopped" / "config.json"
    saved = json.loads(path.read_text())
    for tune in ("none", "some"):
        path.write_text(json.dumps({**saved, "config": {**saved["config"], "tune": tune}}))
        assert "unfinished run with another tune" in place.ends(
            "scan", place.images, "--out", "stopped", *SCAN, code=2
        )


def test_weights_whose_header_lies(place):
    path = place.folder / "run" / "classifier" / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    huge = {**header, name: {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    for lie in (huge, {**header, name: 1}, {}, []):
        text = json.dumps(lie).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        refuses(labelfix.load_classifier, "classifier cannot be read", folder="run")
    path.write_bytes(b"\xff" * 100)
    refuses(labelfix.load_classifier, "classifier cannot be read", folder="run")


class TestCheckpoints:
    def newest(self, place):
        return max((place.folder / "stopped" / "checkpoint").glob("*.json"))

    def test_one_of_another_kind_is_passed_over(self, place, monkeypatch):
        """As damaged ones: training starts where the one before it was, here anew."""
        path = self.newest(place)
        for other in path.parent.glob("*.json"):
            if other != path:
                other.unlink()
        record = json.loads(path.read_text())
        starts = []

        def stopped(trainer, *_):
            starts.append(trainer.position.epoch)
            raise InputError("stopped")

        monkeypatch.setattr("labelfix.training.trainer.Trainer.epochs", stopped)
        whole = path.read_text()
        place.ends("scan", place.images, "--out", "stopped", *SCAN, code=2)
        assert starts == [1]
        for _ in (path.write_text(json.dumps(value)) for value in changed(record)):
            place.ends("scan", place.images, "--out", "stopped", *SCAN, code=2)
        assert set(starts[1:]) <= {0, 1}
        facts = record["facts"]
        for wrong in ({"epoch": 10**9}, {"epoch": "1"}, {"step": 10**9}, {"loss_names": ["a", "b", "c"]}):
            starts.clear()
            position = {**facts["position"], **wrong}
            path.write_text(json.dumps({**record, "facts": {**facts, "position": position}}))
            place.ends("scan", place.images, "--out", "stopped", *SCAN, code=2)
            assert starts == [0], wrong
        path.write_text(whole)

    def test_tensors_of_another_training(self, place):
        folder = place.folder / "stopped" / "checkpoint"
        facts = json.loads(self.newest(place).read_text())["facts"]
        checkpoint.save(folder, 7, {"loss_sums": torch.zeros(1)}, facts)
        place.ends("scan", place.images, "--out", "stopped", *SCAN, code=0)


def with_class_names(folder, metadata):
    """A table whose Hugging Face metadata are these bytes."""
    table = pa.table({"file_name": ["0.png", "1.png"], "label": [0, 1]})
    pq.write_table(table.replace_schema_metadata({b"huggingface": metadata}), folder / "x.parquet")
    return folder / "x.parquet"


def named(names):
    return json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}).encode()


@pytest.mark.parametrize(
    "names", [7, "abc", {"a": 1}, ["a", 7], ["a", None], ["a", "a"], [""], ["\ud800", "b"]]
)
def test_class_names_in_huggingface_metadata(tmp_path, names):
    refuses_source(with_class_names(tmp_path, named(names)), "class names of 'label'")


def test_huge_huggingface_metadata(tmp_path):
    deep = with_class_names(tmp_path, b'{"info": ' + HUGE.encode())
    assert Manifest.read(deep).class_names == ("0", "1")
    many = with_class_names(tmp_path, named([str(number) for number in range(100_001)]))
    assert len(refuses_source(many, "no list of at most 100,000 texts")) < 300

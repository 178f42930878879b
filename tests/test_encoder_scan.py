"""Scans through an encoder: what holds of every method's head, of fine-tuning, and of what such a run leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from conftest import write_digits
from onnx_files import onnx_file
from processes import kill
from processes import labelfix as program
from refusals import refuses
from runs import Messages, StopAt, findings_of, result_bytes
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.errors import InputError
from labelfix.methods import method_class, method_names
from labelfix.reporting import Silent
from labelfix.scan_plan import ScanPlan
from labelfix.training import features, setup

ROWS = 300
HEAD = {"epochs": 10, "image_size": 16, "batch_size": 32, "settings": {"learning_rate": "0.05"}}
TUNE = {"method": "cross-entropy", "epochs": 2, "image_size": 32, "batch_size": 20, "tune": "all"}
PROBED = {**TUNE, "method": "bmm"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """`images`: 300 digits, a fifth of the labels wrong, three of each class verified; `check`: 50; encoders."""
    folder = tmp_path_factory.mktemp("world")
    truth = write_digits(folder / "images", ROWS, "symmetric-exclusive:0.2")
    write_digits(folder / "check", 50)
    onnx_file(folder / "own.onnx", cell=2)
    rows = [row for label in range(10) for row in np.flatnonzero(truth == label)[:3]]
    names = sorted(str(path.relative_to(folder / "images")) for path in (folder / "images").rglob("*.png"))
    lines = "".join(f"{names[row]},{truth[row]}\n" for row in rows)
    (folder / "trusted.csv").write_text("file_name,label\n" + lines)
    torch.manual_seed(0)
    tiny = timm.create_model("test_resnet", num_classes=0)
    save_file(tiny.state_dict(), folder / "tiny.safetensors")
    return folder, truth


@pytest.fixture(scope="module", autouse=True)
def shared_cache(world):
    """Images are decoded, and encoded, once for all tests."""
    return world[0] / "cache"


@pytest.fixture(autouse=True)
def cache(shared_cache, monkeypatch):
    monkeypatch.setenv("LABELFIX_CACHE", str(shared_cache))
    return shared_cache


def head(world, out, method="cross-entropy", **options):
    folder = world[0]
    trusted = folder / "trusted.csv" if method_class(method).needs_trusted else None
    given = {"encoder": folder / "own.onnx", "trusted": trusted, **HEAD, **options}
    return labelfix.scan(folder / "images", out=out, method=method, **given)


def tuned(world, out, **options):
    weights = str(world[0] / "tiny.safetensors")
    given = {"encoder": "timm:test_resnet", "weights": weights, **TUNE, **options}
    return labelfix.scan(world[0] / "images", out=out, rows=60, **given)


def precision(run, truth) -> tuple[float, float]:
    """Average precision of the scores, and what chance would have."""
    found = findings_of(run)
    scored = ~found.is_trusted.to_numpy()
    wrong = (found.given_label.astype(int).to_numpy() != truth)[scored]
    return average_precision_score(wrong, found.noise_score[scored]), wrong.mean()


@pytest.mark.parametrize("method", method_names())
def test_a_head_of_every_method_finds_wrong_labels_the_same_way_twice(world, tmp_path, method):
    first, second = (head(world, tmp_path / name, method) for name in ("first", "second"))
    found, chance = precision(first, world[1])
    assert found > 2.5 * chance
    assert result_bytes(first.out, with_card=True) == result_bytes(second.out, with_card=True)
    assert first.summary["out_of_sample"]
    config = json.loads((first.out / "config.json").read_text())["config"]
    assert (config["tune"], config["folds"], config["backbone"], config["flip"]) == ("none", 5, "onnx", False)
    epochs = pq.read_table(first.out / "epochs.parquet").to_pandas()
    assert epochs.fold.nunique() == 5


def test_the_number_of_folds_is_that_asked_for(world, tmp_path):
    run = head(world, tmp_path / "run", folds=3, epochs=2)
    assert pq.read_table(run.out / "epochs.parquet").to_pandas().fold.nunique() == 3


def test_a_scan_that_is_killed_again_and_again_comes_to_the_same_bytes(world, tmp_path):
    """While it encodes, in the midst of a fold, and in that of the training on all rows."""
    options = (
        "scan", world[0] / "images", "--encoder", world[0] / "own.onnx", "--method", "cross-entropy",
        "--epochs", "3", "--image-size", "16", "--batch-size", "32",
    )  # fmt: skip
    whole = program(*options, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    shutil.rmtree(world[0] / "cache" / "features")
    for moment in (("encode", 2), ("fold 3 of 5", 4), ("train", 5)):
        kill(*moment, *options, "--out", "run", cwd=tmp_path)
        assert not (tmp_path / "run" / "corrections.parquet").exists()
    resumed = program(*options, "--out", "run", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert result_bytes(tmp_path / "run") == result_bytes(tmp_path / "whole")


def test_an_encoder_that_fails_leaves_no_run(world, tmp_path):
    onnx_file(tmp_path / "scalar.onnx", output="scalar")
    refuses(head, "scalar.onnx", world=world, out=tmp_path / "run", encoder=str(tmp_path / "scalar.onnx"))
    onnx_file(tmp_path / "root.onnx", root=True)
    words = "root.onnx: what it gives for the image of row 0 is not finite", "take another encoder"
    refuses(head, *words, world=world, out=tmp_path / "run", encoder=str(tmp_path / "root.onnx"))
    assert not (tmp_path / "run").exists()
    refuses(tuned, "not weights", world=world, out=tmp_path / "run", encoder="timm:test_vit")
    assert not (tmp_path / "run").exists()


def test_what_auto_meant_holds_for_an_unfinished_run(world, tmp_path):
    """Also on another machine, and it says nothing of a scan without an encoder."""
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        head(world, out, reporter=StopAt(1), folds=2)
    config = json.loads((out / "config.json").read_text())
    assert config["asked"]["tune"] == "auto"
    assert config["environment"]["packages"].keys() >= {"onnxruntime"}
    refuses(labelfix.scan, "unfinished run with another", "backbone", source=world[0] / "images", out=out)

    def settled(**options):
        return ScanPlan.of(world[0] / "images", options, Silent()).config

    assert settled(out=out).backbone == "small"
    config["config"]["tune"] = "all"  # as on a GPU
    (out / "config.json").write_text(json.dumps(config))
    options = {"out": out, "encoder": "timm:test_resnet", "weights": str(world[0] / "tiny.safetensors")}
    assert settled(**options).tune == "all"
    assert settled(overwrite=True, **options).tune == "none"


@pytest.mark.parametrize("method", ["meta", "mixmatch", "bmm"])
def test_rows_in_no_fold_are_predicted_as_by_the_classifier(world, tmp_path, method):
    """These are the verified ones; images of a size that is seen in four views, of which the classifier sees two."""
    large = onnx_file(tmp_path / "large.onnx", size=96, cell=16)
    options = {"encoder": str(large), "image_size": 96, "epochs": 4, "settings": {"flip": "true"}}
    run = head(world, tmp_path / "run", method, trusted=world[0] / "trusted.csv", **options)
    found = findings_of(run)
    rows = found.index[found.is_trusted]
    assert len(rows) == 30
    paths = sorted((world[0] / "images").rglob("*.png"))
    predicted = labelfix.load_classifier(run.out).predict([paths[row] for row in rows])
    # Features are kept as float16.
    ours, theirs = np.stack(found.predicted_probs[rows]), np.stack(predicted.predicted_probs)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    assert (found.corrected_label[rows].astype(int) == world[1][rows]).all()
    others = found[~found.is_trusted]
    assert others.noise_score.between(0, 1).all()


def test_a_run_outlives_its_source_and_its_encoder(world, tmp_path):
    shutil.copytree(world[0] / "images", tmp_path / "images")
    shutil.copy(world[0] / "own.onnx", tmp_path)
    options = {**HEAD, "method": "joint", "encoder": str(tmp_path / "own.onnx")}
    run = labelfix.scan(tmp_path / "images", out=tmp_path / "run", test=world[0] / "check", **options)
    assert run.summary["test_accuracy"] > 0.5
    (tmp_path / "own.onnx").unlink()
    (tmp_path / "images").rename(tmp_path / "gone")
    files = sorted((world[0] / "check").rglob("*.png"))
    found = labelfix.load_classifier(run.out).predict(files)
    right = found.predicted_label.to_numpy() == [path.parent.name for path in files]
    assert right.mean() == pytest.approx(run.summary["test_accuracy"], abs=0.021)
    summary = labelfix.predict(run.out, world[0] / "check", out=tmp_path / "found.parquet")
    assert summary["predicted"] == 50
    table = pq.read_table(tmp_path / "found.parquet").to_pandas()
    np.testing.assert_allclose(np.stack(table.predicted_probs), np.stack(found.predicted_probs), atol=1e-4)


def test_its_findings_are_reviewed_and_exported(world, tmp_path):
    run = head(world, tmp_path / "run", "joint")
    labelfix.review(run.out, out=tmp_path / "page.html")
    assert "own.onnx" in (tmp_path / "page.html").read_text()
    assert labelfix.export(run.out, to="csv", out=tmp_path / "found.csv")["rows"] == ROWS
    assert labelfix.export(run.out, to="cleanlab", out=tmp_path / "found")["rows"] == ROWS


def test_a_second_scan_encodes_nothing(world, tmp_path, monkeypatch):
    head(world, tmp_path / "first", epochs=2)
    monkeypatch.setattr(features, "_build", None)
    head(world, tmp_path / "second", epochs=2, method="bmm")


def test_fine_tuning_trains_all_weights_and_resumes(world, tmp_path):
    whole = tuned(world, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tuned(world, tmp_path / "run", reporter=StopAt(4))
    resumed = tuned(world, tmp_path / "run")
    assert result_bytes(resumed.out) == result_bytes(whole.out)
    first, last = (
        load_file(path) for path in (world[0] / "tiny.safetensors", whole.classifier / "model.safetensors")
    )
    assert last.keys() == {f"encoder.{name}" for name in first} | {
        "head.mean", "head.scale", "head.linear.weight", "head.linear.bias"
    }  # fmt: skip
    same = [name for name, value in first.items() if torch.equal(value, last[f"encoder.{name}"])]
    assert not same
    config = json.loads((whole.out / "config.json").read_text())["config"]
    assert (config["tune"], config["folds"], config["preset"]) == ("all", 0, "fast-tune")
    paths = sorted((world[0] / "images").rglob("*.png"))[:60]
    found = labelfix.load_classifier(whole.out).predict(paths)
    np.testing.assert_allclose(
        np.stack(found.predicted_probs), np.stack(findings_of(whole).predicted_probs), atol=1e-4
    )


class TestLinearProbe:
    """A head on the encoder as it was, whose held-out predictions are believed beside those of the fine-tuning."""

    def test_it_is_trained_in_folds_and_a_scan_that_stops_in_one_ends_with_the_same_bytes(
        self, world, tmp_path
    ):
        whole = tuned(world, tmp_path / "whole", **PROBED)
        for stage, steps in (("probe fold 2 of 5", 2), ("train", 4)):
            with pytest.raises(KeyboardInterrupt):
                tuned(world, tmp_path / "run", reporter=StopAt(steps, stage), **PROBED)
        resumed = tuned(world, tmp_path / "run", **PROBED)
        assert result_bytes(resumed.out) == result_bytes(whole.out)
        epochs = pq.read_table(whole.out / "epochs.parquet").to_pandas()
        assert epochs.groupby("method").fold.nunique().to_dict() == {"bmm": 0, "probe": 5}
        said = whole.summary["diagnostics"]["networks"]
        assert said["log_likelihood"].keys() == {"network", "probe"}
        assert set(said["taken"]) <= {"network", "probe"}
        config = json.loads((whole.out / "config.json").read_text())["config"]
        assert (config["probe"]["tune"], config["probe"]["folds"]) == ("none", 5)
        assert "a linear probe" in (whole.classifier / "README.md").read_text()
        assert "dimension" in whole.summary["copies"]  # its features tell near copies too

    @pytest.mark.parametrize(
        "options",
        [{"folds": 2}, {"holdout": 0.0}, {"settings": {"score_from": "method"}}, {"method": "cross-entropy"}],
    )
    def test_there_is_none_where_nothing_weighs_it_or_findings_are_read_another_way(
        self, world, tmp_path, options
    ):
        weights = str(world[0] / "tiny.safetensors")
        asked = {"encoder": "timm:test_resnet", "weights": weights, **PROBED, **options}
        plan = labelfix.plan(world[0] / "images", out=tmp_path / "run", **asked)
        assert "probe" not in plan
        assert "estimated_encoding_seconds" not in plan

    def test_a_dry_run_counts_it(self, world, tmp_path):
        weights = str(world[0] / "tiny.safetensors")
        asked = {"encoder": "timm:test_resnet", "weights": weights, **PROBED}
        plan = labelfix.plan(world[0] / "images", out=tmp_path / "run", **asked)
        assert (plan["probe"]["folds"], plan["probe"]["image_size"]) == (5, 32)
        assert plan["features_bytes"] > 0
        assert "probe: backbone=lite0, preset=fast-head, image_size=32, folds=5" in program(
            "scan", world[0] / "images", "--dry-run", "--out", tmp_path / "run", "--encoder", "lite0", "--tune", "all",
            "--image-size", "32", "--method", "bmm", cwd=tmp_path,
        ).stdout  # fmt: skip

    def test_too_few_groups_are_said_and_the_network_speaks_alone(self, world, tmp_path):
        paths = sorted((world[0] / "images").rglob("*.png"))[::15]
        lines = "".join(f"{path},{path.parent.name},{index % 3}\n" for index, path in enumerate(paths))
        (tmp_path / "source.csv").write_text("file_name,label,group\n" + lines)
        heard, weights = Messages(), str(world[0] / "tiny.safetensors")
        asked = {"out": tmp_path / "run", "encoder": "timm:test_resnet", "weights": weights, **PROBED}
        assert labelfix.plan(tmp_path / "source.csv", **asked)["features_bytes"] > 0
        run = labelfix.scan(tmp_path / "source.csv", reporter=heard, **asked)
        assert sum("no linear probe" in line and "groups" in line for line in heard.lines) == 1
        assert "networks" not in run.summary["diagnostics"]
        assert "linear probe" not in (run.classifier / "README.md").read_text()

    def test_a_disk_without_room_for_its_images_is_said(self, world, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise InputError("the features need 90 GB")

        monkeypatch.setattr("labelfix.training.setup.open_features", refuse)
        heard = Messages()
        run = tuned(world, tmp_path / "run", reporter=heard, **PROBED)
        assert any("no linear probe" in line and "90 GB" in line for line in heard.lines)
        assert run.summary["fit_reason"]

    def test_several_processes_have_none(self, world, tmp_path, monkeypatch):
        monkeypatch.setattr("labelfix.scan_plan.processes.count", lambda: 2)
        weights = str(world[0] / "tiny.safetensors")
        asked = {"encoder": "timm:test_resnet", "weights": weights, **PROBED}
        assert "probe" not in labelfix.plan(world[0] / "images", out=tmp_path / "run", **asked)

    def test_an_unfinished_run_of_before_there_were_probes_goes_on(self, world, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            tuned(world, tmp_path / "run", reporter=StopAt(4), **PROBED)
        path = tmp_path / "run" / "config.json"
        config = json.loads(path.read_text())
        del config["config"]["probe"]
        path.write_text(json.dumps(config))
        assert "networks" in tuned(world, tmp_path / "run", **PROBED).summary["diagnostics"]

    def test_the_page_names_it(self, world, tmp_path):
        run = tuned(world, tmp_path / "run", **PROBED)
        page = Path(labelfix.review(run.corrections, out=tmp_path / "page.html")["path"]).read_text()
        assert "timm:test_resnet, 32 px, 5 folds" in page


def test_the_packaged_encoder_is_enough_for_a_scan(world, tmp_path):
    run = labelfix.scan(
        world[0] / "images", out=tmp_path / "run", encoder="lite0", image_size=32, rows=60, method="joint", epochs=3,
        settings={"flip": "true"},
    )  # fmt: skip
    found = findings_of(run)
    assert found.noise_score.between(0, 1).all()
    paths = sorted((world[0] / "images").rglob("*.png"))[:60]
    predicted = labelfix.load_classifier(run.out).predict(paths[:10])
    assert predicted.confidence.between(0, 1).all()


class TestDryRun:
    def test_it_tells_how_long_encoding_takes(self, world, tmp_path):
        options = {"out": tmp_path / "run", "encoder": str(world[0] / "own.onnx"), **HEAD}
        plan = labelfix.plan(world[0] / "images", **options)
        assert (plan["backbone"], plan["tune"], plan["folds"]) == ("onnx", "none", 5)
        assert plan["estimated_encoding_seconds"] >= 0
        assert plan["estimated_training_seconds"] >= 0
        assert not (tmp_path / "run").exists()

    def test_nothing_is_encoded_where_all_is_trained(self, world, tmp_path):
        weights = str(world[0] / "tiny.safetensors")
        plan = labelfix.plan(
            world[0] / "images", out=tmp_path / "run", encoder="timm:test_resnet", weights=weights, **TUNE
        )
        assert (plan["tune"], plan["backbone"]) == ("all", "timm:test_resnet")
        assert "estimated_encoding_seconds" not in plan
        assert plan["estimated_training_seconds"] > 0
        assert "estimated_encoding_seconds" not in labelfix.plan(world[0] / "images", out=tmp_path / "run")


@pytest.mark.parametrize(("precision", "is_used"), [("bf16", True), ("fp32", False)])
def test_a_processor_trains_depthwise_convolutions_in_float32(
    world, tmp_path, monkeypatch, precision, is_used
):
    found = []
    monkeypatch.setattr(setup, "depthwise_in_float32", found.append)
    tuned(world, tmp_path / "run", device="cpu", precision=precision, epochs=1)
    assert bool(found) is is_used

"""Several labels a row through an encoder: frozen, under an attention head, or fine-tuned beside a linear probe."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from mosaics import write_mosaics
from refusals import refuses
from runs import Messages, StopAt, result_bytes
from safetensors.torch import save_file

import labelfix
from labelfix.scan_plan import plan


def table(run):
    return pq.read_table(run.corrections).combine_chunks()


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A scan through a small frozen encoder with an attention head: options, out folder, summary, what it said."""
    folder = tmp_path_factory.mktemp("encoded")
    source = write_mosaics(folder / "images", 90)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), folder / "tiny.safetensors")
    options = {
        "source": source, "method": "cross-entropy", "epochs": 3, "image_size": 96, "encoder": "timm:test_resnet",
        "weights": str(folder / "tiny.safetensors"), "folds": 2, "device": "cpu",
        "settings": {"head": "attention", "flip": "true"},
    }  # fmt: skip
    told = Messages()
    return options, labelfix.scan(**options, out=folder / "run", reporter=told), told


class TestMapsOfAFrozenEncoder:
    def test_their_size_is_told(self, encoded):
        options, _, told = encoded
        planned = plan(**options)
        assert planned["features_of_a_view"] == [96, 3, 3]
        assert planned["features_bytes"] == 90 * 2 * 96 * 9 * 2
        assert any("3 x 3 places: 0 MB in the cache for 90 images" in text for text in told.lines)
        vectors = plan(**options | {"settings": {"head": "pool"}})
        assert vectors["features_of_a_view"] == [96]

    def test_the_classifier_answers_as_the_run_does(self, encoded, tmp_path):
        options, run, _ = encoded
        (name, *_) = table(run)["file_name"].to_pylist()
        classifier = labelfix.load_classifier(run.out)
        first = classifier.predict([options["source"].parent / name])
        assert np.isfinite(first["predicted_probs"][0]).all()
        labelfix.predict(run.out, options["source"], out=tmp_path / "p.parquet")
        again = pq.read_table(tmp_path / "p.parquet")["predicted_probs"].to_pylist()
        np.testing.assert_allclose(first["predicted_probs"][0], again[0], atol=1e-3)
        assert "frozen, with an attention head" in (run.out / "classifier" / "README.md").read_text()

    def test_a_scan_that_is_stopped_comes_to_the_same_bytes(self, encoded, tmp_path):
        options, run, _ = encoded
        with pytest.raises(KeyboardInterrupt):
            labelfix.scan(**options, out=tmp_path / "again", reporter=StopAt(2))
        again = labelfix.scan(**options, out=tmp_path / "again")
        assert result_bytes(again.out) == result_bytes(run.out)

    def test_what_has_no_map_is_refused(self, encoded, tmp_path):
        options, _, _ = encoded
        features = {"features": np.zeros((90, 3), np.float32), "encoder": "auto", "weights": "none"}
        refuses(labelfix.scan, "head=attention", "head=pool", **options | features, out=tmp_path / "run")

    def test_a_network_without_a_map_is_refused_before_anything_is_decoded(
        self, encoded, tmp_path, monkeypatch
    ):
        options = {**encoded[0], "encoder": "none", "weights": "none", "folds": None, "backbone": "lc-cnn"}
        monkeypatch.setattr("labelfix.pipeline.decoded", lambda *_args, **_named: pytest.fail("decoded"))
        refuses(labelfix.scan, "--backbone lc-cnn", "head=pool", **options, out=tmp_path / "run")


def test_a_linear_probe_beside_a_fine_tuned_encoder_is_weighed_for_every_class(encoded, tmp_path):
    options, _, _ = encoded
    changes = {"method": "pencil", "tune": "all", "image_size": 32, "folds": None, "settings": {}}
    run = labelfix.scan(**options | changes, out=tmp_path / "run")
    found = run.summary["diagnostics"]["by_class"]
    assert list(found) == run.summary["class_names"]
    taken = [set(of_class["networks"]["taken"]) for of_class in found.values()]
    assert all(some and some <= {"network", "probe"} for some in taken)
    card = (run.out / "classifier" / "README.md").read_text()
    assert ("linear probe" in card) == any("probe" in some for some in taken)

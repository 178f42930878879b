"""The model card: what the hub reads, what people read, and that no name of a stranger breaks out of it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest
import yaml
from conftest import write_digits
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from runs import StopAt

import labelfix
from labelfix.config import ScanConfig, resolve_settings
from labelfix.methods import method_names
from labelfix.results import model_card

QUICK = {"epochs": 3, "batch_size": 64, "image_size": 8, "precision": "fp32"}
EVIL = [
    '<img src=x onerror="alert(1)">',
    "| x |\n\n# Heading\n---\n[a](javascript:alert(1))",
    "`code` *b* _i_ ~~s~~ $x$ ![p](http://e.org/p.png)",
    "www.example.org :smile: me@example.org &amp; http://example.org",
    'a": b\n- c: "\\\x00\x7f\x85\u2028\ufeff\U0001f600 Käfer',
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder of 150 digits, `images`, and 50 for testing, `check`, and the run over them, `run`."""
    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        write_digits(folder / "images", 150, "symmetric-exclusive:0.2")
        write_digits(folder / "check", 50)
        labelfix.scan(folder / "images", out=folder / "run", test=folder / "check", **QUICK)
    return folder


@pytest.fixture(scope="module")
def known(base):
    """The config and the summary of that run."""
    files = [base / "run" / f"{name}.json" for name in ("config", "summary")]
    config, summary = (json.loads(file.read_text()) for file in files)
    settings = resolve_settings("bmm", "fast", QUICK["epochs"], QUICK["batch_size"], {})
    return ScanConfig(**{**config["config"], "settings": settings}), summary


def made(tmp_path, config, summary, source="images", test=None) -> ModelCard:
    model_card.write(tmp_path / "README.md", config, summary, source=source, test=test)
    return ModelCard.load(tmp_path / "README.md")


def prose(card: ModelCard) -> str:
    """The text of a card as Markdown shows it, a line per block or cell."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(card.text)
    return "\n".join(
        "".join(child.content or " " * (child.type == "softbreak") for child in token.children)
        if token.type == "inline"
        else token.content
        for token in tokens
        if token.type in ("inline", "fence")
    )


def test_a_scan_writes_what_the_hub_reads(base, known):
    card = ModelCard.load(base / "run" / "classifier" / "README.md")
    data = card.data.to_dict()
    assert data["library_name"] == "labelfix"
    assert data["pipeline_tag"] == "image-classification"
    assert "license" not in data
    (result,) = card.data.eval_results
    assert (card.data.model_name, result.dataset_name) == ("images-bmm", "check")
    assert (result.task_type, result.metric_type) == ("image-classification", "accuracy")
    assert result.metric_value == pytest.approx(known[1]["test_accuracy"], abs=1e-6)


def test_it_names_what_the_run_found(base, known):
    card, summary = ModelCard.load(base / "run" / "classifier" / "README.md"), known[1]
    text, counts = prose(card), summary["counts"]
    heads = ["Data", "Method", "How to use it", "Metrics", "Limits"]
    assert re.findall(r"^## (.*)$", card.text, re.M) == heads
    assert f"in all\n{counts['rows']}\n" in text
    assert f"of these flagged: the label is probably wrong\n{counts['flagged']}\n" in text
    assert f"of these given another label\n{counts['corrected']}\n" in text
    assert f"{100 * summary['noise_rate']:.1f} % of the given labels are wrong" in text
    for name, rate in summary["noise_rate_by_class"].items():
        assert f"\n{name}\n{100 * rate:.1f} %\n" in text
    assert "Paper: Arazo, Ortego, Albert, O'Connor, McGuinness 2019, \"Unsupervised Label Noise" in text
    assert "preset fast, 3 epochs, seed 0, precision fp32" in text
    assert "\nbatch_size\n64\n32\n" in text
    assert "\nlearning_rate\n" not in text  # as the preset has it
    assert f"the labelled images of check: {100 * summary['test_accuracy']:.1f} %" in text
    assert "float32 (B, 3, 8, 8)" in text


def test_nothing_of_the_machine_or_the_moment_is_in_it(base):
    text = (base / "run" / "classifier" / "README.md").read_text()
    for private in (str(base), str(Path.home()), socket.gethostname(), "second", os.sep + "images"):
        assert private not in text, private


def test_the_same_scan_and_a_resumed_one_have_the_same_card(base, tmp_path):
    options = {"out": tmp_path / "other", "test": base / "check", **QUICK}
    with pytest.raises(KeyboardInterrupt):
        labelfix.scan(base / "images", reporter=StopAt(1), **options)
    assert not (tmp_path / "other" / "classifier").exists()
    resumed = labelfix.scan(base / "images", **options)
    card = base / "run" / "classifier" / "README.md"
    assert (resumed.classifier / "README.md").read_bytes() == card.read_bytes()


def test_a_card_goes_with_its_run(base, tmp_path):
    """Overwritten with it, and its half-written copies swept."""
    out = shutil.copytree(base / "run", tmp_path / "run")
    (out / "classifier" / "README.md").write_text("old")
    (out / "classifier" / ".README.md.abc.tmp").write_text("half")
    (out / "classifier" / "notes.txt").write_text("a person's")
    run = labelfix.scan(base / "images", out=out, overwrite=True, method="cross-entropy", **QUICK)
    card = ModelCard.load(run.classifier / "README.md")
    assert "trained it (method cross-entropy)" in prose(card)
    assert card.data.eval_results is None  # no --test this time
    assert "None was measured" in prose(card)
    files = sorted(path.name for path in run.classifier.iterdir())
    assert files == ["README.md", "classifier.json", "model.safetensors", "notes.txt"]
    assert labelfix.load_classifier(run.classifier).method == "cross-entropy"


def test_names_of_strangers_are_shown_as_text_and_break_out_of_nothing(known, tmp_path):
    config, summary = known
    shown = [re.sub(r"[\s\x00\x7f\ufeff]+", " ", name).strip() for name in EVIL]
    for evil, line in zip(EVIL, shown, strict=True):
        rates = {f"{evil}{k}": 0.1 * k for k in range(5)}
        changed = {**summary, "class_names": list(rates), "noise_rate_by_class": rates}
        card = made(tmp_path, config, changed, source=evil, test=evil)
        front = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("\n---\n")[0])
        assert front["model-index"][0]["name"] == f"{evil}-bmm"
        assert front["model-index"][0]["results"][0]["dataset"]["name"] == evil
        assert set(front) == {"library_name", "pipeline_tag", "tags", "model-index"}
        text = prose(card)
        assert f"Image classifier: {line}" in text.splitlines()
        for k in range(5):
            assert f"\n{line}{k}\n{10 * k:.1f} %\n" in text
        # With everything on that Markdown can be, links by their mere looks too.
        tokens = MarkdownIt("gfm-like", {"linkify": True, "html": True}).parse(card.text)
        inside = [child.type for token in tokens for child in token.children or []]
        assert set(inside) <= {"text", "text_special", "softbreak", "code_inline"}
        assert not any(token.type.startswith("html") for token in tokens)
        assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1"] + ["h2"] * 5


def test_settings_that_a_person_knows_by_path_stay_without_it(known, tmp_path):
    config = dataclasses.replace(known[0], weights="/home/me/secret.pth", weights_sha256="ab" * 32, folds=5)
    text = prose(made(tmp_path, config, known[1]))
    assert f"a file with the SHA-256 {'ab' * 32}" in text
    assert "secret" not in text
    assert "looked for in 5 folds" in text


@pytest.mark.parametrize(
    ("backbone", "tune", "weights", "network", "origin"),
    [
        ("lite0", "none", "none", "the encoder lite0, frozen, with a linear head",
         "weights of the encoder, which were left as they are: the encoder's published ones, licence apache-2.0"),
        ("timm:resnet50.a1_in1k", "all", "none", "the encoder timm:resnet50.a1_in1k, fine-tuned, with a linear head",
         "first weights: the encoder's published ones, licence apache-2.0"),
        ("timm:test_resnet", "all", "/home/me/secret.safetensors", "the encoder timm:test_resnet, fine-tuned",
         "first weights: a file with the SHA-256"),
        ("onnx", "none", "/home/me/secret.onnx", "an ONNX encoder, frozen, with a linear head",
         "weights of the encoder, which were left as they are: a file with the SHA-256"),
    ],
)  # fmt: skip
def test_an_encoder_is_named_with_the_licence_of_its_weights(
    known, tmp_path, backbone, tune, weights, network, origin
):
    digest = "" if weights == "none" else "ab" * 32
    config = dataclasses.replace(
        known[0], backbone=backbone, tune=tune, weights=weights, weights_sha256=digest
    )
    text = prose(made(tmp_path, config, known[1]))
    assert network in text
    assert origin in text
    assert "secret" not in text
    assert ("licence apache" in text) == (weights == "none")
    assert "that of the images and of the encoder's weights." in text
    assert ("to_onnx" in text) == (backbone != "onnx")
    assert ("ONNX file takes" in text) == (backbone != "onnx")


def test_verified_rows_failed_fits_and_many_classes_are_named(known, tmp_path):
    config, summary = known
    rates = {f"class {k:03d}": k / 1000 for k in range(100)} | {"empty": None}
    verified = {"rows": 40, "wrong": 8, "precision": 0.75, "recall": None}
    changed = {
        **summary, "trusted_accuracy": 0.5, "class_names": list(rates), "noise_rate_by_class": rates,
        "diagnostics": {"trusted": verified}, "fit_reason": "the labels look clean",
    }  # fmt: skip
    text = prose(made(tmp_path, config, changed))
    assert "It was found that the labels look clean." in text
    assert "\nclass 099\n9.9 %\nclass 098\n" in text
    assert "class 079" not in text
    assert "class 080" in text
    assert "names all 101" in text
    assert "on 40 verified rows" in text
    assert "of which 8 were wrong: precision of the flags 75.0 %, recall unknown" in text
    assert "accuracy on the rows with a verified label: 50.0 %" in text
    without = {name: value for name, value in summary.items() if not name.startswith("test_")}
    text = prose(made(tmp_path, config, {**without, "trusted_map": 0.5}))
    assert "mean average precision of the classes on the rows with verified labels: 50.0 %" in text
    assert "None was measured" not in text
    text = prose(made(tmp_path, config, {**changed, "fit_ok": False, "fit_reason": "training diverged"}))
    assert "failed, and no label was corrected: training diverged." in text
    assert "estimated" not in text.split("Method")[0]


@pytest.mark.parametrize("method", method_names())
def test_every_method_has_its_card(method, known, tmp_path):
    settings = labelfix.methods.method_class(method).presets()["paper"]
    config = dataclasses.replace(known[0], method=method, preset="paper", settings=settings)
    text = prose(made(tmp_path, config, known[1]))
    assert labelfix.method_card(method)["summary"] in text
    assert ("Paper: " in text) == (method not in ("cross-entropy", "confident-learning"))
    assert "setting" not in text.split("Limits")[0]

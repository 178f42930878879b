"""to_onnx(): one file that says in onnxruntime what the classifier says, and nothing of this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image, ImageOps
from refusals import refuses
from torch import nn

import labelfix
from labelfix import networks
from labelfix.errors import InputError, LabelfixError
from labelfix.networks import NetworkSpec
from labelfix.results.classifier import Classifier

NAMES = ("007", '<img src=x onerror="alert(1)">', "Käfer\n, 虫")


def classifier(backbone="small", size=8) -> Classifier:
    """A network of random weights and statistics, as a training leaves them."""
    torch.manual_seed(0)
    network = networks.build(NetworkSpec(backbone, len(NAMES), size))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    spec = NetworkSpec(backbone, len(NAMES), size)
    return Classifier(network.eval(), spec, NAMES, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), "bmm")


def answers(path: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return tuple(session.run(["logits", "probs"], {"images": images}))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file of a classifier of 12-bit grey that went through its own files, from which 110 px are cropped to 96."""
    folder = tmp_path_factory.mktemp("onnx")
    replace(classifier(size=96), white=4095).save(folder / "classifier")
    loaded = labelfix.load_classifier(folder / "classifier")
    state = torch.get_rng_state()
    path = loaded.to_onnx(folder / "new" / "model.onnx")
    assert torch.equal(torch.get_rng_state(), state)
    assert path == folder / "new" / "model.onnx"
    return loaded, path


def test_an_image_file_is_predicted_as_by_the_classifier(written, tmp_path):
    """By the recipe of the metadata, with Pillow alone."""
    loaded, path = written
    metadata = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    names, size, side = (json.loads(metadata[key]) for key in ("class_names", "image_size", "resize_to"))
    assert (tuple(names), size, side) == (NAMES, 96, 110)
    recipe = "central square at 110 x 110 px (bicubic, antialiased), of that the central 96 px"
    assert recipe in metadata["preprocessing"]
    assert metadata["white"] == "4095"
    assert "divided by 255, 16-bit grey by 4095 and at most 1; the graph" in metadata["preprocessing"]
    rng = np.random.default_rng(0)
    files, images = [], []
    for number, shape in enumerate([(130, 170, 3), (301, 96, 3), (50, 60, 3)]):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(files[-1])
        with Image.open(files[-1]) as picture:
            square = ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
        margin = (side - size) // 2
        square = square.crop((margin, margin, margin + size, margin + size))
        images.append(np.asarray(square, np.float32).transpose(2, 0, 1) / 255)
    logits, probs = answers(path, np.stack(images))
    expected = loaded.predict(files)
    np.testing.assert_allclose(probs, np.stack(expected.predicted_probs), atol=1e-5)
    assert [names[k] for k in logits.argmax(axis=1)] == expected.predicted_label.tolist()
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), probs, atol=1e-6)


def test_the_file_is_whole_valid_and_holds_nothing_of_this_machine(written):
    _, path = written
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(value.name, value.type.tensor_type.elem_type) for value in model.graph.input] == [("images", 1)]
    (batch, *others) = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param == "batch"
    assert [dim.dim_value for dim in others] == [3, 96, 96]
    content = path.read_bytes()
    for trace in (str(Path(labelfix.__file__).parent), sys.prefix, "site-packages", "stack_trace", 'File "'):
        assert trace.encode() not in content
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_the_same_classifier_gives_the_same_bytes_over_an_older_file(written, tmp_path):
    loaded, path = written
    (tmp_path / "model.onnx").write_text("older")
    assert loaded.to_onnx(str(tmp_path / "model.onnx")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("backbone", "size"), [("preact-resnet18", 16), ("squeezenet1_1", 32)])
def test_larger_networks(backbone, size, tmp_path):
    made = classifier(backbone, size)
    path = made.to_onnx(tmp_path / "model.onnx")
    images = np.random.default_rng(0).random((3, 3, size, size), np.float32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (made.mean, made.std))
    normal = (torch.from_numpy(images) - mean) / std
    with torch.no_grad():
        expected = made.network(normal)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(answers(path, images)[0], expected.numpy(), rtol=1e-3, atol=1e-4)


def encoded(size=32, views=0) -> Classifier:
    """A tiny encoder of timm under a head, with random weights and statistics."""
    torch.manual_seed(0)
    spec = NetworkSpec("timm:test_resnet", len(NAMES), size, views)
    network = networks.build(spec).eval()
    with torch.no_grad():
        network.head.linear.weight.normal_()
    encoder = network.encoder if views == 0 else network.encoder.encoder
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    return Classifier(network, spec, NAMES, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), "bmm")


@pytest.mark.parametrize("views", [0, 1, 2], ids=["fine-tuned", "frozen", "frozen and mirrored"])
def test_an_encoder_and_its_head_are_one_file(views, tmp_path):
    encoded(views=views).save(tmp_path / "classifier")
    made = labelfix.load_classifier(tmp_path / "classifier")
    path = made.to_onnx(tmp_path / "model.onnx")
    images = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (made.mean, made.std))
    with torch.no_grad():
        expected = made.network((torch.from_numpy(images) - mean) / std).numpy()
    assert expected.std() > 1e-2
    np.testing.assert_allclose(answers(path, images)[0], expected, rtol=1e-3, atol=1e-4)
    mirrored = answers(path, images[:, :, :, ::-1].copy())[0]
    assert np.allclose(mirrored, expected, rtol=1e-3, atol=1e-4) == (views == 2)


def test_an_onnx_encoder_is_refused(tmp_path):
    made = Classifier(
        nn.Identity(), NetworkSpec("onnx", 3, 16, 1, (9, 9)), NAMES, (0.5,) * 3, (0.5,) * 3, "bmm"
    )
    refuses(
        made.to_onnx, "an ONNX encoder", "labelfix predict", "--encoder lite0", path=tmp_path / "model.onnx"
    )
    assert not list(tmp_path.iterdir())


def small_of(network: nn.Module) -> Classifier:
    """A classifier around a network of our own for 8 px."""
    return Classifier(network.eval(), NetworkSpec("small", 3, 8), NAMES, (0.5,) * 3, (0.5,) * 3, "bmm")


class Moody(nn.Module):
    """Says something else at every call, which no graph can hold."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return images.mean(dim=(2, 3)) + self.calls


class Choosy(nn.Module):
    """Decides by its values, which the exporter refuses."""

    def forward(self, images):
        return images.mean(dim=(2, 3)) if images.sum() > 0 else images.amax(dim=(2, 3))


class Huge(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2**29, device="meta"))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Moody(), "not written, since small answers otherwise in onnxruntime"),
        (Choosy(), "small cannot be exported to ONNX"),
        (Huge(), "small has more than the 2 GiB of weights that one ONNX file holds"),
    ],
    ids=["answers otherwise", "no graph", "too large"],
)
def test_what_cannot_be_written_is_refused_in_a_line_and_leaves_nothing(network, reason, tmp_path):
    with pytest.raises(LabelfixError, match=reason) as caught:
        small_of(network).to_onnx(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


class Diverged(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3)) * float("nan")


def test_a_diverged_network_is_written_as_it_is(tmp_path):
    path = small_of(Diverged()).to_onnx(tmp_path / "model.onnx")
    assert np.isnan(answers(path, np.zeros((1, 3, 8, 8), np.float32))[0]).all()


def test_only_an_onnx_file_is_written_and_nothing_else_replaced(tmp_path):
    notes, folder, named = tmp_path / "notes.csv", tmp_path / "run", tmp_path / "model.onnx"
    notes.write_text("mine")
    folder.mkdir()
    named.mkdir()
    for path, reason in (
        (notes, "notes.csv: name a file that ends in .onnx"),
        (folder, "run is a folder; name a file that ends in .onnx"),
        (named, "model.onnx is a folder; name a file that ends in .onnx"),
        (notes / "model.onnx", f"cannot be written (File exists: {notes}); choose another place"),
        (notes / "new" / "model.onnx", f"(Not a directory: {notes / 'new'}); choose another place"),
    ):
        refuses(small_of(Moody()).to_onnx, path, reason, path=str(path))
    assert notes.read_text() == "mine"
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["model.onnx", "notes.csv", "run"]


def test_without_the_extra_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # how Python marks a module that cannot be had
    with pytest.raises(InputError, match=r'^to_onnx needs onnxscript: pip install "labelfix\[onnx\]"$'):
        classifier().to_onnx(tmp_path / "model.onnx")

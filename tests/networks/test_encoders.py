"""Encoders: what comes packaged sees, what is the user's is checked, what is missing is said in one line."""

from __future__ import annotations

import logging

import pytest
import timm
import torch
from onnx_files import onnx_file
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from timm.models.vision_transformer import checkpoint_filter_fn
from torch.nn import functional as F

from labelfix import networks
from labelfix.errors import InputError
from labelfix.networks import NetworkSpec, encoders
from labelfix.networks.encoders import LITE0, build_encoder, encoder_facts, load_encoder, pretrained_encoder
from labelfix.networks.heads import FrozenEncoder, Head
from labelfix.networks.onnx_encoder import OnnxEncoder

TINY = "timm:test_resnet"
PALACE, DAISY = 698, 985  # classes of ImageNet


def test_the_packaged_encoder_sees():
    """A photograph of a palace and one of a flower are named by the published classifier on top of it."""
    facts = encoder_facts(LITE0)
    state = encoders._packaged()
    weight, bias = list(state.values())[-2:]
    encoder = pretrained_encoder(LITE0, 224).eval()
    found = []
    for name in ("china.jpg", "flower.jpg"):
        pixels = torch.tensor(load_sample_image(name)).permute(2, 0, 1)[None].float() / 255
        image = F.interpolate(pixels, size=(224, 224), mode="bicubic", antialias=True)
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (facts.mean, facts.std))
        with torch.no_grad():
            features = encoder((image - mean) / std)
        assert features.shape == (1, 1280)
        found.append((features @ weight.T + bias).topk(5).indices[0].tolist())
    assert PALACE in found[0]
    assert DAISY in found[1]


def test_weights_that_were_changed_are_refused(monkeypatch):
    monkeypatch.setattr(encoders, "_LITE0_SHA256", "0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        pretrained_encoder(LITE0, 64)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("lite1", "lite1"),
        ("timm:no_such_model", "no_such_model"),
        ("timm:resnet50.no_such_weights", "resnet50"),
    ],
)
def test_an_unknown_encoder_is_refused_by_name(name, named):
    with pytest.raises(InputError, match=named):
        encoder_facts(name)


def test_weights_of_timm_come_from_a_file(tmp_path):
    made = timm.create_model("test_resnet", num_classes=0)
    save_file(made.state_dict(), tmp_path / "own.safetensors")
    found = pretrained_encoder(TINY, 64, str(tmp_path / "own.safetensors"))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.eval()(images), made.eval()(images))


def test_weights_of_a_transformer_fit_images_of_another_size(tmp_path):
    """As those that timm has published and loads itself: positions are interpolated."""
    made = timm.create_model("test_vit", num_classes=0)
    save_file(made.state_dict(), tmp_path / "own.safetensors")
    found = pretrained_encoder("timm:test_vit", 96, str(tmp_path / "own.safetensors"))
    expected = timm.create_model("test_vit", num_classes=0, img_size=96)
    expected.load_state_dict(checkpoint_filter_fn(made.state_dict(), expected))
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(images), expected.eval()(images))


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other.safetensors.*not weights"):
        load_encoder(build_encoder(TINY, 64), TINY, 64, str(tmp_path / "other.safetensors"))


def test_a_download_that_fails_is_said_once(monkeypatch):
    client, shown = logging.getLogger("huggingface_hub"), []
    handler = logging.Handler()
    handler.emit = shown.append
    monkeypatch.setattr(client, "handlers", [handler])
    before = client.level

    def build(*_, **__):
        logging.getLogger("huggingface_hub.utils").warning("trying again")
        raise OSError("no network")

    monkeypatch.setattr(encoders, "build_encoder", build)
    with pytest.raises(InputError, match=r"could not be downloaded \(no network\)"):
        encoders._fetched("timm:resnet18", 64)
    assert not shown
    assert client.level == before
    logging.getLogger("huggingface_hub.utils").warning("heard")
    assert len(shown) == 1


def test_weights_that_cannot_be_downloaded_name_the_ways_out(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"could not be downloaded.*--weights.*lite0") as refused:
        pretrained_encoder(TINY, 64)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("output", ["vector", "map"])
@pytest.mark.parametrize("batch", ["B", 1])
def test_an_onnx_encoder_gives_what_its_graph_says(tmp_path, layout, output, batch):
    path = onnx_file(tmp_path / "own.onnx", layout=layout, output=output, batch=batch)
    images = torch.rand(3, 3, 16, 16)
    found = OnnxEncoder.from_file(path)(images)
    expected = F.avg_pool2d(images, 8)
    expected = expected.mean(dim=(2, 3)) if output == "map" else expected.flatten(1)
    torch.testing.assert_close(found, expected)


def test_an_onnx_encoder_says_how_its_pixels_are_normalised(tmp_path):
    path = onnx_file(tmp_path / "own.onnx", notes={"mean": "[0.1, 0.2, 0.3]", "std": "nonsense"})
    facts = encoder_facts("onnx", str(path))
    assert facts.mean == (0.1, 0.2, 0.3)
    assert facts.std == (0.229, 0.224, 0.225)
    assert facts.image_size == 16


@pytest.mark.parametrize("kind", ["missing", "no onnx", "two inputs", "scalar"])
def test_an_onnx_file_that_is_no_encoder_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "own.onnx"
    if kind == "no onnx":
        path.write_bytes(b"no model")
    elif kind != "missing":
        onnx_file(
            path, inputs=2 if kind == "two inputs" else 1, output="vector" if kind != "scalar" else "scalar"
        )
    with pytest.raises(InputError, match=r"own\.onnx") as refused:
        OnnxEncoder.from_file(path)(torch.rand(3, 3, 16, 16))
    assert "\n" not in str(refused.value)


def test_features_are_standardised_before_the_head_and_their_tails_drawn_in():
    head = Head(3, 2)
    head.standardise(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 1.0]))
    torch.nn.init.eye_(head.linear.weight)
    found = head(torch.tensor([[2.0, 6.0, 3.0]])[:, :, None, None])
    assert found.tolist() == [[1.0, 2.0]]
    frozen = FrozenEncoder(torch.nn.Identity())
    assert frozen(torch.tensor([[4.0, -9.0, 0.0]])).tolist() == [[2.0, -3.0, 0.0]]


@pytest.mark.parametrize("views", [0, 1, 2])
def test_an_encoder_under_a_head_is_one_network(views):
    network = networks.build(NetworkSpec(TINY, 5, 32, views)).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.nn.init.normal_(network.head.linear.weight)
        found, mirrored = network(images), network(images.flip(3))
    assert found.shape == (2, 5)
    assert torch.allclose(found, mirrored, atol=1e-5) == (views == 2)

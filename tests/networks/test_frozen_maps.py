"""Maps of a frozen encoder under an attention head: shapes, places, and which encoders have some."""

from __future__ import annotations

import pytest
import timm
import torch
from refusals import refuses

from labelfix import networks
from labelfix.networks import NetworkSpec
from labelfix.networks.encoded import encoded_network, head_on
from labelfix.networks.encoders import feature_shape
from labelfix.networks.frozen_maps import MOST_PLACES, MapHead, frozen_maps
from labelfix.networks.heads import FrozenEncoder, Head

TINY = "timm:test_resnet"


def tiny():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=0).eval()


@pytest.mark.parametrize(("size", "places"), [(64, 2), (96, 3), (160, MOST_PLACES)])
def test_a_map_has_at_most_so_many_places(size, places):
    encoder = tiny()
    maps = frozen_maps(encoder, TINY, size)
    features = feature_shape(encoder, size)[0]
    assert feature_shape(maps, size) == (features, places, places)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        whole = encoder.forward_features(images)
        pooled = torch.nn.functional.adaptive_avg_pool2d(whole, places)
        torch.testing.assert_close(maps(images), pooled)


def test_an_encoder_without_a_map_is_refused_in_one_line():
    vit = timm.create_model("test_vit", num_classes=0, img_size=64)
    refuses(
        frozen_maps, "timm:test_vit", "no map", "head=pool", encoder=vit, name="timm:test_vit", image_size=64
    )
    onnx = NetworkSpec("onnx", 5, 64, views=1, onnx_shape=(10, 3), head="attention")
    refuses(networks.build, "ONNX", "head=pool", spec=onnx)


def test_the_head_standardises_every_place_alike():
    head = MapHead((6, 2, 3), 4, "attention").double()
    mean, std = torch.arange(6.0), torch.arange(1.0, 7.0)
    maps = torch.randn(5, 6, 2, 3, dtype=torch.float64)
    before = head(maps)
    head.standardise(mean, std)
    shifted = maps * std[:, None, None] + mean[:, None, None]
    torch.testing.assert_close(head(shifted), before, rtol=1e-5, atol=1e-6)
    assert head.input_shape == (6, 2, 3)
    assert isinstance(head_on((6,), 4, ""), Head)
    assert head_on((6,), 4, "").input_shape == (6, 1, 1)


def test_the_mirror_image_is_turned_back_before_both_are_averaged():
    torch.manual_seed(0)
    network = encoded_network(TINY, 3, 96, views=2, head="attention").eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        own, other = network.encoder(images), network.encoder(images.flip(3))
        expected = network.head((own + other.flip(3)) / 2)
        torch.testing.assert_close(network(images), expected)
        assert not torch.allclose(network.head((own + other) / 2), expected)
    assert isinstance(network.encoder, FrozenEncoder)


def test_the_file_of_a_classifier_says_its_head():
    spec = NetworkSpec(TINY, 3, 96, views=1, head="attention-none")
    network = networks.build(spec)
    assert isinstance(network.head, MapHead)
    assert isinstance(network.head.head.activation, torch.nn.Identity)
    assert NetworkSpec(**spec.to_json()) == spec
    with torch.device("meta"):
        planned = networks.build(spec).state_dict()
    assert {name: value.shape for name, value in planned.items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from labelfix.errors import InputError
from labelfix.networks import NetworkSpec, backbone_names, build
from labelfix.networks.weights import load_weights


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_small_network_has_the_parameters_of_its_layers():
    """Convolutions without bias, two numbers a BatchNorm channel, a linear head."""
    expected = 3 * 9 * 32 + 2 * 32 + 32 * 9 * 64 + 2 * 64 + 64 * 9 * 128 + 2 * 128 + 128 * 10 + 10
    assert parameters(build(NetworkSpec("small", 10, 32))) == expected


def test_preact_resnet18_has_the_parameters_of_its_layers():
    total, channels = 3 * 9 * 64, 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            inside = channels if block == 0 else width
            total += 2 * inside + inside * 9 * width + 2 * width + width * 9 * width
            if inside != width:
                total += inside * width
        channels = width
    total += 2 * 512 + 512 * 10 + 10
    assert parameters(build(NetworkSpec("preact-resnet18", 10, 32))) == total
    assert round(total / 1e6, 1) == 11.2


def test_preact_resnet18_costs_what_the_papers_say():
    """1.11 GFLOP (two a multiply-add) for an image of 32 px."""
    operations = 0

    def count(module, _inputs, output):
        nonlocal operations
        height, width = output.shape[-2:]
        operations += 2 * module.weight.numel() * height * width

    network = build(NetworkSpec("preact-resnet18", 10, 32))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    assert operations / 1e9 == pytest.approx(1.11, abs=0.01)


@pytest.mark.parametrize("backbone", ["small", "preact-resnet18", "resnet18", "mobilenet_v3_small"])
def test_networks_map_images_to_logits_with_gradients(backbone):
    network = build(NetworkSpec(backbone, 7, 32))
    logits = network(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 7)
    logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("size", [8, 16, 33])
def test_small_network_takes_any_size(size):
    assert build(NetworkSpec("small", 3, size))(torch.randn(2, 3, size, size)).shape == (2, 3)


def test_vision_transformers_are_built_for_the_image_size():
    assert build(NetworkSpec("vit_b_32", 3, 64)).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_unknown_backbone_is_refused_by_name():
    with pytest.raises(InputError, match="--backbone resnet19: unknown"):
        build(NetworkSpec("resnet19", 10, 32))


def test_names_hold_ours_and_torchvisions():
    assert {"small", "preact-resnet18", "resnet50", "vit_b_16"} <= set(backbone_names())
    assert not any(name.startswith("quantized") for name in backbone_names())


class TestWeights:
    def test_a_safetensors_file_fills_all_but_the_head(self, tmp_path):
        trained = build(NetworkSpec("resnet18", 1000, 32))
        save_file(trained.state_dict(), tmp_path / "mine.safetensors")
        network = build(NetworkSpec("resnet18", 5, 32))
        head = network.fc.weight.clone()
        load_weights(network, "resnet18", str(tmp_path / "mine.safetensors"))
        assert torch.equal(network.layer4[1].conv2.weight, trained.layer4[1].conv2.weight)
        assert torch.equal(network.fc.weight, head)

    def test_a_published_file_is_read_after_its_hash_was_checked(self, tmp_path):
        trained = build(NetworkSpec("resnet18", 1000, 32))
        path = tmp_path / "weights.pth"
        torch.save(trained.state_dict(), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        named = path.rename(tmp_path / f"resnet18-{digest[:8]}.pth")
        network = build(NetworkSpec("resnet18", 5, 32))
        load_weights(network, "resnet18", str(named))
        assert torch.equal(network.conv1.weight, trained.conv1.weight)
        wrong = named.rename(tmp_path / "resnet18-0123abcd.pth")
        with pytest.raises(InputError, match="its SHA-256 starts with"):
            load_weights(network, "resnet18", str(wrong))

    def test_a_file_without_a_hash_in_its_name_is_refused(self, tmp_path):
        (tmp_path / "weights.pth").write_bytes(b"anything")
        with pytest.raises(InputError, match="use a .safetensors file"):
            load_weights(build(NetworkSpec("small", 5, 32)), "small", str(tmp_path / "weights.pth"))

    def test_a_pickle_is_never_run(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return (open, (str(tmp_path / "boom"), "w"))

        path = tmp_path / "w.pth"
        torch.save({"x": Bomb()}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        named = path.rename(tmp_path / f"resnet18-{digest[:8]}.pth")
        with pytest.raises(InputError, match="cannot be read"):
            load_weights(build(NetworkSpec("resnet18", 5, 32)), "resnet18", str(named))
        assert not (tmp_path / "boom").exists()

    def test_weights_of_another_network_are_refused(self, tmp_path):
        save_file(build(NetworkSpec("small", 5, 32)).state_dict(), tmp_path / "small.safetensors")
        with pytest.raises(InputError, match="these are not weights of resnet18"):
            load_weights(
                build(NetworkSpec("resnet18", 5, 32)), "resnet18", str(tmp_path / "small.safetensors")
            )

    def test_a_missing_or_broken_file_is_named(self, tmp_path):
        network = build(NetworkSpec("small", 5, 32))
        with pytest.raises(InputError, match="no such file"):
            load_weights(network, "small", str(tmp_path / "none.safetensors"))
        (tmp_path / "broken.safetensors").write_bytes(b"no tensors here")
        with pytest.raises(InputError, match="cannot be read"):
            load_weights(network, "small", str(tmp_path / "broken.safetensors"))

    def test_published_weights_exist_for_torchvision_only(self):
        with pytest.raises(InputError, match="none are published for small"):
            load_weights(build(NetworkSpec("small", 5, 32)), "small", "imagenet")

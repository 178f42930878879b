from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from labelfix.errors import InputError
from labelfix.networks import NetworkSpec, build
from labelfix.networks.weights import load_weights


def test_a_safetensors_file_fills_all_but_the_head(tmp_path):
    trained = build(NetworkSpec("resnet18", 1000, 32))
    save_file(trained.state_dict(), tmp_path / "mine.safetensors")
    network = build(NetworkSpec("resnet18", 5, 32))
    head = network.fc.weight.clone()
    load_weights(network, "resnet18", str(tmp_path / "mine.safetensors"))
    assert torch.equal(network.layer4[1].conv2.weight, trained.layer4[1].conv2.weight)
    assert torch.equal(network.fc.weight, head)


def test_a_published_file_is_read_after_its_hash_was_checked(tmp_path):
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


def test_a_file_without_a_hash_in_its_name_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"anything")
    with pytest.raises(InputError, match="use a .safetensors file"):
        load_weights(build(NetworkSpec("small", 5, 32)), "small", str(tmp_path / "weights.pth"))


def test_a_pickle_is_never_run(tmp_path):
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


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(build(NetworkSpec("small", 5, 32)).state_dict(), tmp_path / "small.safetensors")
    with pytest.raises(InputError, match="these are not weights of resnet18"):
        load_weights(build(NetworkSpec("resnet18", 5, 32)), "resnet18", str(tmp_path / "small.safetensors"))


def test_a_missing_or_broken_file_is_named(tmp_path):
    network = build(NetworkSpec("small", 5, 32))
    with pytest.raises(InputError, match="no such file"):
        load_weights(network, "small", str(tmp_path / "none.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(InputError, match="cannot be read"):
        load_weights(network, "small", str(tmp_path / "broken.safetensors"))


def test_published_weights_exist_for_torchvision_only():
    with pytest.raises(InputError, match="none are published for small"):
        load_weights(build(NetworkSpec("small", 5, 32)), "small", "imagenet")

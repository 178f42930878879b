from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from labelfix.errors import InputError
from labelfix.networks import NetworkSpec, build
from labelfix.networks.weights import load_weights


def network(name="small", classes=5):
    return build(NetworkSpec(name, classes, 32))


def saved_with_hash(state, folder):
    """A file as torchvision publishes it: a pickle with the start of its hash in its name."""
    torch.save(state, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()
    return (folder / "weights.pth").rename(folder / f"resnet18-{digest[:8]}.pth")


def test_a_safetensors_file_fills_all_but_the_head(tmp_path):
    trained, fresh = network("resnet18", 1000), network("resnet18")
    save_file(trained.state_dict(), tmp_path / "mine.safetensors")
    head = fresh.fc.weight.clone()
    load_weights(fresh, "resnet18", str(tmp_path / "mine.safetensors"))
    assert torch.equal(fresh.layer4[1].conv2.weight, trained.layer4[1].conv2.weight)
    assert torch.equal(fresh.fc.weight, head)


def test_a_published_file_is_read_after_its_hash_was_checked(tmp_path):
    trained, fresh = network("resnet18", 1000), network("resnet18")
    named = saved_with_hash(trained.state_dict(), tmp_path)
    load_weights(fresh, "resnet18", str(named))
    assert torch.equal(fresh.conv1.weight, trained.conv1.weight)
    wrong = named.rename(tmp_path / "resnet18-0123abcd.pth")
    with pytest.raises(InputError, match="its SHA-256 starts with"):
        load_weights(fresh, "resnet18", str(wrong))


def test_a_pickle_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    named = saved_with_hash({"x": Bomb()}, tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        load_weights(network("resnet18"), "resnet18", str(named))
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("backbone", "file", "message"),
    [
        ("small", "weights.pth", "use a .safetensors file"),  # no hash in its name
        ("resnet18", "small.safetensors", "these are not weights of resnet18"),
        ("small", "none.safetensors", "no such file"),
        ("small", "broken.safetensors", "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path, backbone, file, message):
    save_file(network().state_dict(), tmp_path / "small.safetensors")
    for name in ("weights.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no tensors here")
    with pytest.raises(InputError, match=message):
        load_weights(network(backbone), backbone, str(tmp_path / file))


def test_published_weights_exist_for_torchvision_only():
    with pytest.raises(InputError, match="none are published for small"):
        load_weights(network(), "small", "imagenet")

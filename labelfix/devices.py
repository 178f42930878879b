"""What `auto` means where a scan runs: the device, and the precision, the network and the image size that suit it."""

from __future__ import annotations

import torch

from labelfix.errors import InputError
from labelfix.networks import check_backbone
from labelfix.networks.encoders import ONNX, is_encoder

_LARGEST_ON_CPU, _LARGEST_ON_GPU = 64, 224


def resolve_device(device: str) -> str:
    """`auto`, `cpu` or `cuda[:N]` to a device that is there.

    Raises:
        InputError: no such device.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    kind, _, index = device.partition(":")
    if device != "auto" and (kind != "cuda" or (index and not index.isdecimal())):
        raise InputError(f"--device {device}: use auto, cpu, cuda or cuda:N")
    number = int(index or 0)
    if number >= torch.cuda.device_count():
        raise InputError(
            f"--device {device}: there are {torch.cuda.device_count()} CUDA devices; use --device auto"
        )
    return f"cuda:{number}"


def resolve_precision(precision: str, device: str, backbone: str) -> str:
    """`auto` is bf16 on a GPU with instructions for it, and on such a processor for an encoder; else fp32.

    Small networks gain little by it on a processor (tests/benchmarks/precision.py), an encoder takes a third of the
    time.
    """
    if precision != "auto":
        return precision
    if device == "cpu":
        return "bf16" if is_encoder(backbone) and backbone != ONNX and _processor_has_bf16() else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def _processor_has_bf16() -> bool:
    """Whether it multiplies bf16 matrices by instructions of its own; emulated they would be slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def resolve_backbone(backbone: str, device: str, image_size: int) -> str:
    """`auto` is the small network on a CPU; on a GPU PreAct ResNet-18 up to 64 px and ResNet-50 above.

    Raises:
        InputError: an unknown backbone.
    """
    if is_encoder(backbone):
        return backbone
    if backbone != "auto":
        check_backbone(backbone)
        return backbone
    if device == "cpu":
        return "small"
    return "preact-resnet18" if image_size <= _LARGEST_ON_CPU else "resnet50"


def largest_image(device: str) -> int:
    """The largest image size that `auto` chooses, in pixels."""
    return _LARGEST_ON_CPU if device == "cpu" else _LARGEST_ON_GPU

"""What `auto` means where a scan runs: the device, and the precision, the network and the image size that suit it."""

from __future__ import annotations

import warnings

import torch

from labelfix import processes
from labelfix.device_errors import plain_device_errors
from labelfix.errors import InputError
from labelfix.networks import check_backbone
from labelfix.networks.encoders import ONNX, is_encoder

_LARGEST_ON_CPU, _LARGEST_ON_GPU = 64, 224


def resolve_device(device: str) -> str:
    """`auto`, `cpu`, `cuda[:N]` or `mps` to a device that is there; `auto` is a CUDA GPU, else the processor.

    Warns where `auto` is the processor although there is a GPU.

    Raises:
        InputError: no such device, or a GPU whose driver does not work.
    """
    if device == "cpu":
        return "cpu"
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("--device mps: torch finds no Apple GPU here; use --device auto")
        return "mps"
    kind, _, index = device.partition(":")
    if device != "auto" and (kind != "cuda" or (index and not index.isdecimal())):
        raise InputError(f"--device {device}: use auto, cpu, cuda, cuda:N or mps")
    count, reason = _usable_gpus()
    number = int(index or processes.number_on_machine())
    if processes.count() > 1 and not index and 0 < count <= number:
        raise InputError(
            f"torchrun: process {number + 1} of this machine has no GPU, there are {count}; start as many processes as"
            " there are GPUs, or use --device cpu"
        )
    if number < count:
        with plain_device_errors(f"cuda:{number}"):
            torch.cuda.get_device_properties(number)  # starts CUDA
        return f"cuda:{number}"
    if device != "auto":
        there = f"there are {count} CUDA devices" if not reason else f"the GPU cannot be used ({reason})"
        raise InputError(f"--device {device}: {there}; use --device auto")
    if reason:
        warnings.warn(f"there is a GPU that cannot be used ({reason}): the CPU is", stacklevel=2)
    return "cpu"


def _usable_gpus() -> tuple[int, str]:
    """How many CUDA GPUs torch can use, and where it can use none that is there, why."""
    with warnings.catch_warnings(
        record=True
    ) as said:  # torch says there why a driver does not start, in many lines
        warnings.simplefilter("always")
        is_available = torch.cuda.is_available()
    if is_available:
        return torch.cuda.device_count(), ""
    if torch.cuda.device_count() == 0:
        return 0, ""
    text = str(said[0].message) if said else "its driver does not start"
    return 0, text.splitlines()[0].partition(" (Triggered")[0].rstrip(". ")


def resolve_precision(precision: str, device: str, backbone: str) -> str:
    """`auto` is bf16 on a GPU with instructions for it, and on such a processor for an encoder; else fp32.

    Small networks gain little by it on a processor (tests/benchmarks/precision.py), an encoder takes a third of the
    time.
    """
    if precision != "auto":
        return precision
    if device == "cpu":
        return "bf16" if is_encoder(backbone) and backbone != ONNX and _processor_has_bf16() else "fp32"
    return "bf16" if device != "mps" and _gpu_has_bf16(device) else "fp32"


def _gpu_has_bf16(device: str) -> bool:
    """Whether this GPU multiplies bf16 matrices by instructions of its own: NVIDIA's from compute capability 8 on.

    `torch.cuda.is_bf16_supported` asks the current GPU, which may be another.
    """
    return torch.version.hip is not None or torch.cuda.get_device_properties(device).major >= 8


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

"""What goes wrong on a device, said as what it is: too little memory, a driver that fails, a GPU too new or too old."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from labelfix.errors import InputError

_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
_ASKED_FOR = re.compile(r"tried to allocate ([\d.]+ \w+)", re.IGNORECASE)
_OF_A_GPU = re.compile(
    r"CUDA (driver )?error|cuDNN error|NVIDIA driver|CUDA-capable|CUDA driver|HIP error|MPS backend"
)
_NO_CODE = "no kernel image"
# What was asked of the GPU was wrong: that is a bug, and no other device would do better.
_ASSERTED = "device-side assert"


def is_too_little_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had too little memory for what was asked of it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _OF_MEMORY.search(str(error)) is not None


def is_of_device(error: BaseException) -> bool:
    """Whether it was the device that failed, whatever it was asked for."""
    if is_too_little_memory(error):
        return True
    if not isinstance(error, RuntimeError) or _ASSERTED in str(error):
        return False
    return isinstance(error, torch.AcceleratorError) or _OF_A_GPU.search(str(error)) is not None


@contextmanager
def plain_device_errors(device: str, way_out: str = "") -> Iterator[None]:
    """Inside, a device that fails ends in one line.

    Args:
        device: cpu, cuda:N or mps.
        way_out: options that need less memory, in words; none where there is none but another device.

    Raises:
        InputError: in place of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_of_device(error):
            raise
        raise InputError(_in_words(error, device, way_out)) from error


def _in_words(error: BaseException, device: str, way_out: str) -> str:
    text = str(error)
    if is_too_little_memory(error):
        found = _ASKED_FOR.search(text)
        asked = f" for {found[1]} more" if found else ""
        ways = [way for way in (way_out, "" if device == "cpu" else "--device cpu") if way]
        return (
            f"--device {device} has too little memory{asked}; use {' or '.join(ways) or 'a larger machine'}"
        )
    if _NO_CODE in text:
        return (
            f"--device {device}: torch {torch.__version__} has no code for this GPU; install a build of torch that has,"
            " or use --device cpu"
        )
    reason = text.splitlines()[0].rstrip(".")
    return f"--device {device}: the GPU failed ({reason}); see whether its driver works, or use --device cpu"

"""What `auto` means where a scan runs."""

from __future__ import annotations

import pytest
import torch

from labelfix.devices import largest_image, resolve_backbone, resolve_device, resolve_precision
from labelfix.errors import InputError


def test_auto_takes_the_first_gpu_where_there_is_one():
    expected = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:-1", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(device):
    with pytest.raises(InputError, match=rf"^--device {device}: .*use (auto|--device auto).*$"):
        resolve_device(device)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, "fp32"), ({"avx2": True}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_auto_on_a_processor_is_bf16_for_an_encoder_where_it_has_that(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", "cpu", "lite0") == expected
    assert resolve_precision("auto", "cpu", "small") == resolve_precision("auto", "cpu", "onnx") == "fp32"


def test_a_precision_that_was_asked_for_is_kept():
    assert resolve_precision("fp32", "cpu", "lite0") == "fp32"
    assert resolve_precision("bf16", "cpu", "small") == "bf16"


@pytest.mark.parametrize(
    ("backbone", "device", "size", "expected"),
    [
        ("auto", "cpu", 224, "small"),
        ("auto", "cuda:0", 64, "preact-resnet18"),
        ("auto", "cuda:0", 65, "resnet50"),
        ("resnet29", "cuda:0", 224, "resnet29"),
    ],
)
def test_the_network_suits_device_and_image_size(backbone, device, size, expected):
    assert resolve_backbone(backbone, device, size) == expected


def test_images_are_smaller_on_a_cpu():
    assert largest_image("cpu") == 64
    assert largest_image("cuda:1") == 224

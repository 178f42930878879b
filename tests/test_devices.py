"""What `auto` means where a scan runs, and what a device says that fails."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

from labelfix.config import environment
from labelfix.device_errors import plain_device_errors
from labelfix.devices import largest_image, resolve_backbone, resolve_device, resolve_precision
from labelfix.errors import InputError


def test_auto_takes_the_first_gpu_where_there_is_one():
    expected = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == "cpu"


def break_the_driver(monkeypatch):
    def unavailable():
        warnings.warn(
            "CUDA initialization: the driver is too old (found version 11).\nUpdate it", stacklevel=2
        )
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_a_gpu_whose_driver_does_not_work_is_one_line(monkeypatch):
    break_the_driver(monkeypatch)
    reason = r"\(CUDA initialization: the driver is too old \(found version 11\)\)"
    with pytest.warns(UserWarning, match=rf"^there is a GPU that cannot be used {reason}: the CPU is$"):
        assert resolve_device("auto") == "cpu"
    with pytest.raises(
        InputError, match=rf"^--device cuda: the GPU cannot be used {reason}; use --device auto$"
    ):
        resolve_device("cuda")


def test_the_gpu_that_is_used_is_asked_for_bf16(monkeypatch):
    of_each = {"cuda:0": SimpleNamespace(major=7), "cuda:1": SimpleNamespace(major=8)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", of_each.__getitem__)
    assert resolve_precision("auto", "cuda:0", "small") == "fp32"
    assert resolve_precision("auto", "cuda:1", "small") == "bf16"
    assert resolve_precision("auto", "mps", "small") == "fp32"


def test_an_apple_gpu_is_taken_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps") == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="^--device mps: torch finds no Apple GPU here; use --device auto$"):
        resolve_device("mps")


def test_the_gpu_is_part_of_what_the_bytes_depend_on(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the one at {device}")
    found = environment("bmm", device="cuda:1")
    assert found.pop("gpu") == {
        "name": "the one at cuda:1",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    assert found == environment("bmm")


FAILURES = [
    (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"),
        "--device cuda:0 has too little memory for 2.00 GiB more; use fewer rows or --device cpu",
    ),
    *(
        (error, "--device cuda:0 has too little memory; use fewer rows or --device cpu")
        for error in (RuntimeError("MPS backend out of memory"), MemoryError())
    ),
    (
        torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
        f"--device cuda:0: torch {torch.__version__} has no code for this GPU; install a build of torch that has, or"
        " use --device cpu",
    ),
    (
        RuntimeError("Found no NVIDIA driver on your system.\nPlease check"),
        "--device cuda:0: the GPU failed (Found no NVIDIA driver on your system); see whether its driver works, or use "
        "--device cpu",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("error", "expected"), FAILURES, ids=range(len(FAILURES)))
def test_a_device_that_fails_says_so_in_one_line(error, expected):
    with pytest.raises(InputError) as caught, plain_device_errors("cuda:0", "fewer rows"):
        raise error
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[3]' is invalid for input of size 4"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
    ],
)
def test_a_bug_is_no_failure_of_the_device(error):
    with pytest.raises(RuntimeError) as caught, plain_device_errors("cuda:0"):
        raise error
    assert caught.value is error


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


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_more_processes_than_gpus_are_refused_before_they_wait_for_each_other(monkeypatch, device):
    monkeypatch.setattr("labelfix.devices._usable_gpus", lambda: (4, ""))
    monkeypatch.setattr("labelfix.processes.count", lambda: 8)
    monkeypatch.setattr("labelfix.processes.number_on_machine", lambda: 5)
    with pytest.raises(InputError, match=r"process 6 of this machine has no GPU, there are 4; start as many"):
        resolve_device(device)
    assert resolve_device("cpu") == "cpu"

"""A classifier as one ONNX file: pixels in, logits and probabilities out, checked against the network it came from."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelfix.atomic_files import atomic_path
from labelfix.data.images.store import stored_size
from labelfix.errors import InputError, LabelfixError
from labelfix.networks import NetworkSpec
from labelfix.networks.encoders import ONNX

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_LARGEST = 2**31 - 2**20  # protobuf stops at 2 GiB; the graph beside the weights takes well under a MiB
_CHECKED_BATCHES = (1, 2, 5)
_TOLERANCE = 1e-4


class _Deployed(nn.Module):
    """A network with what stands before and after it: (B, 3, H, H) in 0..1 to logits, probabilities."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network((images - self.mean) * self.scale)
        return logits, logits.softmax(dim=1)


def write_onnx(
    path: Path,
    network: nn.Module,
    spec: NetworkSpec,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    white: int,
    notes: dict[str, str],
) -> None:
    """Write a network as ONNX, atomically and only when the file was found to answer as the network does.

    Args:
        path: of the file.
        network: (B, 3, H, H) to logits (B, K), on the CPU, in evaluation mode.
        spec: of the network.
        mean: per channel, of pixel values in 0..1.
        std: per channel, of pixel values in 0..1.
        white: see `Classifier.white`.
        notes: for the metadata, beside those of the preprocessing.

    Raises:
        InputError, LabelfixError: as `Classifier.to_onnx`.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file that ends in .onnx")
    if path.suffix.lower() != ".onnx":
        raise InputError(f"{path}: name a file that ends in .onnx")
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f'to_onnx needs {", ".join(missing)}: pip install "labelfix[onnx]"')
    backbone = spec.backbone
    if backbone == ONNX:
        raise InputError(
            f"{path}: a classifier on an ONNX encoder cannot be written as one file; use labelfix predict, or scan with"
            " --encoder lite0 or timm:NAME"
        )
    tensors = network.state_dict().values()
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > _LARGEST:
        raise LabelfixError(f"{path}: {backbone} has more than the 2 GiB of weights that one ONNX file holds")
    deployed = _Deployed(network, mean, std).eval()
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(_exported(deployed, spec, {**_preprocessing(spec, white), **notes}))
            difference = _difference(deployed, temporary, spec.image_size)
            if not difference <= _TOLERANCE:
                raise LabelfixError(
                    f"{path}: not written, since {backbone} answers otherwise in onnxruntime (by {difference:.1g} of"
                    " its largest logit); try other versions of torch and onnxruntime"
                )
    except OSError as error:
        where = "" if error.filename is None else f": {error.filename}"
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}{where}); choose another place"
        ) from None


def _exported(deployed: _Deployed, spec: NetworkSpec, notes: dict[str, str]) -> bytes:
    """The bytes of the file: the same for the same weights and packages."""
    import onnx

    side = spec.image_size
    try:
        program = torch.onnx.export(
            deployed,
            (torch.zeros(2, 3, side, side),),  # of a batch of one it would conclude that batches are of one
            input_names=["images"],
            output_names=["logits", "probs"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise LabelfixError(f"{spec.backbone} cannot be exported to ONNX ({reason})") from error
    assert program is not None
    model = program.model_proto
    # The exporter notes stack traces with the paths of this machine.
    _strip(model)
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _preprocessing(spec: NetworkSpec, white: int) -> dict[str, str]:
    """What a program must know beside the graph, as text."""
    size = spec.image_size
    side = stored_size(size)
    crop = "" if side == size else f", of that the central {size} px"
    return {
        "image_size": str(size),
        "resize_to": str(side),
        "white": str(white),
        "preprocessing": "RGB, upright by its EXIF orientation, transparent pixels over white; the central square at "
        f"{side} x {side} px (bicubic, antialiased){crop}; divided by 255, 16-bit grey by {white} and at most 1; the"
        " graph normalises",
        "network": spec.backbone,
        "labelfix_version": version("labelfix"),
    }


def _strip(message: Any) -> None:
    """Remove the notes of a protobuf message and of all messages inside it."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip(part)


def _difference(deployed: _Deployed, path: Path, side: int) -> float:
    """Largest difference of logits and probabilities in onnxruntime, as a share of the largest logit or of 1.

    On random images in batches of several sizes; NaN equals NaN, as after a training that diverged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for count in _CHECKED_BATCHES:
        images = torch.rand(count, 3, side, side, generator=generator)
        with torch.no_grad():
            expected = deployed(images)
        found = session.run(["logits", "probs"], {"images": images.numpy()})
        for ours, theirs in zip(expected, map(torch.from_numpy, found), strict=True):
            known = ours.isfinite()
            if not torch.equal(known, theirs.isfinite()):
                return float("inf")
            if known.any():
                scale = max(1.0, float(ours[known].abs().max()))
                worst = max(worst, float((ours - theirs)[known].abs().max()) / scale)
    return worst

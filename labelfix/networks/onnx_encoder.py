"""The user's own encoder, from an ONNX file, run by onnxruntime (extra `onnx`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from labelfix.errors import InputError

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_DEFAULT_SIZE = 224
_CHANNELS = 3
_MOST_BYTES = 1 << 30


class OnnxEncoder(nn.Module):
    """An ONNX model as a module without weights to train: (B, 3, H, H) to features (B, D).

    The file itself is its only tensor, so that a classifier on it holds all that it needs. It is read from memory: a
    model that keeps its weights in other files is refused, and so none of those is ever opened.

    Args:
        content: (bytes,) uint8, the file.
        name: shown in errors.
    """

    content: torch.Tensor

    def __init__(self, content: torch.Tensor, name: str) -> None:
        super().__init__()
        self.register_buffer("content", content)
        self.name = name
        self._opened: Any = None

    @classmethod
    def from_file(cls, path: Path) -> OnnxEncoder:
        """Of a file.

        Raises:
            InputError: it cannot be read, or is larger than 1 GiB.
        """
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise InputError(f"--encoder {path}: it is larger than 1 GiB; take a smaller encoder")
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"--encoder {path}: {error.strerror}; name a file that ends in .onnx") from None
        if not content:
            raise InputError(f"--encoder {path}: it is empty; give a whole ONNX file")
        return cls(torch.frombuffer(bytearray(content), dtype=torch.uint8), f"--encoder {path}")

    @property
    def image_size(self) -> int:
        """Side of its images in pixels; 224 where it takes any."""
        sides = [side for side in self._session()[1] if isinstance(side, int) and side > _CHANNELS]
        return sides[-1] if sides else _DEFAULT_SIZE

    @property
    def normalisation(self) -> dict[str, tuple[float, ...]]:
        """Its `mean` and `std` per channel, by its metadata, JSON lists of pixel values in 0..1; else ImageNet's."""
        notes = self._session()[0].get_modelmeta().custom_metadata_map
        found = {}
        for name, usual in _IMAGENET.items():
            try:
                values = tuple(float(value) for value in json.loads(notes.get(name, "[]")))
            except (ValueError, TypeError):
                values = ()
            found[name] = values if len(values) == _CHANNELS else usual
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, H) to features (B, D), maps pooled by their mean."""
        session, shape = self._session()
        entry = session.get_inputs()[0].name
        pixels = images.float().cpu().contiguous().numpy()
        if shape[1] != _CHANNELS and shape[-1] == _CHANNELS:
            pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        # A model for one image at a time gets them so.
        step = shape[0] if isinstance(shape[0], int) else len(pixels)
        if len(pixels) % step:
            raise InputError(f"{self.name}: it takes {step} images at a time; export it for any number")
        try:
            parts = [session.run(None, {entry: pixels[k : k + step]})[0] for k in range(0, len(pixels), step)]
        except Exception as error:  # onnxruntime's own classes
            raise InputError(
                f"{self.name}: it does not take images of {images.shape[-1]} px"
                f" ({str(error).splitlines()[0]}); give --image-size"
            ) from None
        found = torch.from_numpy(np.concatenate([np.atleast_1d(part) for part in parts])).float()
        if found.ndim == 4:
            found = found.mean(dim=(2, 3))
        if found.ndim != 2 or len(found) != len(images):
            raise InputError(
                f"{self.name}: its first output is {tuple(found.shape)} for {len(images)} images; give one"
                " vector, or one map of channels, an image"
            )
        return found.to(images.device)

    def _session(self) -> tuple[Any, list[Any]]:
        """The session and the shape of its input, opened when they are first asked for."""
        if self._opened is None:
            try:
                import onnxruntime
            except ImportError:
                raise InputError('an ONNX encoder needs onnxruntime: pip install "labelfix[onnx]"') from None
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 4
            try:
                session = onnxruntime.InferenceSession(
                    self.content.cpu().numpy().tobytes(), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's own classes
                raise InputError(
                    f"{self.name}: it cannot be opened ({str(error).splitlines()[0]}); give a whole ONNX"
                    " file, without weights in other files"
                ) from None
            entries = session.get_inputs()
            if len(entries) != 1 or entries[0].type != "tensor(float)" or len(entries[0].shape) != 4:
                raise InputError(
                    f"{self.name}: it must take one input, images (B, 3, H, H) or (B, H, H, 3) of floats"
                )
            self._opened = session, list(entries[0].shape)
        return self._opened

    def extra_repr(self) -> str:
        """What its features depend on beside the file."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxEncoder:
        return OnnxEncoder(self.content.clone(), self.name)

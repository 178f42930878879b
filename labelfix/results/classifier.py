"""The trained classifier: safetensors and JSON, and the one prediction loop."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from labelfix import networks
from labelfix.atomic_files import atomic_path, write_json
from labelfix.data.images.decoding import WHITE, BadImage, decode
from labelfix.data.images.store import ImageStore, stored_size
from labelfix.errors import InputError
from labelfix.json_files import Checks, are, are_names, is_count, is_number, is_text, load_object, maybe
from labelfix.networks import NetworkSpec
from labelfix.networks.attention import HEADS
from labelfix.networks.heads import FeatureHead, FrozenEncoder, FrozenNetwork
from labelfix.networks.onnx_encoder import OnnxEncoder
from labelfix.results.onnx import write_onnx
from labelfix.results.run_json import is_image_size
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import Source
from labelfix.training.predictions import batch_logits

if TYPE_CHECKING:
    import pandas as pd

    from labelfix.config import ScanConfig
    from labelfix.training.trainer import Trainer


HALF = 0.5  # probability from which an image has a class
NOT_FINITE = "the classifier's output is not finite: its training diverged; scan again"
_BATCH = 500
_MOST_VIEWS = 2


@dataclass
class Classifier:
    """A trained network with all that is needed to use it.

    Attributes:
        network: on the CPU, evaluation mode.
        spec: how to build it.
        class_names: K names, in the order of the logits.
        mean: per channel, of pixel values in 0..1.
        std: per channel, of pixel values in 0..1.
        method: that trained it.
        white: the value of 16-bit grey that was 255 in the images that it was trained on.
        task: "single" for one label an image, "multi" for any number of them.
    """

    network: nn.Module
    spec: NetworkSpec
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    method: str
    white: int = WHITE
    task: str = "single"

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `classifier.json` atomically into `folder`."""
        folder = Path(folder)
        state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(state, temporary)
        write_json(folder / "classifier.json", self._facts())

    def _facts(self) -> dict[str, Any]:
        return {
            "network": self.spec.to_json(),
            "class_names": list(self.class_names),
            "normalisation": {"mean": list(self.mean), "std": list(self.std), "white": self.white},
            "method": self.method,
            "labelfix_version": version("labelfix"),
            **({} if self.task == "single" else {"task": self.task}),
        }

    def to_onnx(self, path: str | Path) -> Path:
        """Write one ONNX file for programs without torch, after comparing its answers in onnxruntime; extra `onnx`.

        Input `images`: (B, 3, H, H) float32, RGB in 0..1, any B. Outputs `logits` and `probs`: (B, K) float32. The
        normalisation is inside; class names, H, `white` and the rule by which an image comes to H x H px in 0..1
        stand in the metadata.

        Args:
            path: of the file, whose name ends in .onnx; it is replaced where it is there.

        Returns:
            The path.

        Raises:
            InputError: another name, a folder, a place that cannot be written, a package of the extra `onnx` that is
                missing, an ONNX encoder, whose graph is its own, or a classifier for several labels an image.
            LabelfixError: a network that ONNX cannot hold, or whose file answers otherwise than the network.
        """
        if self.task == "multi":
            raise InputError(
                "to_onnx: a multi-label classifier is not written as ONNX; use its classifier/ folder"
            )
        path = Path(path)
        notes = {"class_names": json.dumps(self.class_names, ensure_ascii=False), "method": self.method}
        write_onnx(path, self.network, self.spec, self.mean, self.std, self.white, notes)
        return path

    def predict(self, paths: Sequence[str | Path]) -> pd.DataFrame:
        """Predict image files.

        Args:
            paths: image files of any supported format, several of them; a folder is for `labelfix.predict`.

        Returns:
            A frame with a row per path: `file_name`, `predicted_label`, `confidence` (probability of that
            label, 0 to 1), `predicted_probs` (list of K floats in the order of `class_names`), `error`
            (text where the image could not be read, or the classifier diverged, else None). Where an image may have
            several labels, `predicted_label` is the list of them and `confidence` the smallest probability of what is
            said of a class.

        Raises:
            InputError: a single path in place of several, or an image that is none.
        """
        if isinstance(paths, str | bytes | os.PathLike):
            raise InputError(
                f"predict: {os.fsdecode(paths)!r} is one path; give a list of image files, [path] for one, or label a"
                " folder with labelfix.predict(run, folder) or `labelfix predict RUN FOLDER`"
            )
        import pandas as pd

        given = list(paths)
        for place, path in enumerate(given):
            if not isinstance(path, str | os.PathLike):
                raise InputError(
                    f"predict: image {place} is of type {type(path).__name__}; give paths of image files, or label"
                    " images in memory with labelfix.predict(run, (images, labels))"
                )
        files = [Path(path) for path in given]
        rows = [
            row for k in range(0, len(files), _BATCH) for row in self._predict_files(files[k : k + _BATCH])
        ]
        columns = ["file_name", "predicted_label", "confidence", "predicted_probs", "error"]
        return pd.DataFrame(rows, columns=columns)

    def _predict_files(self, files: Sequence[Path]) -> list[tuple[Any, ...]]:
        store = _decoded(files, self.spec.image_size, self.white)
        device = torch.device("cpu")
        source = Source(store.images, self.augmentation(device), device, resident=False)
        found: dict[int, np.ndarray] = {}
        for some, probs in self.batch_probs(source, np.flatnonzero(store.valid)):
            found.update(zip(some.tolist(), probs, strict=True))
        return [self._row(str(file), found.get(row), store.errors.get(row)) for row, file in enumerate(files)]

    def _row(self, name: str, probs: np.ndarray | None, error: str | None) -> tuple[Any, ...]:
        if probs is None or not np.isfinite(probs).all():
            return name, None, None, None, error or NOT_FINITE
        if self.task == "multi":
            names = [self.class_names[label] for label in np.flatnonzero(probs >= HALF)]
            return name, names, float(np.maximum(probs, 1 - probs).min()), probs.tolist(), error
        best = int(probs.argmax())
        return name, self.class_names[best], float(probs[best]), probs.tolist(), error

    def batch_probs(self, source: Source, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Probabilities of some rows, batch by batch, where the network is.

        Args:
            source: of the images, on the device of the network.
            rows: (R,) int64, the rows to predict.

        Yields:
            Rows (B,) int64 and their probabilities (B, K) float32, not finite where the logits are not.
        """
        for some, found in batch_logits(self.network, source, rows):
            yield some, self.probs_of(found).cpu().numpy()

    def probs_of(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, K) of logits: they sum to 1, but where an image may have several labels."""
        return logits.softmax(dim=1) if self.task == "single" else logits.sigmoid()

    def augmentation(self, device: torch.device) -> Augmentation:
        """The views this network expects, without mirroring."""
        return Augmentation(self.spec.image_size, self.mean, self.std, flip=False, device=device)


def _decoded(files: Sequence[Path], image_size: int, white: int) -> ImageStore:
    """The images of a few files, in memory."""
    side = stored_size(image_size)
    images, errors = np.zeros((len(files), 3, side, side), np.uint8), {}
    for row, file in enumerate(files):
        try:
            images[row] = decode(file, side, white)
        except BadImage as error:
            errors[row] = str(error)
    valid = np.array([row not in errors for row in range(len(files))])
    return ImageStore(images, valid, errors, image_size, side, white)


def load_classifier(folder: str | Path) -> Classifier:
    """Open a classifier that a scan wrote, by its own folder or by that of the run.

    Raises:
        InputError: no classifier there, or one that cannot be read.
    """
    folder = Path(folder)
    if (folder / "classifier" / "classifier.json").is_file():
        folder = folder / "classifier"
    try:
        facts = load_object(folder / "classifier.json", _FACTS)
        spec, names, norm = NetworkSpec(**facts["network"]), facts["class_names"], facts["normalisation"]
        if len(names) != spec.num_classes:
            raise ValueError(f"{len(names)} class names for {spec.num_classes} outputs")
        network = _load_network(spec, folder / "model.safetensors")
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: no classifier here ({Path(error.filename or 'model.safetensors').name} is missing); "
            "name a finished run or its classifier/ folder"
        ) from None
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, InputError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder}: the classifier cannot be read ({reason}); name another run, or scan again"
        ) from error
    mean, std, white = tuple(norm["mean"]), tuple(norm["std"]), norm.get("white", WHITE)
    task = facts.get("task") or "single"
    return Classifier(network, spec, tuple(names), mean, std, facts["method"], white, task)


def _load_network(spec: NetworkSpec, path: Path) -> nn.Module:
    """The trained network, in evaluation mode; built only once the file is known to hold weights of its shapes."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "missing", path.name)
    with torch.device("meta"):
        planned = {name: tuple(value.shape) for name, value in networks.build(spec).state_dict().items()}
    # A header that names more than the file holds is refused by safetensors.
    with safe_open(path, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    if found != planned:
        raise ValueError(f"model.safetensors holds the weights of another network than {spec.backbone}")
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, only to be replaced
        network = networks.build(spec)
    network.load_state_dict(load_file(path))
    return network.to(memory_format=torch.channels_last).eval()


def _is_colour(value: Any) -> bool:
    return are(is_number)(value) and len(value) == 3


_FACTS: Checks = {
    "network": {
        "backbone": is_text,
        "num_classes": is_count,
        "image_size": is_image_size,
        "views": maybe(lambda value: is_count(value) and value <= _MOST_VIEWS),
        "onnx_shape": maybe(are(is_count)),
        "head": maybe(lambda value: value in HEADS),
    },
    "class_names": are_names,
    "normalisation": {
        "mean": _is_colour,
        "std": lambda value: _is_colour(value) and min(value) > 0,
        "white": maybe(lambda value: is_count(value) and 0 < value <= WHITE),
    },
    "method": is_text,
    "task": maybe(lambda value: value in ("single", "multi")),
}


def make_classifier(
    trainer: Trainer,
    config: ScanConfig,
    class_names: tuple[str, ...],
    encoder: FrozenEncoder | None,
    white: int = WHITE,
) -> Classifier:
    """The classifier around the network that a trainer trains, with the frozen `encoder` that it stands on.

    `white` is that of the images, see `Classifier.white`.
    """
    views = trainer.source.augmentation
    seen = 0 if encoder is None else 1 + config.flip
    onnx_shape: tuple[int, ...] = ()
    if encoder is not None and isinstance(encoder.encoder, OnnxEncoder):
        onnx_shape = len(encoder.encoder.content), len(cast("FeatureHead", trainer.network).mean)
    spec = NetworkSpec(
        config.backbone, len(class_names), config.image_size, seen, onnx_shape, config.network_head
    )
    network = trainer.network
    if encoder is not None:
        network = FrozenNetwork(encoder, cast("FeatureHead", network), mirrored=seen == 2)
    return Classifier(network, spec, class_names, views.mean, views.std, config.method, white, config.task)

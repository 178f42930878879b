"""The trained classifier: safetensors and JSON, and the one prediction loop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from labelfix import networks
from labelfix.batches import Source, seed_of
from labelfix.errors import InputError
from labelfix.networks import NetworkSpec
from labelfix.store import BadImage, decode, stored_size
from labelfix.tables import atomic_path, write_json
from labelfix.views import Augmentation

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 500


@torch.no_grad()
def batch_logits(
    network: nn.Module,
    source: Source,
    rows: np.ndarray,
    *,
    view: str = "plain",
    seed: int = 0,
    precision: torch.dtype = torch.float32,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits of some rows in evaluation mode, batch by batch; the network's mode is put back afterwards.

    Args:
        network: (B, 3, H, H) to logits (B, K), on the device of the source.
        source: of the images.
        rows: (R,) int64, the rows to predict.
        view: "plain", or "weak" for a random crop and mirror drawn from `seed`.
        seed: of the weak view.
        precision: torch.bfloat16 for automatic mixed precision.

    Yields:
        Rows (B,) int64 and their logits (B, K) float32, on the device.
    """
    training = network.training
    network.eval()
    slices = [rows[k : k + _BATCH] for k in range(0, len(rows), _BATCH)]
    seeds = (seed_of(seed, k) for k in range(len(slices)))
    try:
        for batch in source.batches(slices, (view,), seeds):
            with torch.autocast(source.device.type, torch.bfloat16, enabled=precision is torch.bfloat16):
                found = network(batch.views[0]).float()
            yield batch.rows, found
    finally:
        network.train(training)


def logits(
    network: nn.Module,
    source: Source,
    rows: np.ndarray,
    *,
    view: str = "plain",
    seed: int = 0,
    precision: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Logits of some rows in evaluation mode, by the arguments of `batch_logits`.

    Returns:
        (N, K) float32 on the device, N rows of the source; NaN for rows that were not asked for.
    """
    result: torch.Tensor | None = None
    for some, found in batch_logits(network, source, rows, view=view, seed=seed, precision=precision):
        if result is None:
            shape = (source.num_rows, found.shape[1])
            result = torch.full(shape, float("nan"), device=source.device)
        result[some] = found
    if result is None:
        raise InputError("there is no valid image to predict")
    return result


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
    """

    network: nn.Module
    spec: NetworkSpec
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    method: str

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
            "normalisation": {"mean": list(self.mean), "std": list(self.std)},
            "method": self.method,
            "labelfix_version": version("labelfix"),
        }

    def predict(self, paths: Sequence[str | Path]) -> pd.DataFrame:
        """Predict image files.

        Args:
            paths: image files of any supported format.

        Returns:
            A frame with a row per path: `file_name`, `predicted_label`, `confidence` (probability of that
            label, 0 to 1), `predicted_probs` (list of K floats in the order of `class_names`), `error`
            (text where the image could not be read, else None).
        """
        import pandas as pd

        rows = [self._predict_one(Path(path)) for path in paths]
        columns = ["file_name", "predicted_label", "confidence", "predicted_probs", "error"]
        return pd.DataFrame(rows, columns=columns)

    @torch.no_grad()
    def _predict_one(
        self, path: Path
    ) -> tuple[str, str | None, float | None, list[float] | None, str | None]:
        try:
            pixels = decode(path, stored_size(self.spec.image_size))
        except BadImage as error:
            return str(path), None, None, None, str(error)
        view = self.augmentation(torch.device("cpu")).plain(torch.from_numpy(pixels.copy()).unsqueeze(0))
        probs = self.network(view).softmax(dim=1)[0]
        best = int(probs.argmax())
        return str(path), self.class_names[best], float(probs[best]), probs.tolist(), None

    def augmentation(self, device: torch.device) -> Augmentation:
        """The views this network expects, without mirroring."""
        return Augmentation(self.spec.image_size, self.mean, self.std, flip=False, device=device)


def load_classifier(folder: str | Path) -> Classifier:
    """Open a classifier that a scan wrote, by its own folder or by that of the run.

    Raises:
        InputError: no classifier there, or one that cannot be read.
    """
    folder = Path(folder)
    if (folder / "classifier" / "classifier.json").is_file():
        folder = folder / "classifier"
    try:
        facts = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
        spec = NetworkSpec(**facts["network"])
        network = networks.build(spec)
        network.load_state_dict(load_file(folder / "model.safetensors"))
        norm = facts["normalisation"]
        names = tuple(facts["class_names"])
        network = network.to(memory_format=torch.channels_last).eval()
        return Classifier(network, spec, names, tuple(norm["mean"]), tuple(norm["std"]), facts["method"])
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: no classifier here ({Path(error.filename or 'model.safetensors').name} is missing); "
            "name the classifier/ folder of a run"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: the classifier cannot be read ({error})") from error

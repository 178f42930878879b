"""Checkpoints: tensors in safetensors, the rest in JSON with their SHA-256; the newest two are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from labelfix.tables import atomic_path, write_json

_KEPT = 2
_NAMES = "[0-9]" * 9 + ".json"


def save(folder: Path, number: int, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write checkpoint `number`; it counts once its JSON file stands, whose hash covers the tensors.

    Args:
        folder: of the checkpoints; made if missing.
        number: larger than that of every earlier checkpoint.
        tensors: by name, on any device and in any layout.
        facts: JSON-able.
    """
    tensor_path, fact_path = folder / f"{number:09d}.safetensors", folder / f"{number:09d}.json"
    with atomic_path(tensor_path) as temporary:
        # safetensors stores plain rows only; the layout is the reader's own.
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)
        digest = _sha256(temporary)
    write_json(fact_path, {"sha256": digest, "facts": dict(facts)})
    for path in sorted(folder.glob(_NAMES))[:-_KEPT]:
        path.unlink()
        path.with_suffix(".safetensors").unlink(missing_ok=True)


def load_newest(folder: Path) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
    """Number, tensors (on the CPU) and facts of the newest whole checkpoint; None where there is none."""
    for path in sorted(folder.glob(_NAMES), reverse=True):
        tensors = path.with_suffix(".safetensors")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if _sha256(tensors) == record["sha256"]:
                return int(path.stem), load_file(tensors), record["facts"]
        except (OSError, ValueError, KeyError):
            continue  # half-written or damaged: the one before it counts
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

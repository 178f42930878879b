"""Checkpoints: tensors in safetensors, the rest in JSON with their SHA-256; the newest two are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from labelfix.atomic_files import atomic_path, write_json
from labelfix.json_files import is_object, is_text, load_object

_KEPT = 2


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
    for path in _records(folder)[:-_KEPT]:
        path.unlink()
        path.with_suffix(".safetensors").unlink(missing_ok=True)


def newest_first(
    folder: Path, damaged: list[Path] | None = None
) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """Yield tensors (on the CPU) and facts of the whole checkpoints; half-written ones are none.

    Args:
        folder: of the checkpoints.
        damaged: takes those that counted once and cannot be read any more.
    """
    for path in reversed(_records(folder)):
        tensors = path.with_suffix(".safetensors")
        try:
            record = load_object(path, {"sha256": is_text, "facts": is_object})
            if _sha256(tensors) != record["sha256"]:
                raise ValueError("the tensors are others than were saved")
            found = load_file(tensors)
        except (OSError, ValueError, SafetensorError):
            if damaged is not None:
                damaged.append(path)
            continue
        yield found, record["facts"]


def newest_number(folder: Path) -> int:
    """Number of the newest checkpoint, whole or not; 0 where there is none."""
    return max((int(path.stem) for path in _records(folder)), default=0)


def _records(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{'[0-9]' * 9}.json"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

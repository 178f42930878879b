"""What no export or page replaces or writes into: the source and its images, the run and what a person decided."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.corrections import METADATA_KEY, Corrections
from labelfix.errors import InputError
from labelfix.originals import scanned_source, source_options, verified_and_test
from labelfix.run_folder import RunFolder
from labelfix.sources import Query, open_source

_Identity = tuple[int, int]
_LONGEST_HEADER = 1 << 16


def check_protected(
    corrections: Corrections, out: Path, source: Any, decisions: str | Path | None, *, is_folder: bool
) -> None:
    """Refuse to write where something lies that has to stay.

    Args:
        corrections: that are exported.
        out: a file or folder, there or not.
        source: where the images are now, as the user says.
        decisions: the file of a person's decisions.
        is_folder: whether `out` is to be a folder.

    Raises:
        InputError: `out` is the corrections, the decisions, a file of the run or one that it was given, holds other
            findings or decisions, or lies in the source.
    """
    above = _identities(out)
    if _identity(corrections.path) in above:
        raise InputError(f"--out {out} is the corrections file itself; choose another name")
    given = verified_and_test(corrections.path)
    if decisions is not None and Path(decisions).expanduser().is_file():
        given["--decisions"] = Path(decisions).expanduser()
    for option, place in given.items():
        if _identity(place) in above:
            where = f"lies in {place}, the source of" if place.is_dir() else "is the file of"
            raise InputError(f"--out {out} {where} {option}; choose another name")
    run = RunFolder(corrections.path.parent)
    for part in (run.config, run.summary, run.epochs, run.classifier, run.checkpoint):
        if _identity(part) in above:
            raise InputError(f"--out {out} would write over {part} of the run; choose another name")
    if out.is_file():
        _check_work(out)
    named = Path(source).expanduser() if isinstance(source, str | os.PathLike) else None
    sources = [place for place in (scanned_source(corrections.path), named) if place is not None]
    for place in sources:
        if _lies_in(out, place):
            raise _in_source(out, place)
    _check_images(corrections, out, source, sources, is_folder=is_folder)


def _check_work(out: Path) -> None:
    """Refuse to replace findings of any run, and decisions of a person; a file that cannot be read is neither."""
    try:
        if out.suffix.lower() == ".parquet":
            if METADATA_KEY in (pq.read_schema(out).metadata or {}):
                raise InputError(f"--out {out} holds findings of labelfix; choose another name")
            return
        with out.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(_LONGEST_HEADER)
        names = json.loads(first) if first.startswith("{") else next(csv.reader([first]), [])
    except (OSError, ValueError, csv.Error, pa.ArrowInvalid):
        return
    if "decision" in names:
        raise InputError(f"--out {out} holds what a person decided; choose another name")


def holds_images(corrections: Path, source: Any) -> bool:
    """Whether the images of a run lie inside its source, and are no files; False where that cannot be found out.

    Args:
        corrections: the file.
        source: where the images are now, as the user says.

    Raises:
        InputError: the source is there, but can no more be read.
    """
    options = source_options(corrections)
    place = source if isinstance(source, str | os.PathLike) else options.get("source")
    if place is None:
        return bool(options) and options.get("root") is None
    path = Path(place).expanduser()
    if not (path.is_dir() or (path.is_file() and path.suffix.lower() == ".parquet")):
        return False
    columns = options.get("image_column"), options.get("label_column")
    return open_source(Query(path, None, None, *columns, require_labels=False)).holds_images


def _check_images(
    corrections: Corrections, out: Path, source: Any, sources: list[Path], *, is_folder: bool
) -> None:
    """Refuse a folder that holds images of the source, or their root, and a file that is one of them.

    Where the run itself lies there too, somebody works in that folder, and new files may join it.
    """
    around = _identities(corrections.path.parent)
    above = {identity: path for identity, path in _identities(out).items() if identity not in around}
    bases = [place if place.is_dir() else place.parent for place in sources]
    root = source_options(corrections.path).get("root")
    if root is not None:
        bases.append(Path(root))
        if _identity(Path(root)) in above:
            raise _in_source(out, Path(root))
    if not is_folder and not out.exists():
        return
    for name in _names(corrections, None if is_folder else out.name):
        for base in bases:
            place = above.get(_identity(base / name))
            if place is not None:
                if holds_images(corrections.path, source):
                    return
                raise _in_source(out, place)


def _names(corrections: Corrections, ending: str | None) -> Iterator[str]:
    """The images whose names end so, as the source calls them; without an ending the folders that images lie in."""
    for batch in corrections.batches(["file_name"]):
        names = batch.column(0)
        names = names.filter(pc.not_equal(names, ""))
        if ending is None:
            yield from pc.unique(pc.replace_substring_regex(names, "[^/]*$", "")).to_pylist()
        else:
            yield from names.filter(pc.ends_with(names, ending)).to_pylist()


def _lies_in(out: Path, source: Path) -> bool:
    """Whether `out` is the source or lies in it, or in a class folder that is a link."""
    folders = [source.resolve()]
    if source.is_dir():
        folders += [Path(entry.path).resolve() for entry in os.scandir(source) if entry.is_symlink()]
    places = (out.resolve(), out.parent.resolve() / out.name)
    return any(place.is_relative_to(folder) for place in places for folder in folders)


def _in_source(out: Path, source: Path) -> InputError:
    return InputError(f"--out {out} lies in the source {source}, where nothing is written; choose another")


def _identities(path: Path) -> dict[_Identity | None, Path]:
    """What is at a path, and all the folders above it, links or not."""
    place, beside = path.resolve(), path.parent.resolve()
    found = {_identity(part): part for part in (place, *place.parents, beside, *beside.parents)}
    found.pop(None, None)
    return found


def _identity(path: Path) -> _Identity | None:
    """What tells a file or folder from all others, whatever it is called; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino

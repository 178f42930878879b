"""The source of a run, opened again: its images for review and exports, once they have proved to be the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.data.hub import is_hub_address
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.results.corrections import Corrections
from labelfix.results.run_json import read_config

# Of the rows, but always a few: beyond it, it is another source with names like these.
_MOST_GONE, _A_FEW = 0.05, 3


def read_originals(corrections: Corrections, source: Any = None) -> Manifest:
    """The rows that the findings are of, by sample_id, with their images.

    Args:
        corrections: the findings.
        source: where the data are now, anything that `Manifest.read` takes; None: where config.json names it.

    Raises:
        InputError: the run does not name what it scanned, its source is gone, in memory or has changed since, or more
            of its images are links, and `source`, which allows that, is not given. Files that were deleted since, few
            of many, are `Manifest.gone`, and no error.
    """
    options = source_options(corrections.path)
    if source is None and not options:
        raise InputError(
            f"{corrections.path}: the config.json of the run is not beside it, so its images cannot be found;"
            " name them with --source"
        )
    if source is None and options.get("source") is None:
        raise InputError(f"{corrections.path} is of images in memory; in Python pass them again as source=")
    place = options["source"] if source is None else source
    is_path = isinstance(place, str | os.PathLike) and not is_hub_address(place)
    if is_path and not Path(place).expanduser().exists():
        way_out = (
            "check the path" if source is not None else "if the data have moved, name them with --source"
        )
        raise InputError(f"{place}: the source of {corrections.path} is not there; {way_out}")
    for root in _roots(options, source):
        manifest = Manifest.read(
            place,
            rows=corrections.num_rows,
            root=root,
            image_column=options.get("image_column"),
            label_column=options.get("label_column"),
            class_map=options.get("class_map"),
            require_labels=False,
            has_images=options.get("has_images") is not False,
            task=options.get("task") or "single",
            label_columns=options.get("label_columns"),
            label_separator=options.get("label_separator"),
        )
        found = _same_rows(manifest, corrections)
        if found is not None:
            if source is None:
                _check_links(found, corrections.path)
            return found
    raise InputError(
        f"{manifest.source} is not what {corrections.path} was made from, or has changed since (files, their"
        " order, labels or sizes differ); scan it again, or name the right data with --source"
    )


def _same_rows(manifest: Manifest, corrections: Corrections) -> Manifest | None:
    """The manifest where it is what was scanned, also where files have been deleted since; None where it is not."""
    if manifest.fingerprint == corrections.metadata["source_fingerprint"]:
        return manifest
    if manifest.holds_images:
        return None
    places = {name: row for row, name in enumerate(manifest.file_names().to_pylist())}
    rows, is_valid = [], []
    for batch in corrections.batches(["file_name", "given_label", "is_valid"]):
        given = batch.column("given_label").to_pylist()
        for name, label in zip(batch.column("file_name").to_pylist(), given, strict=True):
            place = places.get(name, -1)
            if place >= 0 and manifest.label_of(place) != label:
                return None
            rows.append(place)
        is_valid += batch.column("is_valid").to_pylist()
    found, valid = np.array(rows, np.int64), np.array(is_valid, bool)
    if len(set(rows) - {-1}) < len(places):
        return None
    # A manifest names files that are not there any more; a folder does not.
    found[[row for row in np.flatnonzero(found >= 0).tolist() if not manifest.has_file(int(found[row]))]] = -1
    num_gone = int((valid & (found < 0)).sum())
    return manifest.taken(found) if 0 < num_gone <= max(_A_FEW, _MOST_GONE * len(rows)) else None


def _check_links(manifest: Manifest, corrections: Path) -> None:
    """Refuse links where the scan saw files or folders: they may lead to what nobody meant to show."""
    scanned = read_config(corrections.parent).get("files") or {}
    found = {"num_links": manifest.num_links, "num_linked_folders": manifest.num_linked_folders}
    for name, kind in (("num_links", "images"), ("num_linked_folders", "folders")):
        before = scanned.get(name)
        if before is not None and found[name] > before:
            raise InputError(
                f"{manifest.source}: {found[name]:,} of its {kind} are links, and {before:,} were when it was"
                f" scanned; put the {kind} back, or, where the links are right, name it with --source"
            )


def _roots(options: dict[str, Any], source: Any) -> list[str | None]:
    """Where relative paths may start: at the root of the scan, and for a source named now also at its own folder."""
    root = options.get("root")
    if source is None and root is not None and not Path(root).is_dir():
        raise InputError(
            f"{root}: the folder that the paths of {options['source']} start from is not there; put it back, or name a"
            " manifest beside its images with --source"
        )
    known = root is not None and Path(root).is_dir()
    return ([root] if known else []) + ([] if known and source is None else [None])


def stored_images(corrections: Corrections) -> ImageStore | None:
    """The images of a run as they were decoded for it, without its source; None where the cache has lost them."""
    config = read_config(corrections.path.parent)
    key = (config.get("files") or {}).get("image_key")
    size = (config.get("config") or {}).get("image_size")
    if key is None or size is None:
        return None  # a corrections file that was moved out of its run
    return ImageStore.find(key, corrections.num_rows, size)


def scanned_source(corrections: Path) -> Path | None:
    """The source that a corrections file was made from, by the config.json beside it; None without one."""
    options = source_options(corrections)
    return Path(options["source"]) if options.get("source") else None


def source_options(corrections: Path) -> dict[str, Any]:
    """Source, root and columns of the run that a corrections file lies in; empty where it was moved out of it."""
    return read_config(corrections.parent).get("source") or {}


def verified_and_test(corrections: Path) -> dict[str, Path]:
    """The file of --trusted and the source of --test that a run was given, by option; what it had not is left out."""
    files = read_config(corrections.parent).get("files") or {}
    found = {"--trusted": files.get("trusted"), "--test": (files.get("test") or {}).get("source")}
    return {option: Path(place) for option, place in found.items() if place is not None}

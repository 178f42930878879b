"""Label Studio: `tasks.json` with the corrected label of each image as its prediction, and the labelling configuration.

Import `config.xml` as the labelling interface of a project and `tasks.json` as its data. Tasks come in the order of
their prediction's score, 1 - noise_score, lowest first: the worst labels are looked at first; where the label was
verified the score is 1. Without a prefix images
are Label Studio's local files: LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED is to be true, the folder above the source's
LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, and the source's a local storage of the project.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree  # nosec B405 # only writes XML

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import InputError
from labelfix.exports.base import Export
from labelfix.exports.jsonl import joined, parts
from labelfix.results.corrections import ROW_GROUP
from labelfix.results.originals import source_options
from labelfix.results.protected_paths import holds_images

SUFFIXES: tuple[str, ...] = ("",)
NEEDS: tuple[str, ...] = ("sample_id", "is_trusted")
HOLDS_IMAGES = False
IS_TEXT = True
TAKES_SEVERAL = True

LOCAL_FILES = "/data/local-files/?d="
_MANIFESTS = (".csv", ".tsv", ".jsonl", ".parquet")
_OUTSIDE = r"^/|(^|/)\.\.(/|$)"
_NO_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_NEEDS_QUOTING = "[^A-Za-z0-9_.~/-]"


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write tasks and configuration.

    Raises:
        InputError: a class name that XML cannot hold, columns of the same name, or images that are no files below
            the source where there is no prefix for addresses of theirs.
    """
    kind = "multiple" if export.is_multi else "single"
    (path / "config.xml").write_text(_configuration(export.class_names, kind), encoding="utf-8")
    names, prefix = _data_names(export), _prefix(export)
    found = export.corrections.metadata
    model = json.dumps(f"labelfix {found['labelfix_version']} {found['method']}")
    spool = path / "rows.arrow"
    with (path / "tasks.json").open("wb") as file:
        file.write(b"[")
        is_first = True
        for batch in _worst_first(export, spool):
            for part in parts(batch):
                if export.image_url_prefix is None:
                    _check_served(part.column("file_name"), export)
                tasks = joined([",\n", *_task(part, names, prefix, model)])
                file.write(tasks[1:] if is_first else tasks)
                is_first = False
        file.write(b"\n]\n")
    spool.unlink()
    return {}


def _worst_first(export: Export, spool: Path) -> Iterator[pa.RecordBatch]:
    """The rows by rising score, those without one last; they wait in a file, so that none is read twice."""
    scores: list[np.ndarray] = [np.empty(0, np.float32)]
    with pa.OSFile(str(spool), "wb") as file, pa.ipc.new_stream(file, export.schema) as writer:
        for batch in export.batches:
            if len(batch):
                writer.write_batch(batch.cast(export.schema))
                scores.append(_scores(batch).to_numpy(zero_copy_only=False))
    order = np.argsort(np.concatenate(scores), kind="stable")
    starts = np.cumsum([len(part) for part in scores])
    with pa.memory_map(str(spool)) as mapped, pa.ipc.open_stream(mapped) as reader:
        batches = list(reader)
        for first in range(0, len(order), ROW_GROUP):
            some = order[first : first + ROW_GROUP]
            ascending = np.sort(some)
            edges = np.searchsorted(ascending, starts)
            found = [
                batch.take(pa.array(ascending[edges[place] : edges[place + 1]] - starts[place]))
                for place, batch in enumerate(batches)
            ]
            table = pa.Table.from_batches(found).unify_dictionaries()
            yield from table.take(pa.array(np.searchsorted(ascending, some))).combine_chunks().to_batches()


def _scores(batch: pa.RecordBatch) -> pa.Array:
    """Float32 (n,) of the predictions, which of verified rows are the verified labels; null where there is none."""
    one = pa.scalar(1, pa.float32())
    return pc.if_else(batch.column("is_trusted"), one, pc.subtract(one, batch.column("noise_score")))


def _configuration(class_names: list[str], kind: str) -> str:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image")
    choices = ElementTree.SubElement(view, "Choices", name="label", toName="image", choice=kind)
    for name in class_names:
        if _NO_XML.search(name):
            raise InputError(
                f"--to labelstudio: the class name {name!r} holds a character that XML cannot; rename the class"
            )
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _data_names(export: Export) -> dict[str, str]:
    """The columns of the export by their names in a task's data, where `image` is the address."""
    names = {"source_image" if name == "image" else name: name for name in export.schema.names}
    if len(names) < len(export.schema.names):
        raise InputError(
            "--to labelstudio: the source's columns 'image' and 'source_image' would both be called 'source_image';"
            " rename one in the source"
        )
    return names


def _task(batch: pa.RecordBatch, names: dict[str, str], prefix: str, model: str) -> list[str | pa.Array]:
    """The pieces of the tasks of some rows."""
    pieces = ['{"data": {"image": ', _addresses(batch.column("file_name"), prefix)]
    for name, column in names.items():
        pieces += [f", {json.dumps(name, ensure_ascii=False)}: ", batch.column(column)]
    pieces += [f'}}, "predictions": [{{"model_version": {model}, "score": ', _scores(batch)]
    result = '"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": '
    labels = batch.column("label")
    if pa.types.is_list(labels.type):
        return [*pieces, f', "result": [{{{result}', labels, "}}]}]}"]
    return [*pieces, f', "result": [{{{result}[', labels, "]}}]}]}"]


def _prefix(export: Export) -> str:
    given = export.image_url_prefix
    if given is not None:
        return given if given.endswith(("/", "=")) else f"{given}/"
    if holds_images(export.corrections.path, export.source):
        raise _not_served("images that are no files", export)
    options = source_options(export.corrections.path)
    source = export.source if isinstance(export.source, str | os.PathLike) else options.get("source")
    root = options.get("root") if export.source is None else None
    place = root or source
    if place is None:
        return LOCAL_FILES
    folder = Path(os.path.abspath(Path(place).expanduser()))
    # A manifest that is gone had its images beside it all the same.
    folder = folder.parent if folder.suffix.lower() in _MANIFESTS and not folder.is_dir() else folder
    return f"{LOCAL_FILES}{quote(folder.name)}/"


def _check_served(file_names: pa.Array, export: Export) -> None:
    """Refuse images that do not lie below the source, where Label Studio's local files are."""
    outside = file_names.filter(pc.match_substring_regex(file_names, _OUTSIDE))
    if len(outside):
        raise _not_served(f"{outside[0].as_py()!r}, which lies outside of the source", export)


def _not_served(images: str, export: Export) -> InputError:
    """The refusal of images without an address; a folder of them has the labels of these findings."""
    folder = "fiftyone" if export.is_multi else "imagefolder"
    return InputError(
        f"--to labelstudio: Label Studio cannot serve {images}; give their address with --image-url-prefix, or export"
        f" with --to {folder} first and scan that"
    )


def _addresses(file_names: pa.Array, prefix: str) -> pa.Array:
    """The address of each image: the prefix, then its name, percent-encoded."""
    if pc.any(pc.match_substring_regex(file_names, _NEEDS_QUOTING)).as_py():
        file_names = pa.array([quote(name) for name in file_names.to_pylist()], pa.string())
    return pc.binary_join_element_wise(prefix, file_names, "")

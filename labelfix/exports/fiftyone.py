"""FiftyOneImageClassificationDataset: images in `data/`, their labels in `labels.json`.

`labels.json` holds `classes`, the class names, and `labels`: the class index of each image by the name of its file
without its extension, which is why no two files may have the same name up to that. Where an image may have several
labels that is a list of indices.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from labelfix.exports.base import Export
from labelfix.exports.images import originals
from labelfix.exports.names import FileNames

SUFFIXES: tuple[str, ...] = ("",)
NEEDS: tuple[str, ...] = ("sample_id",)
HOLDS_IMAGES = True
IS_TEXT = False
TAKES_SEVERAL = True


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write images and labels.

    Returns:
        renamed_images: how many files are not called as in the source.
    """
    data, names = path / "data", FileNames()
    data.mkdir()
    with (path / "labels.json").open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"classes": {json.dumps(export.class_names, ensure_ascii=False)},\n"labels": {{')
        separator = "\n"
        for batch in export.batches:
            rows = batch.column("sample_id").to_numpy()
            column = batch.column("label")
            labels = (
                export.class_lists(column).to_pylist() if export.is_multi else export.class_indices(column)
            )
            file_names = batch.column("file_name").to_pylist()
            for image, row, label, file_name in zip(
                originals(export.originals, rows), rows, labels, file_names, strict=True
            ):
                name = names.name("", file_name, row, image.extension(file_name))
                image.write(data / name, export.images)
                key = json.dumps(os.path.splitext(name)[0], ensure_ascii=False)
                file.write(f"{separator}{key}: {label}")
                separator = ",\n"
        file.write("\n}}\n")
    return {"renamed_images": names.renamed}

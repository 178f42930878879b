"""Class folders: DIR/<class>/<file>, as torchvision's ImageFolder, Keras and labelfix read them.

`classes.json` beside the folders says which class each of them is: some class names are no names of folders.
torchvision opens no GIF.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelfix.atomic_files import write_json
from labelfix.exports.base import Export
from labelfix.exports.images import originals
from labelfix.exports.names import FileNames, folder_names

SUFFIXES: tuple[str, ...] = ("",)
NEEDS: tuple[str, ...] = ("sample_id",)
HOLDS_IMAGES = True
IS_TEXT = False
TAKES_SEVERAL = False

CLASSES = "classes.json"


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write the images under their labels; a class without any has no folder.

    Returns:
        renamed_images: how many files are not called as in the source; renamed_classes: how many folders are not
        called as their class.
    """
    folders, names = folder_names(export.class_names, CLASSES), FileNames()
    made: set[str] = set()
    for batch in export.batches:
        rows = batch.column("sample_id").to_numpy()
        texts = (batch.column(name).to_pylist() for name in ("label", "file_name"))
        for image, row, label, file_name in zip(originals(export.originals, rows), rows, *texts, strict=True):
            folder = folders[label]
            if folder not in made:
                (path / folder).mkdir()
                made.add(folder)
            name = names.name(folder, file_name, row, image.extension(file_name))
            image.write(path / folder / name, export.images)
    write_json(path / CLASSES, {folder: label for label, folder in folders.items()})
    renamed = sum(label != folder for label, folder in folders.items())
    return {"renamed_images": names.renamed, "renamed_classes": renamed}

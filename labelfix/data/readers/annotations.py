"""JSON files of labelling tools and data sets, as one object for each image: Label Studio, FiftyOne, COCO."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelfix.data.readers.addresses import local_path
from labelfix.data.readers.jsonl import Records, open_records, record_columns
from labelfix.data.readers.rows import OpenedSource, Query, root_of
from labelfix.data.readers.tree import images_below
from labelfix.errors import InputError

FIFTYONE_LABELS, FIFTYONE_IMAGES = "labels.json", "data"
_MOST_BYTES = 1 << 31


@dataclass(frozen=True)
class Annotations:
    """Images with their labels.

    Attributes:
        records: an object for each image: `file_name`, `label` (absent or null: none), and what else there is.
        verified: which of them carry the label of a person.
        class_names: in their own order; None without one.
    """

    records: list[dict[str, Any]]
    verified: list[bool]
    class_names: tuple[str, ...] | None = None


def open_json(query: Query) -> OpenedSource:
    """Open a .json file: a list of objects, or what Label Studio, FiftyOne or COCO write.

    Raises:
        InputError: no JSON, none of these, or an image with two labels.
    """
    found = _annotations(query.path, root_of(query), query.task)
    return open_records(query, _again(found.records), found.class_names)


def open_fiftyone(query: Query) -> OpenedSource:
    """Open a folder of FiftyOne's image classification dataset: `data/` and `labels.json`.

    Raises:
        InputError: as `open_json`.
    """
    found = _annotations(query.path / FIFTYONE_LABELS, query.path, query.task)
    query = replace(query, root=query.root or query.path)
    return open_records(query, _again(found.records), found.class_names)


def is_fiftyone(folder: Path) -> bool:
    """Whether a folder holds a dataset of FiftyOne."""
    return (folder / FIFTYONE_LABELS).is_file() and (folder / FIFTYONE_IMAGES).is_dir()


def json_columns(
    path: Path, wanted: Sequence[str], *, lists: bool = False
) -> tuple[list[str], dict[str, pa.Array]]:
    """The keys of what `open_json` reads, and those of the `wanted` ones that it has; only what a person has labelled.

    With `lists` a row may have several labels, a JSON text.

    Raises:
        InputError: as `open_json`.
    """
    found = _annotations(path, path.parent, "multi" if lists else "single")
    kept = [record for record, is_verified in zip(found.records, found.verified, strict=True) if is_verified]
    names = list(dict.fromkeys(key for record in found.records for key in record))
    return names, record_columns(path, kept, wanted, lists=lists)[1] if kept else {
        name: pa.array([], pa.string()) for name in wanted if name in names
    }


def _again(records: list[dict[str, Any]]) -> Records:
    return lambda: iter(records)


def _annotations(path: Path, root: Path, task: str = "single") -> Annotations:
    content = _load(path)
    if isinstance(content, dict):
        if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
            return _coco(path, content, task)
        if isinstance(content.get("samples"), list):
            return _fiftyone_samples(path, content["samples"], task)
        if isinstance(content.get("labels"), dict):
            return _fiftyone_labels(path, content, task)
    elif isinstance(content, list) and all(isinstance(record, dict) for record in content):
        if content and all(isinstance(task.get("data"), dict) for task in content):
            return _label_studio(path, content, root, task)
        return Annotations(content, [True] * len(content))
    raise InputError(
        f"{path} is no list of images: write a list of objects with file_name and label, or what Label Studio,"
        " FiftyOne or COCO export"
    )


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} has more than 2 GiB of JSON; write it as .jsonl, an object a line")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        # Half a character can hide in an escape.
        json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeError:
        raise InputError(f"{path} is not valid UTF-8; save the file in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); correct it") from None
    return content


def _label_studio(path: Path, tasks: list[dict[str, Any]], root: Path, kind: str = "single") -> Annotations:
    """Tasks with annotations; those that nobody has annotated keep the label that they were given, if they tell."""
    chosen = [[_choices(each) for each in _listed(task.get("annotations"))] for task in tasks]
    lists = [[labels for labels in each if labels is not None] for each in chosen]
    are_several = any(len(labels) > 1 for each in lists for labels in each)
    are_several |= any(isinstance(task["data"].get("given_label"), list) for task in tasks)
    is_multi = kind == "multi" or (kind == "auto" and are_several)
    records, verified = [], []
    for row, (task, found) in enumerate(zip(tasks, lists, strict=True)):
        data = {name: value for name, value in task["data"].items() if name != "image"}
        labels: list[Any] = [*dict.fromkeys(map(tuple, found))] if is_multi else _single(path, row, found)
        if len(labels) > 1:
            raise InputError(
                f"{path}: row {row} has two labels, {labels[0]!r} and {labels[1]!r}; keep one of its annotations"
            )
        label = (list(labels[0]) if is_multi else labels[0]) if labels else data.get("given_label")
        name = data.pop("file_name", None)
        if not isinstance(name, str) or not os.path.isfile(root / name):
            address = task["data"].get("image")
            name = local_path(address, root) if isinstance(address, str) else name
        records.append({"file_name": name, **data, "label": label})
        verified.append(bool(labels))
    return Annotations(records, verified)


def _single(path: Path, row: int, lists: list[list[str]]) -> list[str]:
    """The different labels of a row whose annotations have one each, or none."""
    for found in lists:
        if len(found) > 1:
            raise InputError(
                f"{path}: row {row} has {len(found)} labels, {found[0]!r} among them; one label per row"
            )
    return list(dict.fromkeys(found[0] for found in lists if found))


def _choices(annotation: Any) -> list[str] | None:
    """The choices of an annotation; None where it was skipped."""
    if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
        return None
    found: list[str] = []
    for result in _listed(annotation.get("result")):
        value = result.get("value") if isinstance(result, dict) else None
        choices = value.get("choices") if isinstance(value, dict) else None
        found += [choice for choice in _listed(choices) if isinstance(choice, str)]
    return found


def _fiftyone_labels(path: Path, content: dict[str, Any], task: str = "single") -> Annotations:
    """The images in `data/` beside the file, by their name without its extension."""
    names, labels = content.get("classes"), content["labels"]
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise InputError(f"{path}: its classes are no list of texts; correct them")
    folder = path.parent / FIFTYONE_IMAGES
    records = []
    left = set(labels)
    for key in images_below(folder, ""):
        stem = os.path.splitext(key)[0]
        label = labels.get(stem)
        left.discard(stem)
        if isinstance(label, list) and task != "single":
            label = [_named_class(path, stem, each, names) for each in label]
        else:
            label = _named_class(path, stem, label, names)
        records.append({"file_name": f"{FIFTYONE_IMAGES}/{key}", "label": label})
    # Their images are gone, and that is for the rows to say.
    records += [{"file_name": f"{FIFTYONE_IMAGES}/{stem}", "label": None} for stem in sorted(left)]
    declared = tuple(dict.fromkeys(name.strip() for name in names)) if names else None
    return Annotations(records, [record["label"] is not None for record in records], declared)


def _named_class(path: Path, stem: str, label: Any, names: list[str] | None) -> Any:
    """The class that a label of FiftyOne is, where it is an index."""
    if not isinstance(label, int) or isinstance(label, bool) or names is None:
        return label
    if not 0 <= label < len(names):
        raise InputError(f"{path}: {stem!r} has the label {label}, but there are {len(names)} classes")
    return names[label]


def _fiftyone_samples(path: Path, samples: list[Any], task: str = "single") -> Annotations:
    records = []
    for row, sample in enumerate(samples):
        if not isinstance(sample, dict):
            raise InputError(f"{path}: row {row} is no sample of FiftyOne; export it again")
        labels = [
            (name, value.get("label"))
            for name, value in sample.items()
            if isinstance(value, dict) and value.get("_cls") == "Classification"
        ]
        if task != "single":
            labels += [
                (name, _of_classifications(value)) for name, value in sample.items() if _are_several(value)
            ]
        # Predictions of models stand beside it under other names.
        label = next((label for name, label in labels if name == "ground_truth"), None)
        if label is None and len(labels) == 1:
            label = labels[0][1]
        tags = [tag for tag in _listed(sample.get("tags")) if isinstance(tag, str)]
        records.append(
            {"file_name": sample.get("filepath"), "label": label, "split": tags[0] if tags else None}
        )
    if not any(record["split"] for record in records):
        for record in records:
            del record["split"]
    return Annotations(records, [record["label"] is not None for record in records])


def _are_several(value: Any) -> bool:
    """Whether a field of a FiftyOne sample holds several labels of an image."""
    return isinstance(value, dict) and value.get("_cls") == "Classifications"


def _of_classifications(value: dict[str, Any]) -> list[str]:
    each = _listed(value.get("classifications"))
    return [one["label"] for one in each if isinstance(one, dict) and isinstance(one.get("label"), str)]


def _coco(path: Path, content: dict[str, Any], task: str = "single") -> Annotations:
    """The category of each image, which has to be one; or the categories, where several are taken."""
    names = dict(_pairs(path, _listed(content.get("categories")), "categories", "id", "name"))
    label_of: dict[Any, str] = {}
    several: dict[Any, dict[str, None]] = {}
    is_multi = task == "multi"
    files = dict(_pairs(path, content["images"], "images", "id", "file_name"))
    for image, category in _pairs(path, content["annotations"], "annotations", "image_id", "category_id"):
        if image not in files or category not in names:
            what = f"image {image}" if image not in files else f"category {category}"
            raise InputError(f"{path}: an annotation is of the {what}, which is not there; correct it")
        label = names[category]
        several.setdefault(image, {})[label] = None
        is_multi |= task == "auto" and len(several[image]) > 1
        if task != "single":
            continue
        if label_of.setdefault(image, label) != label:
            raise InputError(
                f"{path}: {files[image]!r} has two labels, {label_of[image]!r} and {label!r}: it holds objects, not"
                " one label per image"
            )
    if task != "single" and not is_multi:
        label_of = {image: next(iter(labels)) for image, labels in several.items()}
    records: list[dict[str, Any]] = [
        {"file_name": file, "label": list(several.get(image, ())) if is_multi else label_of.get(image)}
        for image, file in files.items()
    ]
    declared = tuple(dict.fromkeys(str(name).strip() for name in names.values()))
    verified = [record["label"] is not None for record in records]
    return Annotations(records, verified, declared or None)


def _listed(value: Any) -> list[Any]:
    """A list as it is; of anything else, none."""
    return value if isinstance(value, list) else []


def _pairs(path: Path, rows: Iterable[Any], part: str, *keys: str) -> Iterator[tuple[Any, ...]]:
    for row, record in enumerate(rows):
        if not isinstance(record, dict) or any(
            isinstance(record.get(key), dict | list | None) for key in keys
        ):
            raise InputError(f"{path}: row {row} of its {part} lacks {' or '.join(keys)}; correct it")
        yield tuple(record[key] for key in keys)

"""What the folders of a source are: classes, or splits that hold classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from labelfix.data.readers.marks import SPLITS
from labelfix.data.readers.tree import Skipped, entries, holds_image, images_below
from labelfix.errors import InputError

UNLABELED = "_unlabeled"
_WORDS = re.compile(r"[ _.-]+")


@dataclass(frozen=True)
class Branch:
    """A folder whose images are rows.

    Attributes:
        key: its path below the source, "" or ending in a slash.
        split: of all its images; None without one.
        has_classes: whether the folders in it are classes; else its images have no label.
    """

    key: str
    split: str | None = None
    has_classes: bool = True


@dataclass(frozen=True)
class Layout:
    """The branches of a source in the order of their keys; none where no folder of it holds an image.

    Attributes:
        branches: that hold the rows.
        warnings: of what was left out, whole sentences.
        empty: names of the folders without an image.
        left_out: the same as messages name them.
        classes: names of the class folders.
    """

    branches: tuple[Branch, ...]
    warnings: list[str] = field(default_factory=list)
    empty: frozenset[str] = frozenset()
    left_out: str = ""
    classes: frozenset[str] = frozenset()


class _Folder:
    """A folder of the source, looked at only as far as somebody asks."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key, self.name = path, key, path.name

    @cached_property
    def _found(self) -> list[str]:
        return sorted(key for key, _ in entries(self.path, ""))

    @cached_property
    def all_folders(self) -> list[_Folder]:
        names = [key.rstrip("/") for key in self._found if key.endswith("/")]
        return [_Folder(self.path / name, f"{self.key}{name}/") for name in names]

    @cached_property
    def folders(self) -> list[_Folder]:
        """Those that hold an image."""
        return [folder for folder in self.all_folders if holds_image(folder.path)]

    @cached_property
    def is_loose(self) -> bool:
        """Whether images lie in it directly."""
        return any(not key.endswith("/") for key in self._found)

    @cached_property
    def core(self) -> _Folder:
        """The innermost of folders that hold nothing but one of their own name."""
        inside = self.folders
        if not self.is_loose and len(inside) == 1 and inside[0].name.lower() == self.name.lower():
            return inside[0].core
        return self

    @property
    def names(self) -> set[str]:
        return {folder.name for folder in self.core.folders}


def layout_of(path: Path, *, require_labels: bool, classes: Collection[str] = ()) -> Layout:
    """Find out whether the folders of a source are classes or splits.

    Folders called train, val, test and so on that hold class folders are splits, also where they hold themselves once
    more (`seg_train/seg_train`). Folders without an image are left out. A single folder called like a split may be a
    class, where the others hold folders too.

    Args:
        path: of the source.
        require_labels: whether splits without classes are an error.
        classes: folders that are classes, as a file beside them says; of all of them it is believed.

    Raises:
        InputError: classes cannot be told from splits, or a folder cannot be read.
    """
    top = _Folder(path, "")
    layout = Layout(())
    empty = [folder for folder in top.all_folders if folder not in top.folders]
    if empty:
        shown = _with_contents(empty)
        layout.warnings.append(f"{path}: no image lies in {shown}: left out")
        layout = Layout((), layout.warnings, frozenset(folder.name for folder in empty), shown)
    is_told = bool(classes) and {folder.name for folder in top.folders} - {UNLABELED} <= set(classes)
    splits = {} if is_told else _splits(top.folders)
    with_classes = [name for name in splits if splits[name][1].core.folders]
    if not splits or (not with_classes and len(splits) < len(top.folders)):
        return _of(layout, [Branch("")] if top.folders else [], top.names)
    if not with_classes and require_labels:
        raise InputError(
            f"{path} holds splits ({_listed(splits)}), and their images lie in no class folder; put them in"
            f" {path / min(splits, key=lambda name: SPLITS.index(splits[name][0]))}/<class>/, or scan a manifest"
        )
    others = [folder for folder in top.folders if folder.name not in splits and folder.name != UNLABELED]
    if _are_classes(splits, others):
        return _of(layout, [Branch("")], top.names)
    _leave_out_copies(path, splits, others, layout.warnings)
    branches = [
        Branch(folder.core.key, word, has_classes=bool(folder.core.folders))
        for word, folder in splits.values()
    ]
    if any(folder.name == UNLABELED for folder in top.folders):
        branches.append(Branch(f"{UNLABELED}/", has_classes=False))
    return _of(layout, branches, set().union(*(folder.names for _, folder in splits.values())))


def nested_source(path: Path) -> Path | None:
    """Where the class folders are that somebody may have meant: further down, or right around a class folder.

    Returns:
        A folder to scan instead; None where nothing there looks like class folders.
    """
    folder = _Folder(path, "")
    while not folder.is_loose and len(folder.folders) == 1:
        folder = folder.folders[0]
        if len(folder.folders) > 1:
            return folder.path
    above = _Folder(path.parent, "")
    try:
        is_inside = folder.path == path and folder.is_loose and not above.is_loose
        is_class = is_inside and len(above.folders) > 1 and not _splits(above.folders)
    except InputError:
        return None
    return path.parent if is_class else None


def _of(layout: Layout, branches: Iterable[Branch], classes: set[str]) -> Layout:
    in_order = sorted(branches, key=lambda branch: branch.key)
    return replace(layout, branches=tuple(in_order), classes=frozenset(classes - {UNLABELED}))


def _splits(folders: Sequence[_Folder]) -> dict[str, tuple[str, _Folder]]:
    """Those called like splits, with what each is: by the word itself, or several of one name but for that word."""
    found = {
        folder.name: (folder.name.lower(), folder) for folder in folders if folder.name.lower() in SPLITS
    }
    alike: dict[tuple[str, ...], list[tuple[str, _Folder]]] = defaultdict(list)
    for folder in folders:
        words = _WORDS.split(folder.name.lower())
        if len(words) > 1 and sum(word in SPLITS for word in words) == 1:
            rest = tuple("" if word in SPLITS else word for word in words)
            alike[rest].append((next(word for word in words if word in SPLITS), folder))
    for group in alike.values():
        if len({word for word, _ in group}) > 1 and any(folder.core.folders for _, folder in group):
            found |= {folder.name: (word, folder) for word, folder in group}
    return found


def _are_classes(splits: dict[str, tuple[str, _Folder]], others: list[_Folder]) -> bool:
    """Whether the only folder that is called like a split is a class among classes that hold folders as it does."""
    if len(splits) > 1 or not others:
        return False
    ((_, folder),) = splits.values()
    around = {other.name for other in others}.union(*(other.names for other in others))
    return folder.core.is_loose or (all(other.core.folders for other in others) and not folder.names & around)


def _leave_out_copies(
    path: Path, splits: dict[str, tuple[str, _Folder]], others: list[_Folder], warnings: list[str]
) -> None:
    """Take what is there twice for what it is, and refuse whatever else lies beside splits.

    Raises:
        InputError: says what was seen.
    """
    strange = [other for other in others if not _is_copy(path, other)]
    if strange:
        first = path / min(splits, key=lambda name: SPLITS.index(splits[name][0]))
        raise InputError(
            f"{path} holds splits ({_listed(splits)}) and, beside them, images in"
            f" {_listed(folder.name for folder in strange)}: it cannot be told what is a class; scan {first}, or a"
            " manifest with a column split"
        )
    if others:
        warnings.append(
            f"{path}: {_listed(other.name for other in others)} holds the same files once more: left out"
        )


def _is_copy(path: Path, other: _Folder) -> bool:
    """Whether every image in a folder is there a second time under the same path in the source itself."""
    keys = images_below(other.core.path, "")
    return bool(_splits(other.core.folders)) and all((path / key).is_file() for key in keys)


def _with_contents(folders: list[_Folder]) -> str:
    shown = []
    for folder in folders[:5]:
        skipped = Skipped()
        for _ in images_below(folder.path, "", skipped):
            pass
        shown.append(repr(folder.name) + (f" ({skipped.shown()})" if skipped.total else ""))
    return ", ".join(shown) + (f" and {len(folders) - 5} folders more" if len(folders) > 5 else "")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

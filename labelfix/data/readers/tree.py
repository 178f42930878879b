"""The folders and images below a folder: which files are images, which folders are nobody's data."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from labelfix.errors import InputError
from labelfix.output_paths import is_run

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jfif", ".jpe", ".avif", ".jp2", ".j2k",
    ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif",
)  # fmt: skip
# What systems and tools leave beside data: resource forks of macOS, a Synology index, the bin of Windows.
_JUNK = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
_JUNK_FILES = frozenset({"thumbs.db", "desktop.ini"})
_RUNS = "runs"  # where scans put their run folders unless they are told otherwise

Entry = tuple[str, os.DirEntry[str]]


class Skipped:
    """Files that are no images to labelfix, counted by their extension."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Take the name of a file."""
        if name.lower() not in _JUNK_FILES:
            self._counts[os.path.splitext(name)[1].lower() or "without an extension"] += 1

    @property
    def total(self) -> int:
        """How many files there are."""
        return self._counts.total()

    def shown(self) -> str:
        """The extensions and how many files have each, the commonest first: "40 .npy, 2 .txt"."""
        found = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))
        more = f" and {len(found) - 5} kinds more" if len(found) > 5 else ""
        return ", ".join(f"{count} {kind}" for kind, count in found[:5]) + more


def entries(folder: Path | str, prefix: str, skipped: Skipped | None = None) -> Iterator[Entry]:
    """Visible folders (key ends with a slash) and images of one folder, in no order.

    Whatever has the name of an image is a row, also a folder: it comes out as invalid instead of missing. A file
    without an extension is one where its first bytes say so.

    Args:
        folder: to list.
        prefix: of the keys.
        skipped: takes the other files.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        found = list(os.scandir(folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in found:
        if entry.name.startswith(".") or entry.name.lower() in _JUNK:
            continue
        is_folder = _is_folder(entry)
        if is_folder and not _is_of_runs(entry):
            yield f"{prefix}{entry.name}/", entry
        extension = os.path.splitext(entry.name)[1].lower()
        if extension in EXTENSIONS or (not extension and not is_folder and _looks_like_an_image(entry)):
            yield f"{prefix}{entry.name}", entry
        elif skipped is not None and not is_folder:
            skipped.add(entry.name)


def images_below(
    folder: Path | str,
    prefix: str,
    skipped: Skipped | None = None,
    above: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[str]:
    """Yield the key of every image in a folder and those below it, in code-point order.

    Links to folders are followed, but never round in a circle.

    Raises:
        InputError: a folder cannot be read.
    """
    try:
        status = os.stat(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for key, entry in sorted(entries(folder, prefix, skipped), key=lambda pair: pair[0]):
        if key.endswith("/"):
            yield from images_below(entry.path, key, skipped, above | {here})
        else:
            yield key


def holds_image(folder: Path | str, above: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Whether there is an image in a folder or below it; those that lie in it directly are looked for first.

    Raises:
        InputError: a folder cannot be read.
    """
    try:
        status = os.stat(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    here = (status.st_dev, status.st_ino)
    if here in above:
        return False
    folders = []
    for key, entry in entries(folder, ""):
        if not key.endswith("/"):
            return True
        folders.append(entry.path)
    return any(holds_image(path, above | {here}) for path in sorted(folders))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads back to itself; with an image's name it is an invalid row


def _is_of_runs(entry: os.DirEntry[str]) -> bool:
    """Whether a folder is one that labelfix made: a run, or the folder of them."""
    folder = Path(entry.path)
    if entry.name != _RUNS:
        return is_run(folder)
    try:
        return is_run(folder) or any(is_run(path) for path in folder.iterdir() if path.is_dir())
    except OSError:
        return False


def _looks_like_an_image(entry: os.DirEntry[str]) -> bool:
    # Pillow is imported by none who reads a manifest.
    from labelfix.data.images.decoding import HEAD_SIZE, is_image

    try:
        if not entry.is_file():
            return False
        with open(entry.path, "rb") as file:
            return is_image(file.read(HEAD_SIZE))
    except OSError:
        return False

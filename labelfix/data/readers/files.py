"""The files that paths lead to: found also under another spelling, where exactly one file can be meant."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from labelfix.data.readers.addresses import is_address
from labelfix.data.readers.rows import Rows, file_name
from labelfix.data.readers.tree import EXTENSIONS

MISSING = "missing file"
_NOWHERE = (-1, 0)
_MOST_NAMES = 2_000_000  # kept of folders that were looked into
_FILE = "file://"


class Files:
    """Looks for the files of rows, batch by batch.

    A path that leads nowhere is tried without blanks around it, as a `file://` address, from the home folder (`~`),
    with slashes for backslashes, and then in every case and Unicode form and with every extension of images: where
    that gives exactly one file, it is the one.

    Args:
        root: that relative paths start from, absolute.

    Attributes:
        num_links: how many images are links to files.
        num_addresses: how many are addresses.
    """

    def __init__(self, root: Path) -> None:
        self.num_links = self.num_addresses = 0
        self._root = str(root)
        self._folders: dict[str, dict[str, list[str]]] = {}
        self._num_names = 0
        self._spellings: Counter[str] = Counter()
        self._first: tuple[str, str] | None = None

    def found(self, rows: Rows) -> Rows:
        """The same rows with what is known of their files, and with the names that those have."""
        if rows.paths.null_count == len(rows.paths):
            return replace(rows, status=np.tile(np.array(_NOWHERE, "<i8"), (len(rows.paths), 1)))
        paths = rows.paths.to_pylist()
        status, changed = [], {}
        for row, path in enumerate(paths):
            if path and "://" in path and is_address(path):
                self.num_addresses += 1
                status.append(_NOWHERE)
                continue
            known = self._status(path) if path else _NOWHERE
            if known is _NOWHERE and path:
                other = self._other(path)
                if other is not None:
                    changed[row], known = other, self._status(other)
            status.append(known)
        for row, path in changed.items():
            self._first = self._first or (paths[row], path)
            paths[row] = path
        names = rows.file_names
        # Of a table that holds images, those that are paths there instead.
        renamed = changed if rows.sizes is None else [row for row, path in enumerate(paths) if path]
        if renamed:
            texts = names.to_pylist()
            for row in renamed:
                texts[row] = file_name(paths[row], self._root)
            names = pa.array(texts, pa.string())
        table = np.array(status, "<i8").reshape(-1, 2)
        return replace(rows, paths=pa.array(paths, pa.string()), file_names=names, status=table)

    def name_of(self, path: str) -> str:
        """The file name of a path, as `found` gives it."""
        is_there = is_address(path) or os.path.lexists(os.path.join(self._root, path.replace("\0", "")))
        other = None if is_there else self._resolved(path)
        return file_name(path if other is None else other[0], self._root)

    def warnings(self, source: Path) -> list[str]:
        """A sentence where files were found under another spelling: how many, how, and the first."""
        if self._first is None:
            return []
        how = ", ".join(f"{count} by {kind}" for kind, count in self._spellings.most_common())
        written, path = self._first
        return [
            f"{source}: {self._spellings.total()} paths lead to a file only under another spelling ({how}); the"
            f" first: {written!r} is {path!r}"
        ]

    def _other(self, path: str) -> str | None:
        found = self._resolved(path)
        if found is None:
            return None
        self._spellings[found[1]] += 1
        return found[0]

    def _status(self, path: str) -> tuple[int, int]:
        """Size in bytes and modification time in ns of a file."""
        try:
            # Joined by hand: this line runs once a row.
            place = path if path[:1] == "/" else f"{self._root}/{path}"
            status = os.lstat(place)
            if stat.S_ISLNK(status.st_mode):
                status = os.stat(place)
                self.num_links += 1
        except (OSError, ValueError):
            return _NOWHERE
        return status.st_size, status.st_mtime_ns

    def _resolved(self, path: str) -> tuple[str, str] | None:
        """The path of the only file that can be meant, and how it was found."""
        text, kinds = path.strip(), []
        if text != path:
            kinds.append("blanks around it")
        if text.startswith(_FILE):
            text = unquote(text.removeprefix(_FILE).removeprefix("localhost"))
            kinds.append(_FILE)
        if text.startswith("~"):
            text = os.path.expanduser(text)
            kinds.append("~")
        if "\\" in text:
            text = text.replace("\\", "/")
            kinds.append("backslashes")
        if "\0" in text or not text:
            return None
        parts = [part for part in text.split("/") if part]
        if kinds and os.path.isfile(os.path.join(self._root, text)):
            return text, " and ".join(kinds)
        start = "/" if text.startswith("/") else self._root
        matches = list(self._matches(start, parts))
        if len(matches) != 1:
            return None
        match = "/".join(matches[0])
        same_end = _key(matches[0][-1]) == _key(parts[-1])
        kinds.append("case or Unicode form" if same_end else "its extension")
        return (f"/{match}" if start == "/" else match), " and ".join(kinds)

    def _matches(self, folder: str, parts: list[str]) -> Iterator[list[str]]:
        """The files that a path can lead to below a folder, each as its parts."""
        first, rest = parts[0], parts[1:]
        if first in (".", ".."):
            candidates = [first]
        else:
            candidates = self._names(folder).get(_key(first), [])
            if not rest and not candidates:
                candidates = self._names(folder).get(_stem_key(first), [])
        for name in candidates:
            place = os.path.join(folder, name)
            if rest:
                yield from ([name, *found] for found in self._matches(place, rest))
            elif os.path.isfile(place):
                yield [name]

    def _names(self, folder: str) -> dict[str, list[str]]:
        """The names in a folder by what they have in common with other spellings; images also without extension."""
        if folder not in self._folders:
            if self._num_names > _MOST_NAMES:
                self._folders.clear()
                self._num_names = 0
            by_key: dict[str, list[str]] = defaultdict(list)
            try:
                names = os.listdir(folder)
            except OSError:
                names = []
            for name in sorted(names):
                by_key[_key(name)].append(name)
                stem, extension = os.path.splitext(name)
                if extension.lower() in EXTENSIONS:
                    by_key[_stem_key(stem)].append(name)
            self._num_names += len(names)
            self._folders[folder] = dict(by_key)
        return self._folders[folder]


def regular_file(path: Path) -> bytes | None:
    """The bytes of a regular file; None where there is none."""
    try:
        return path.read_bytes() if path.is_file() else None
    except (OSError, ValueError):
        return None


def _key(name: str) -> str:
    if name.isascii():  # as nearly all are, and nothing is to be normalised then
        return name.strip().lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name.strip()).casefold())


def _stem_key(name: str) -> str:
    return f"{_key(name)}/"  # no name holds a slash

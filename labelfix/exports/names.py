"""Names that are safe in every folder, of texts that may be anything: class names and file names of a source."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

from labelfix.data.readers.tree import EXTENSIONS

_LONGEST = 255  # bytes in a name, on all common file systems
_DIGEST = 16
# What some system cannot have in a name, what hides it or means something else there, and the sign of escapes itself.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*%]|^[. ]|[. ]$|^_(?=unlabeled$)')
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def folder_names(class_names: list[str], reserved: str = "") -> dict[str, str]:
    """The name of a folder for each class: the class itself wherever that will do, and not the reserved name.

    Unsafe characters become %XX, as in addresses. What is too long ends in ~ and the start of its SHA-256. Of
    classes whose names differ only in case or in how accents are composed, which are one folder on some systems, all
    but the first get ~2, ~3 and so on.
    """
    folders: dict[str, str] = {}
    taken = {_alike(reserved)}
    for label in class_names:
        name = _safe(label)
        if len(name.encode()) > _LONGEST:
            digest = hashlib.sha256(label.encode()).hexdigest()[:_DIGEST]
            name = f"{_cut(name, _LONGEST - _DIGEST - 8)}~{digest}"
        folders[label], count = name, 1
        while _alike(folders[label]) in taken:
            count += 1
            folders[label] = f"{_cut(name, _LONGEST - 8)}~{count}"
        taken.add(_alike(folders[label]))
    return folders


class FileNames:
    """Names for image files, no two in a folder alike without their extensions: the source's own wherever that will do.

    Only the last part of the source's name counts. Unsafe characters are escaped as in `folder_names`; a name that
    was there before gets its row number, as in `a-000000012.png`.

    Attributes:
        renamed: how many names are not the last part of the source's.
    """

    def __init__(self) -> None:
        self.renamed = 0
        self._taken: set[str] = set()

    def name(self, folder: str, file_name: str, row: int, extension: str) -> str:
        """The name in a folder of the image that the source calls `file_name`.

        Args:
            folder: the name of one.
            file_name: any text.
            row: its row number.
            extension: what to end in where `file_name` has no extension of images; may be empty.
        """
        last = file_name.rpartition("/")[2]
        stem, ending = os.path.splitext(_safe(last) or f"row-{row:09d}")
        if ending.lower() not in EXTENSIONS and extension:
            stem, ending = stem + ending, extension
        ending = _cut(ending, 32)
        name = f"{_cut(stem, _LONGEST - 64)}{ending}"
        while (key := f"{folder}/{_alike(os.path.splitext(name)[0])}") in self._taken:
            stem = f"{_cut(stem, _LONGEST - 64)}-{row:09d}"
            name = f"{stem}{ending}"
        self._taken.add(key)
        self.renamed += name != last
        return name


def _safe(text: str) -> str:
    name = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", text)
    return f"%{ord(name[0]):02X}{name[1:]}" if _DEVICE.match(name) else name


def _cut(name: str, size: int) -> str:
    """The start of a name that has at most `size` bytes in UTF-8, without half a character or escape."""
    data = name.encode()
    return name if len(data) <= size else re.sub("%.?$", "", data[:size].decode(errors="ignore"))


def _alike(name: str) -> str:
    """The same text for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())

"""Where the images of a source lie: found out while it is read, and before anything is written for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.cache import check_cache
from labelfix.data.readers.files import Files
from labelfix.data.readers.rows import OpenedSource, Rows
from labelfix.output_paths import source_places


class ImagePlaces:
    """Gathers the folders of the images, a batch at a time.

    Args:
        source: that is read.
        is_path: whether it has a path, or is in memory.
        is_root_given: whether the user named the folder that image paths start from.

    Attributes:
        files: looks for the files of the images.
    """

    def __init__(self, source: OpenedSource, *, is_path: bool, is_root_given: bool) -> None:
        self._source, self._is_path, self._is_root_given = source, is_path, is_root_given
        self._folders: set[str] = set()
        self.files = Files(source.root)

    def checked(self) -> Iterator[Rows]:
        """The rows of the source with their files, after a look whether the cache lies in it or among its images.

        Raises:
            InputError: it does.
        """
        check_cache(self.all())
        for rows in self._source.read():
            if rows.digests is None:
                rows = self.files.found(rows)
            names = rows.file_names
            if self._source.holds_images:
                names = names.filter(pc.is_valid(rows.paths))
            new = folders_of(names) - self._folders
            if new:
                self._folders |= new
                check_cache(self.all())
            yield rows

    def all(self) -> tuple[Path, ...]:
        """The places of the source as far as it is read, see `output_paths.source_places`."""
        path = self._source.path if self._is_path else None
        root, is_root_given = self._source.root, self._is_root_given
        return tuple(source_places(path, root, self._folders, is_root_given=is_root_given))

    @property
    def num_linked_folders(self) -> int:
        """How many folders of images are reached through a link below the root."""
        root = os.path.realpath(self._source.root)
        inside = (folder for folder in self._folders if not os.path.isabs(folder) and "\0" not in folder)
        return sum(
            os.path.realpath(os.path.join(root, folder)) != os.path.normpath(os.path.join(root, folder))
            for folder in inside
        )


def folders_of(names: pa.Array | pa.ChunkedArray) -> set[str]:
    """The folder part of each file name, string (n,), once each; "" for the names that have none.

    Addresses lie in no folder.
    """
    folders = pc.unique(pc.replace_substring_regex(names, "[^/]*$", ""))
    folders = folders.filter(pc.invert(pc.match_substring(folders, "://")))
    return set(folders.drop_null().to_pylist())

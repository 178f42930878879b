"""Original images on their way into an export: their bytes as they are, never decoded.

A file is opened once, and what is read is what was looked at: somebody may replace it at any time, by a link to a key
or a pipe that never ends.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from labelfix.data.cache import cache_errors, cache_folder
from labelfix.data.images.decoding import HEAD_SIZE, is_image
from labelfix.data.manifest import Manifest
from labelfix.data.readers.columns import extension_of
from labelfix.data.readers.tree import EXTENSIONS
from labelfix.errors import InputError

_WAY_OUT = "put back the file that was scanned, or scan again"


@dataclass(frozen=True)
class Original:
    """An image file of the source.

    Attributes:
        content: where it lies, or its bytes.
        name: what messages call it.
        may_be_link: whether images of the source are links: else one that is has been put there since.
    """

    content: Path | bytes
    name: str
    may_be_link: bool

    def read(self) -> bytes:
        """The bytes of the file.

        Raises:
            InputError: it cannot be read, or is no image.
        """
        if isinstance(self.content, Path):
            with self._readable(), self._open(self.content) as file:
                return file.read()
        self._check(self.content[:HEAD_SIZE])
        return self.content

    def write(self, path: Path, way: str) -> None:
        """Write the file to a path that is not there yet; bytes are written, whatever the way.

        Args:
            path: to write.
            way: copy, hardlink or symlink.

        Raises:
            InputError: it cannot be read, is no image, or cannot be linked to.
        """
        if way == "copy" or isinstance(self.content, bytes):
            path.write_bytes(self.read())
            return
        with self._open(self.content) as file:
            if way == "symlink":
                path.symlink_to(self.content)
            else:
                self._link(self.content, path, os.fstat(file.fileno()))

    def extension(self, file_name: str) -> str:
        """The extension of the file: the one in its name, else what its first bytes say.

        Args:
            file_name: as the source calls it.

        Raises:
            InputError: it cannot be read, or is no image.
        """
        ending = os.path.splitext(file_name)[1].lower()
        if ending in EXTENSIONS:
            return ending
        if isinstance(self.content, Path):
            with self._readable(), self._open(self.content) as file:
                head = file.read(HEAD_SIZE)
        else:
            head = self.content[:HEAD_SIZE]
        found = extension_of(head)
        return "" if found == "bin" else f".{found}"

    def _open(self, path: Path) -> BinaryIO:
        # Without waiting for the other end of a pipe.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if self.may_be_link else os.O_NOFOLLOW)
        with ExitStack() as opened, self._readable():
            file = opened.enter_context(open(path, "rb", opener=lambda name, _: os.open(name, flags)))
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{self.name} is no file any more; {_WAY_OUT}")
            self._check(file.read(HEAD_SIZE))
            file.seek(0)
            opened.pop_all()
            return file

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.ELOOP and not self.may_be_link:
                raise InputError(f"{self.name} has become a link since the scan; {_WAY_OUT}") from None
            raise InputError(
                f"{self.name} cannot be read ({error.strerror}); mend it, or scan again to leave it out"
            ) from None

    def _check(self, head: bytes) -> None:
        if not is_image(head):
            raise InputError(f"{self.name} is no image any more; {_WAY_OUT}")

    def _link(self, image: Path, path: Path, status: os.stat_result) -> None:
        try:
            # A link to a link would be one that breaks with it.
            os.link(os.path.realpath(image), path)
        except OSError as error:
            raise InputError(
                f"--images hardlink: {image} cannot be linked to from {path.parent} ({error.strerror}); use --images"
                " copy or symlink"
            ) from None
        if not os.path.samestat(status, os.lstat(path)):
            raise InputError(f"{self.name} was replaced while it was exported; {_WAY_OUT}")


def originals(manifest: Manifest | None, rows: np.ndarray) -> Iterator[Original]:
    """Yield the image files of some rows (n,) int64, in any order.

    A source that holds images is read from front to back; what is asked for in another order waits in a file in the
    cache, so that no more than a batch of its images is in memory.

    Raises:
        InputError: the source has no image for a row, or the cache cannot be written.
    """
    assert manifest is not None
    order = np.argsort(rows)
    found = _present(manifest, rows[order])
    if (order[1:] > order[:-1]).all():
        yield from found
        return
    with cache_errors(), tempfile.TemporaryFile(dir=cache_folder()) as spool:
        places: dict[int, Original | tuple[int, int]] = {}
        for place, image in zip(order.tolist(), found, strict=True):
            if isinstance(image.content, bytes):
                places[place] = (spool.tell(), spool.write(image.content))
            else:
                places[place] = image
        for place, row in enumerate(rows):
            spooled = places[place]
            if isinstance(spooled, tuple):
                spool.seek(spooled[0])
                yield _original(manifest, row, spool.read(spooled[1]))
            else:
                yield spooled


def _present(manifest: Manifest, rows: np.ndarray) -> Iterator[Original]:
    for row, image in zip(rows, manifest.sample_images(rows), strict=True):
        if image is None:
            raise InputError(f"{manifest.source}: row {row} has no image any more; scan it again")
        yield _original(manifest, row, image)


def _original(manifest: Manifest, row: int, content: Path | bytes) -> Original:
    name = str(content) if isinstance(content, Path) else f"{manifest.source}: the image of row {row}"
    return Original(content, name, may_be_link=manifest.num_links > 0)

"""Pictures: the thumbnails of a page and the links to the files that they show."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from labelfix.data.images.store import ImageStore
from labelfix.data.images.thumbnails import Thumbnail, thumbnail, thumbnails
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.results.corrections import Corrections
from labelfix.results.originals import read_originals, source_options, stored_images

THUMBNAIL_SIDE = 100

Image = Path | bytes | None


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of a run come from.

    The store holds the central squares that the networks saw. Where those are as large as thumbnails they are what is
    shown; else the originals are, as far as they can be read, and the store stands in for the others.

    Attributes:
        originals: the source, proved to be the same; None where it cannot be had.
        store: decoded images of the run; None where the cache has lost them.
        message: for the user, where the originals should be there and are not; None else.
    """

    originals: Manifest | None
    store: ImageStore | None
    message: str | None = None

    @classmethod
    def of(cls, corrections: Corrections, source: Any = None) -> Pictures:
        """Find the originals, or what the cache has kept of them.

        Args:
            corrections: of the run.
            source: where the data are now; None: where config.json says.

        Raises:
            InputError: neither can be had; or `source` is given and is not what was scanned.
        """
        store = stored_images(corrections)
        try:
            return cls(read_originals(corrections, source), store)
        except InputError as error:
            if source is not None or store is None:
                raise
            in_memory = source_options(corrections.path).get("source") is None
            message = f"{error}. The thumbnails are the run's copies, {store.stored_size} pixels wide, without links"
            return cls(None, store, None if in_memory else message)

    @property
    def kind(self) -> str:
        """What most thumbnails are made from: "originals" or "store"."""
        large = self.store is not None and self.store.stored_size >= THUMBNAIL_SIDE
        return "store" if large or self.originals is None else "originals"

    def of_rows(self, rows: np.ndarray, folder: Path) -> Iterator[tuple[str | None, str | None]]:
        """Yield a link and a thumbnail (data URI) for each of some rows; None where there is none.

        Args:
            rows: int64 (n,), ascending.
            folder: where the page will lie: links are relative to it, and only files of their own have one.
        """
        images: Iterable[Image] = [None] * len(rows)
        if self.originals is not None:
            images = self.originals.sample_images(rows)
        links: list[str | None] = []
        kept = (_linked(image, links, folder) for image in images)
        made: Iterable[Thumbnail | None] = (None for _ in kept)
        if self.kind == "originals":
            made = thumbnails(kept, THUMBNAIL_SIDE)
        # Whoever makes thumbnails is ahead of us, so the link is there.
        for place, (row, found) in enumerate(zip(rows, made, strict=True)):
            yield links[place], _data_uri(found or self._stored(row))

    def _stored(self, row: int) -> Thumbnail | None:
        """The thumbnail of what the store has: pixels of our own, which need no process with limits."""
        if self.store is None or not self.store.valid[row]:
            return None
        return thumbnail(self.store.images[row], THUMBNAIL_SIDE)


def _linked(image: Image, links: list[str | None], folder: Path) -> Image:
    """The image as it is, its link noted."""
    links.append(relative_url(image, folder) if isinstance(image, Path) else None)
    return image


def relative_url(path: Path, folder: Path) -> str | None:
    """The URL of a file as seen from a page in `folder`, both absolute; every odd character percent-encoded.

    None where the way from one to the other would tell whose machine it was: where they have nothing in common, or are
    not both inside somebody's home.
    """
    shared = Path(os.path.commonpath([path, folder]))
    if shared == Path(shared.anchor) or shared in Path.home().parents:
        return None
    relative = os.path.relpath(path, folder)
    return quote(os.fsencode(relative.replace(os.sep, "/")), safe="/")


def _data_uri(found: Thumbnail | None) -> str | None:
    if found is None:
        return None
    data, kind = found
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"

"""Open-set noise: rows whose image is one of another source, so that no label is right.

Of the N labelled rows with a readable image round(R N) are hit. Each gets a readable image of the second source of its
own, drawn without replacement.

Source: Lee, Yun, Lee, Lee, Li, Shin 2019, "Robust Inference via Generative Classifiers for Handling Noisy Labels"
(RoG), as NNAQC uses it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from labelfix.data.cache import cache_errors, cache_folder
from labelfix.data.images.decoding import BadImage, decode
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Image, Manifest
from labelfix.errors import InputError
from labelfix.noise.planting import NoiseSpec, generator
from labelfix.reporting import Reporter

# Whether an image can be read does not depend on its size.
_SMALLEST = 8


class ForeignImages:
    """The images that come in, and the rows that they go to; their bytes lie on the disk.

    Args:
        rows: (n,) int64, rows of the source, in any order.
        names: n file names, of the images in the second source.
        images: n paths, or (start, length) in the spool.
        spool: the bytes of images that are no files.
    """

    def __init__(
        self,
        rows: np.ndarray,
        names: list[str],
        images: list[Path | tuple[int, int]],
        spool: IO[bytes],
    ) -> None:
        self.rows = rows
        self._names = names
        self._images = images
        self._spool = spool
        self._place = {row: place for place, row in enumerate(rows.tolist())}

    @property
    def holds_bytes(self) -> bool:
        """Whether the images are no files."""
        return any(not isinstance(image, Path) for image in self._images[:1])

    def image(self, row: int, own: Image) -> Image:
        """What a row shows: the image that comes in, else its `own`."""
        place = self._place.get(row)
        if place is None:
            return own
        image = self._images[place]
        if isinstance(image, Path):
            return image
        start, length = image
        self._spool.seek(start)
        return self._spool.read(length)

    def name(self, row: int, own: str | None) -> str | None:
        """The file name that goes with `image`."""
        place = self._place.get(row)
        return own if place is None else self._names[place]


def open_foreign(source: Any, manifest: Manifest, image_column: str | None) -> Manifest:
    """Read the second source, with or without labels, by an image column of this name where it has one.

    Raises:
        InputError: a bad source, or the first one once more.
    """
    try:
        found = Manifest.read(source, image_column=image_column, require_labels=False)
    except InputError:
        if image_column is None:
            raise
        found = Manifest.read(source, require_labels=False)
    if found.options["source"] is not None and found.source.resolve() == manifest.source.resolve():
        raise InputError(f"--open-set {found.source} is SOURCE itself; name images of other things")
    return found


@contextmanager
def foreign_images(
    manifest: Manifest, other: Manifest, noise: NoiseSpec, seed: int, reporter: Reporter
) -> Iterator[ForeignImages]:
    """Draw the rows that are hit and the images that come in; both depend on the seed and on what can be read.

    Args:
        manifest: of the source.
        other: of the second source.
        noise: open-set, and its rate.
        seed: >= 0.
        reporter: gets progress.

    Raises:
        InputError: fewer readable images in the second source than rows that are hit, or one of the source's own
            among them; a negative seed; a cache that cannot be written.
    """
    rng = generator(seed)
    store = ImageStore.open_or_build(
        manifest, _SMALLEST, on_progress=lambda done, total: reporter.progress("decode", done, total)
    )
    rows = rng.permutation(np.flatnonzero((manifest.given >= 0) & store.valid & ~manifest.held_out))
    assert noise.rate is not None
    hit = rows[: round(noise.rate * len(rows))]
    with cache_errors():
        spool = tempfile.TemporaryFile(dir=cache_folder())  # noqa: SIM115
    with spool:
        found = _draw(other, len(hit), rng, spool, reporter)
        if len(found) < len(hit):
            raise InputError(
                f"--open-set {other.source} has {len(found)} different readable images and --noise {noise} replaces"
                f" {len(hit)} of {manifest.source}; name a larger source, or a lower rate"
            )
        _check_strangers(manifest, other, {image for image in found.values() if isinstance(image, Path)})
        names = other.file_names().take(pa.array(list(found), pa.int64())).to_pylist()
        # The rows come in a random order, so which of them gets which image is random too.
        yield ForeignImages(hit, names, list(found.values()), spool)


def _draw(
    other: Manifest, count: int, rng: np.random.Generator, spool: IO[bytes], reporter: Reporter
) -> dict[int, Path | tuple[int, int]]:
    """At most `count` readable images by their row; only as many are looked at as it takes."""
    order = rng.permutation(other.num_rows)
    found: dict[int, Path | tuple[int, int]] = {}
    seen: set[Path] = set()
    looked = 0
    while len(found) < count and looked < len(order):
        some = np.sort(order[looked : looked + count - len(found)])
        looked += len(some)
        for row, image in zip(some.tolist(), other.sample_images(some), strict=True):
            # A file that is named twice comes in once: it could end up with two labels.
            if image is None or image in seen or not _is_readable(image):
                continue
            if isinstance(image, Path):
                seen.add(image)
                found[row] = image
            else:
                found[row] = (spool.tell(), len(image))
                with cache_errors():
                    spool.write(image)
            reporter.progress("draw", len(found), count)
    return found


def _is_readable(image: Path | bytes) -> bool:
    with suppress(BadImage):
        decode(image, _SMALLEST)
        return True
    return False


def _check_strangers(manifest: Manifest, other: Manifest, incoming: set[Path]) -> None:
    for _, images in manifest.image_chunks(4096) if incoming else ():
        both = next((image for image in images if image in incoming), None)
        if both is not None:
            raise InputError(
                f"--open-set {other.source}: {both} is an image of {manifest.source} too; name images of other things"
            )

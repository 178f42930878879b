"""Which images can be read: a look at some before anything is decoded, and what is left once they are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from labelfix.data.images.decoding import BadImage, open_picture
from labelfix.data.readers.files import MISSING
from labelfix.errors import InputError

if TYPE_CHECKING:
    from labelfix.data.manifest import Manifest

_MOST_LOOKED_AT = 1000
_MOST_FETCHED = 50


class Sample(NamedTuple):
    """What the headers of some images say.

    Attributes:
        sides: the shorter side of each that can be read, in pixels.
        num_seen: how many were looked at.
        num_bad: how many cannot be read.
        first: the first of those and why, as messages have it; "" without any.
    """

    sides: list[int]
    num_seen: int
    num_bad: int
    first: str


def look(manifest: Manifest) -> Sample:
    """Read the headers of at most 1,000 evenly spaced rows, 50 where images are fetched from elsewhere.

    Raises:
        InputError: none of them can be read; names the first.
    """
    count = min(manifest.num_rows, _MOST_FETCHED if manifest.holds_addresses else _MOST_LOOKED_AT)
    rows = np.arange(count) * manifest.num_rows // count
    sides: list[int] = []
    bad: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row, image in zip(rows.tolist(), manifest.sample_images(rows), strict=True):
            try:
                if image is None:
                    raise BadImage(manifest.why_none.get(row, "no image given"))
                with open_picture(image) as picture:
                    sides.append(min(picture.size))
            except BadImage as error:
                bad.append("" if bad else blame(row, image, str(error)))
    if not sides:
        raise InputError(
            f"{manifest.source}: none of {count} images looked at can be read; the first is {bad[0]}"
        )
    return Sample(sides, count, len(bad), bad[0] if bad else "")


def look_warnings(manifest: Manifest) -> list[str]:
    """A sentence where some of the images that `look` reads cannot be used.

    Raises:
        InputError: as `look`.
    """
    sample = look(manifest)
    if not sample.num_bad:
        return []
    return [
        f"{sample.num_bad} of {sample.num_seen} images looked at cannot be used; the first is {sample.first}"
    ]


def blame(row: int, image: Path | bytes | None, reason: str) -> str:
    """Which image it is, and what is wrong with it; with the full path that was tried, and the way out."""
    place = f" ({image})" if isinstance(image, Path) else ""
    hint = "; where the paths start in another folder, name it with --root" if reason == MISSING else ""
    return f"row {row}{place}: {reason}{hint}"


def decoded_warnings(
    manifest: Manifest, errors: Mapping[int, str], *, is_trained_on: bool = True
) -> list[str]:
    """Sentences for what cannot be used of a decoded source: how many images, and each class that is left without any.

    Args:
        manifest: of the source, N rows.
        errors: why rows are not valid, by row.
        is_trained_on: whether two classes are needed.

    Raises:
        InputError: no image can be read, or those of a single class only, among the rows that are trained on.
    """
    if not errors:
        return []
    row = min(errors)
    first = blame(row, manifest.images(row, row + 1)[0], errors[row])
    found = [f"{len(errors)} of {manifest.num_rows} images cannot be used; the first is {first}"]
    return found + _lost_classes(manifest, errors, first) if is_trained_on else found


def _lost_classes(manifest: Manifest, errors: Mapping[int, str], first: str) -> list[str]:
    valid = np.ones(manifest.num_rows, bool)
    valid[list(errors)] = False
    if not valid.any():
        raise InputError(
            f"{manifest.source}: none of the images can be read ({manifest.num_rows}); the first is {first}"
        )
    trained = (manifest.given >= 0) & ~manifest.held_out
    there = set(manifest.given[trained].tolist())
    left = set(manifest.given[trained & valid].tolist())
    lost = [repr(manifest.class_names[label]) for label in sorted(there - left)]
    if len(left) < 2 <= len(there):
        only = f"only images of {manifest.class_names[min(left)]!r} can" if left else "no labelled image can"
        raise InputError(
            f"{manifest.source}: {only} be read, none of {_listed(lost)}; at least two classes are needed; the first"
            f" that cannot is {first}"
        )
    return [f"no image can be read of {_listed(lost)}: nothing is learned of it"] if lost else []


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")

"""Rows of a frame as pictures: a grid that a notebook draws, with nothing outside of it."""

from __future__ import annotations

import warnings
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment

from labelfix.accessor.rows import PATH, check_count, check_one_label, require
from labelfix.data.images.thumbnails import Thumbnail, thumbnail, thumbnails
from labelfix.errors import InputError
from labelfix.results.corrections import Corrections
from labelfix.results.originals import read_originals, source_options, stored_images

_NEEDED = ("sample_id", "file_name", "given_label", "corrected_label", "noise_score", "error")
_SIZES = (16, 1024)
# Notebooks drop style sheets and scripts of pages they do not trust, but keep styles of elements. Every name goes
# through autoescape, and <bdi> keeps one that is written from right to left from turning its neighbours around.
_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<div style="display: flex; flex-wrap: wrap; gap: 12px">
{% set square = "width: %dpx; height: %dpx; " % (size, size) %}
{% for cell in cells %}
<figure style="margin: 0; width: {{ size }}px; font-size: 12px; overflow-wrap: anywhere">
{% if cell.picture is none %}
<div style="{{ square }}outline: 1px dashed">{{ cell.error or "cannot be read" }}</div>
{% else %}
<img src="{{ cell.picture }}" alt="{{ cell.file_name }}" title="{{ cell.file_name }}"
 style="{{ square }}object-fit: contain{% if "png" in cell.picture[:15] %}; image-rendering: pixelated{% endif %}">
{% endif %}
<figcaption>
{% if cell.given_label is none %}no label{% else %}<bdi>{{ cell.given_label }}</bdi>{% endif %}

{% if cell.corrected_label is not none and cell.corrected_label != cell.given_label %}
&rarr; <strong><bdi>{{ cell.corrected_label }}</bdi></strong>
{% endif %}
{% if cell.noise_score is not none %}<br>score {{ "%.3f" | format(cell.noise_score) }}{% endif %}

<br>row {{ cell.sample_id }}
</figcaption>
</figure>
{% endfor %}
</div>
""")


@dataclass(frozen=True, repr=False)
class ImageGrid:
    """Images with their labels, drawn by a notebook.

    Attributes:
        html: a fragment of HTML that loads nothing: the pictures are in it.
        count: how many images it shows.
    """

    html: str
    count: int

    def __repr__(self) -> str:
        return f"ImageGrid of {self.count} images"

    def _repr_html_(self) -> str:
        return self.html


def image_grid(frame: pd.DataFrame, n: int, size: int, source: Any) -> ImageGrid:
    """See `FindingsAccessor.show`."""
    require(frame, _NEEDED, "show")
    check_one_label(frame, "show")
    check_count(n, "show")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise InputError(f"show: size is {size}; give {_SIZES[0]} to {_SIZES[1]} pixels")
    if PATH not in frame.attrs:
        raise InputError(
            "show: the frame has lost its attrs, and with them where it was read from; ask a frame of"
            " labelfix.read_corrections, or rows of one"
        )
    shown = frame.head(n)
    pictures = _pictures(Corrections.open(frame.attrs[PATH]), shown["sample_id"].to_numpy(), size, source)
    columns = [_plain(shown[column]) for column in _NEEDED]
    cells = [
        {**dict(zip(_NEEDED, row, strict=True)), "picture": picture}
        for *row, picture in zip(*columns, pictures, strict=True)
    ]
    return ImageGrid(_PAGE.render(cells=cells, size=size), len(cells))


def _plain(column: pd.Series) -> list[Any]:
    """The cells, None where there is none."""
    return [None if pd.isna(cell) else cell for cell in column]


def _pictures(opened: Corrections, rows: np.ndarray, size: int, source: Any) -> list[str | None]:
    """For each of some rows (n,) its picture as a data: address; None where it cannot be read."""
    wanted, place = np.unique(rows, return_inverse=True)
    last = opened.num_rows - 1
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] <= last:
        raise InputError(f"show: {opened.path} has the sample_ids 0 to {last}; the frame has others")
    drawn = [
        None if made is None else f"data:{made[1]};base64,{b64encode(made[0]).decode('ascii')}"
        for made in _thumbnails(opened, wanted, size, source)
    ]
    return [drawn[row] for row in place]


def _thumbnails(opened: Corrections, rows: np.ndarray, size: int, source: Any) -> Iterable[Thumbnail | None]:
    """Of some rows, ascending: from the source, or from what was decoded where that is not to be had."""
    try:
        return thumbnails(read_originals(opened, source).sample_images(rows), size)
    except InputError as error:
        store = stored_images(opened) if source is None else None
        if store is not None:
            if source_options(opened.path).get("source") is not None:
                text = (
                    f"show: {error}. The pictures are the run's own copies, {store.stored_size} pixels wide"
                )
                warnings.warn(text, stacklevel=5)
            return (thumbnail(store.images[row], size) if store.valid[row] else None for row in rows)
        raise InputError(f"show: {str(error).replace('--source', 'source=')}") from None

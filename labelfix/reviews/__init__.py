"""Review: one HTML file in which people look at the suspects and decide, with no server and no account.

`survey` reads the whole table in numbers, `noticed` what is worth a look beside the labels, `suspects` the rows that
are shown, `pictures` their thumbnails; `report` and `charts` tell of the run; `page` makes the file of it all.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.atomic_files import atomic_path
from labelfix.choices import REVIEW_SORTS
from labelfix.errors import InputError
from labelfix.output_paths import check_no_folder, check_place, naming
from labelfix.results.corrections import Corrections
from labelfix.results.protected_paths import check_protected
from labelfix.reviews.noticed import Noticed
from labelfix.reviews.page import chunks, is_page
from labelfix.reviews.pictures import Pictures
from labelfix.reviews.report import report_of, source_name
from labelfix.reviews.survey import Survey
from labelfix.reviews.suspects import Sample, has_images, ordered, read_samples

__all__ = ["review"]

MOST_FLAGGED = 2_000
MOST_UNFLAGGED = 100
MOST_NOTICED = 1_000


def review(
    corrections: str | Path,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    sort: str = "score",
    source: Any = None,
) -> dict[str, Any]:
    """Write a page to review the most suspect rows with; an earlier page is replaced, the decisions made in it stay.

    Shown are the flagged rows, at most the 2,000 with the highest noise scores; of a run that flagged nothing the 100
    rows with the highest scores; and beside them copies that contradict each other or lie on several sides of a split,
    and outliers, at most 1,000. `limit` asks for so many rows instead: flagged ones first, then those with the next
    highest scores. Thumbnails show the originals, or what the cache keeps of them.

    Args:
        corrections: a corrections file or a run folder.
        out: the page, an .html file, new or an earlier page; `review.html` beside the corrections by default.
        limit: number of rows, at least 1.
        sort: the order that the page opens with: "score", most suspect first; "class", by given label; or "confusion",
            most frequent pair of given and suggested label first.
        source: where the data are now, in case that they have moved; in Python also the data themselves.

    Returns:
        JSON-able. path, shown (rows), beside (those of them that stand beside the suspects), flagged (rows of the run),
        without_picture (rows shown), pictures ("originals", "store", or "none" of a table without images), bytes (size
        of the page), message (None, or why there are no originals, in a line).

    Raises:
        InputError: not a corrections file, an option that makes no sense, an `out` that must not be written, images
            that cannot be found, or a `source` that is not what was scanned.
    """
    if sort not in REVIEW_SORTS:
        raise InputError(f"--sort {sort}: it is one of {', '.join(REVIEW_SORTS)}")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: show at least 1 row")
    opened = Corrections.open(corrections)
    path = opened.path.parent / "review.html" if out is None else Path(out)
    with naming(path):
        _check(path, opened, source)
    pictures = Pictures.of(opened, source)
    survey = Survey.of(opened, MOST_FLAGGED if limit is None else limit)
    suspects = survey.ranked[: _shown(survey, limit)]
    noticed = Noticed.of(opened)
    # Who asks for a number of rows gets no others.
    beside = np.setdiff1d(noticed.rows[:MOST_NOTICED], suspects) if limit is None else suspects[:0]
    samples = read_samples(opened, np.concatenate([suspects, beside]), noticed)
    _add_pictures(samples, pictures, path)
    name = source_name(opened, pictures)
    data = {
        "run": {**_run(opened, survey, name), "sort": sort},
        "class_names": opened.metadata["class_names"],
        "samples": ordered(samples, sort),
    }
    report = report_of(opened, survey, name, len(suspects), len(beside))
    with (
        naming(path),
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(chunks(data, report))
    return {
        "path": str(path),
        "shown": len(samples),
        "beside": len(beside),
        "flagged": survey.counts["flagged"],
        "without_picture": sum(sample["thumb"] is None for sample in samples),
        "pictures": pictures.kind if has_images(opened) else "none",
        "bytes": path.stat().st_size,
        "message": pictures.message,
    }


def _shown(survey: Survey, limit: int | None) -> int:
    if limit is not None:
        return limit
    return min(survey.counts["flagged"] or MOST_UNFLAGGED, MOST_FLAGGED)


def _add_pictures(samples: list[Sample], pictures: Pictures, path: Path) -> None:
    in_order = sorted(samples, key=lambda sample: int(sample["id"]))
    rows = np.array([sample["id"] for sample in in_order], np.int64)
    found = pictures.of_rows(rows, path.absolute().parent)
    for sample, (href, thumb) in zip(in_order, found, strict=True):
        sample["href"], sample["thumb"] = href, thumb


def _run(corrections: Corrections, survey: Survey, source: str) -> dict[str, str]:
    """What tells this run from all others: a browser keeps decisions under its id, whichever rows a page shows."""
    metadata = corrections.metadata
    parts = (
        metadata["source_fingerprint"],
        metadata["method"],
        metadata["seed"],
        metadata["class_names"],
        survey.proposals.hexdigest(),
    )
    return {
        "id": hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:32],
        "source": source,
        "method": metadata["method"],
        "task": metadata["task"],
    }


def _check(path: Path, corrections: Corrections, source: Any) -> None:
    """Refuse what is no place for a page, and a file that is none: it would be lost."""
    check_place(path)
    check_no_folder(path, f"name a file in it, as in {path / 'review.html'}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {path}: a page is an .html file; choose such a name")
    check_protected(corrections, path, source, None)
    if path.exists() and not is_page(path):
        raise InputError(f"--out {path} is no review page of labelfix; choose another name")

"""Report: what the summary of a page says of the run, from the corrections and the files that lie beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.data.parquet_file import open_parquet_file
from labelfix.errors import InputError
from labelfix.results.corrections import Corrections
from labelfix.results.originals import source_options
from labelfix.results.run_json import read_config, read_summary
from labelfix.reviews.charts import all_charts
from labelfix.reviews.pictures import Pictures
from labelfix.reviews.survey import Survey
from labelfix.reviews.suspects import batches_of
from labelfix.reviews.svg import drawn

_PAIRS_SHOWN = 100
_FILES = ("weights", "pred_probs", "features")  # options that may name a file


def source_name(corrections: Corrections, pictures: Pictures) -> str:
    """What the data are called: the last part of the path, no more, as pages are passed around."""
    place = source_options(corrections.path).get("source")
    if place is None and pictures.originals is not None:
        place = pictures.originals.source
    return "images in memory" if place is None else Path(place).name


def report_of(
    corrections: Corrections, survey: Survey, source: str, shown: int, beside: int = 0
) -> dict[str, Any]:
    """What `render` takes as its report.

    Args:
        corrections: of the run; a file that was moved out of it is shown without what only the run knows.
        survey: of the corrections.
        source: name of the source.
        shown: number of suspects on the page.
        beside: how many other rows it shows: copies that contradict each other or leak, and outliers.
    """
    metadata, names = corrections.metadata, corrections.metadata["class_names"]
    summary = read_summary(corrections.path.parent)
    epochs = _epochs_beside(corrections)
    counts, reason = survey.counts, summary.get("fit_reason") or ""
    return {
        "title": f"Review of {source}",
        "source": source,
        "method": metadata["method"],
        "labelfix_version": metadata["labelfix_version"],
        "noise_rate": metadata.get("noise_rate"),
        "fit_ok": metadata["fit_ok"],
        "fit_reason": reason,
        "counts": {name: counts[name] for name in _COUNTS},
        "shown": shown + beside,
        "suspects": max(counts["flagged"], shown) + beside,
        "note": _note(counts["flagged"], shown, beside, reason if metadata["fit_ok"] else ""),
        "by_class": [
            {"name": name, "rows": rows, "noise_rate": rate, "flagged": flagged, "corrected": corrected}
            for name, rate, (rows, flagged, corrected) in zip(
                names, survey.noise_by_class, survey.by_class.T.tolist(), strict=True
            )
        ],
        "pairs": [
            {"given": given, "corrected": corrected, "count": count}
            for (given, corrected), count in survey.pairs.most_common(_PAIRS_SHOWN)
        ],
        "charts": [drawn(chart) for chart in all_charts(survey, names, summary, epochs)],
        "invalid": _invalid(corrections, survey),
        "invalid_total": counts["invalid"],
        "settings": list(_settings(corrections, epochs)),
    }


_COUNTS = ("rows", "judged", "flagged", "corrected", "unlabelled", "trusted", "invalid")


def _note(flagged: int, shown: int, beside: int, reason: str) -> str:
    """What to know of a fit that is fine and of rows that are shown though not flagged, in sentences; else empty."""
    sentences = [f"{reason[0].upper()}{reason[1:]}."] if reason else []
    if shown > flagged:
        if flagged:
            sentences.append(
                f"Beside the {flagged:,} flagged rows the page shows those with the next highest noise scores."
            )
        else:
            sentences.append("No row is flagged: the page shows those with the highest noise scores.")
    if beside:
        sentences.append(
            f"The page also shows {beside:,} copies that contradict each other or lie on both sides of a split, and"
            " outliers: see the filter of findings."
        )
    return " ".join(sentences)


def _invalid(corrections: Corrections, survey: Survey) -> list[dict[str, str | None]]:
    batches = batches_of(corrections, np.array(survey.invalid, np.int64), ["file_name", "error"])
    return [row for batch in batches for row in batch.to_pylist()]


def _settings(corrections: Corrections, epochs: pa.Table | None) -> list[list[str]]:
    """Names and values, as text without folders: whose machine it was is nobody's business."""
    metadata = corrections.metadata
    saved = read_config(corrections.path.parent)
    config = saved.get("config") or {"method": metadata["method"], "seed": metadata["seed"]}
    hidden = ("settings", *(f"{name}_sha256" for name in _FILES))
    plain = {name: value for name, value in config.items() if name not in hidden}
    plain |= {name: Path(plain[name]).name for name in _FILES if plain.get(name)}
    if plain.get("probe"):
        plain["probe"] = "{backbone}, {image_size} px, {folds} folds".format(**plain["probe"])
    if "candidates" in plain:
        plain["candidates"] = ", ".join(plain["candidates"])
    if epochs is not None and len(epochs):
        plain["epochs"] = max(epochs.column("epoch").to_pylist())
    trusted = (saved.get("files") or {}).get("trusted")
    plain |= {
        "trusted": None if trusted is None else Path(trusted).name,
        **(config.get("settings") or {}),
        "rows out of sample": metadata["out_of_sample"],
        "resumed elsewhere": metadata["resumed_elsewhere"],
        "flag rule": metadata["flag_rule"],
        "source fingerprint": metadata["source_fingerprint"],
        **{
            f"version of {name}": text
            for name, text in ((saved.get("environment") or {}).get("packages") or {}).items()
        },
    }
    return [[name.replace("_", " "), _text(value)] for name, value in plain.items() if value is not None]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _epochs_beside(corrections: Corrections) -> pa.Table | None:
    try:
        with open_parquet_file(corrections.path.parent / "epochs.parquet") as file:
            return file.read()
    except (OSError, pa.ArrowInvalid, InputError):
        return None

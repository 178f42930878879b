"""Parquet: every column with its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from labelfix.exports.base import Export

SUFFIXES: tuple[str, ...] = (".parquet",)
NEEDS: tuple[str, ...] = ()
HOLDS_IMAGES = False
IS_TEXT = False
TAKES_SEVERAL = True


def write(path: Path, export: Export) -> dict[str, Any]:
    """Write a Parquet file, a row group per batch."""
    with pq.ParquetWriter(path, export.schema) as writer:
        for batch in export.batches:
            writer.write_batch(batch.cast(export.schema))
    return {}

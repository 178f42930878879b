"""What a target offers, and what it is handed to write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.manifest import Manifest
from labelfix.results.corrections import Corrections


@dataclass(frozen=True)
class Export:
    """The rows to write, and what belongs to them.

    Attributes:
        corrections: where they come from.
        schema: of the batches.
        batches: the rows, once: the columns shown, labels as text, and those that the target needs.
        source: where the images are now, as the user says; None: where the run says.
        originals: the source, opened, for targets that hold images.
        is_reviewed: whether there are decisions: else columns called as theirs are the source's own.
        images: copy, hardlink or symlink.
        image_url_prefix: what to put before the file names to make addresses of them; None: the target's own.
    """

    corrections: Corrections
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    source: Any = None
    originals: Manifest | None = None
    is_reviewed: bool = False
    images: str = "copy"
    image_url_prefix: str | None = None

    @property
    def class_names(self) -> list[str]:
        """The K classes in their order."""
        return list(self.corrections.metadata["class_names"])

    def class_indices(self, labels: pa.Array) -> np.ndarray:
        """Class indices (n,) int64 of labels as text, none of them null."""
        found = pc.index_in(labels, value_set=pa.array(self.class_names, pa.string()))
        indices: np.ndarray = found.cast(pa.int64()).to_numpy()
        return indices


class Target(Protocol):
    """What every target's module offers.

    Attributes:
        SUFFIXES: the extensions that its `--out` can have, the default first; "" is a folder.
        NEEDS: columns of the corrections that it cannot do without; rows that have nothing there are left out.
        HOLDS_IMAGES: whether it writes the images themselves.
        IS_TEXT: whether it writes the source's own columns as text, which cannot hold raw bytes.
    """

    SUFFIXES: tuple[str, ...]
    NEEDS: tuple[str, ...]
    HOLDS_IMAGES: bool
    IS_TEXT: bool

    def write(self, path: Path, export: Export) -> dict[str, Any]:
        """Write to `path`, a new file or an empty folder; return the target's own part of the summary."""

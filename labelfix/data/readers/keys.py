"""The two keys of a source: one identifies its rows, the other its decoded images."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.readers.rows import OpenedSource, Rows


class Keys:
    """The fingerprint and the image key, fed row by row."""

    def __init__(self) -> None:
        self.has_paths = False
        self.sizes = hashlib.sha256()
        self.times = hashlib.sha256()
        self.paths = _TextHash()

    def add(self, rows: Rows) -> None:
        """Take the next rows; of files their `Rows.status` is known."""
        if rows.digests is not None:
            self.sizes.update(np.ascontiguousarray(rows.digests).tobytes())
            return
        assert rows.status is not None
        sizes, times = rows.status[:, 0], rows.status[:, 1]
        if rows.sizes is not None:
            sizes = np.where(rows.sizes < 0, sizes, rows.sizes)
        if rows.sizes is None or rows.paths.null_count < len(rows.paths):
            self.has_paths = True
            self.times.update(np.ascontiguousarray(times).tobytes())
            self.paths.add(rows.paths)
        self.sizes.update(np.ascontiguousarray(sizes, dtype="<i8").tobytes())

    def fingerprint(self, names: pa.ChunkedArray, class_names: tuple[str, ...], given: np.ndarray) -> str:
        """SHA-256 (hex) over row order, file names, given labels and image sizes (in memory: the pixels).

        `given` is (N,) int64 or, of several labels a row, (N, K) float32.
        """
        text = _TextHash()
        for chunk in names.chunks:
            text.add(chunk)
        kind = "<i8" if given.ndim == 1 else "<f4"
        labels = hashlib.sha256(np.ascontiguousarray(given, dtype=kind).tobytes())
        return _hash_json(
            [len(given), list(class_names), text.digest(), labels.hexdigest(), self.sizes.hexdigest()]
        )

    def image_key(self, source: OpenedSource, num_rows: int) -> str:
        """SHA-256 (hex) over what the decoded images depend on, never labels."""
        files = (
            [self.paths.digest(), self.sizes.hexdigest(), self.times.hexdigest()] if self.has_paths else []
        )
        if source.stamp:
            return _hash_json([num_rows, *source.stamp, *files])
        if source.holds_images:
            return _hash_json([num_rows, self.sizes.hexdigest()])
        return _hash_json([num_rows, *files])


class _TextHash:
    """A hash over strings and their lengths, so that no two lists look alike, in batches of any size."""

    def __init__(self) -> None:
        self.lengths = hashlib.sha256()
        self.text = hashlib.sha256()

    def add(self, texts: pa.Array) -> None:
        lengths = pc.fill_null(pc.cast(pc.binary_length(texts), pa.int64()), -1)
        self.lengths.update(
            np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False), dtype="<i8").tobytes()
        )
        self.text.update("".join(text for text in texts.to_pylist() if text is not None).encode())

    def digest(self) -> str:
        return self.lengths.hexdigest() + self.text.hexdigest()


def _hash_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

"""Names that options choose from, where the registries behind them would import too much for a --help."""

from __future__ import annotations

# Each is a module of `labelfix.exports`.
EXPORTS = ("csv", "jsonl", "parquet", "hf", "imagefolder", "labelstudio", "cleanlab", "fiftyone")
IMAGE_WAYS = ("copy", "hardlink", "symlink")
EXPORT_ACTIONS = ("relabel", "drop")
EXPORT_DEDUPES = ("keep-one", "drop-conflicts")
REVIEW_SORTS = ("score", "class", "confusion")

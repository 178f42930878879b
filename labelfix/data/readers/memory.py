"""Sources in memory: arrays, torch Datasets, DataFrames and Hugging Face Datasets.

None of these libraries is imported here: what is no instance of something already imported is none of it.
"""

from __future__ import annotations

import sys
from typing import Any

from labelfix.data.readers.frames import open_dataframe, open_hub_dataset, open_table
from labelfix.data.readers.items import open_arrays, open_items
from labelfix.data.readers.rows import OpenedSource, Query
from labelfix.errors import InputError

ARRAYS, DATAFRAME, DATASET = "the arrays", "the DataFrame", "the Dataset"
_KINDS = "a path, (images, labels), a DataFrame of pandas or polars, or a map-style Dataset of torch or Hugging Face"


def title_of(data: Any) -> str:
    """What messages call a source in memory.

    Raises:
        InputError: it is of no known kind, or can only be read once.
    """
    if data is None:
        raise InputError("what was scanned is in memory, not in a file; pass it again as `source`")
    if isinstance(data, tuple):
        return ARRAYS
    if _is_a(data, "pandas", "DataFrame") or _is_table(data):
        return DATAFRAME
    if _is_a(data, "polars", "LazyFrame"):
        raise InputError("the LazyFrame is not read yet; pass frame.collect()")
    if _is_a(data, "datasets", "DatasetDict") or _is_a(data, "datasets", "IterableDatasetDict"):
        splits = ", ".join(map(repr, data)) or "none"
        raise InputError(f"the DatasetDict holds splits ({splits}): scan one, such as datasets['train']")
    if _is_a(data, "datasets", "IterableDataset") or _is_a(data, "torch.utils.data", "IterableDataset"):
        raise InputError("the Dataset is iterable-style, without row numbers; give a map-style Dataset")
    if _is_a(data, "datasets", "Dataset") or _is_a(data, "torch.utils.data", "Dataset"):
        return DATASET
    raise InputError(f"a source is {_KINDS}, not a {type(data).__name__}")


def open_memory(data: Any, query: Query) -> OpenedSource:
    """Open a source in memory.

    Args:
        data: `(images, labels)`, images as uint8 (N, H, W), (N, H, W, 1 or 3) or with alpha (N, H, W, 4); a
            torch Dataset of (PIL image, label); a DataFrame of paths (pandas, polars or Arrow); or a Hugging Face
            Dataset. Labels
            become text as in a manifest, except that integers are indices where a Dataset has class names.
        query: what to read; its path is the title of `data`.

    Raises:
        InputError: the wrong type, shape or length, or a missing column; or an option is wrong.
    """
    query.check()
    if query.path.name == ARRAYS:
        return open_arrays(data, query)
    if _is_table(data):
        return open_table(data, query)
    if query.path.name == DATAFRAME:
        return open_dataframe(data, query)
    if _is_a(data, "datasets", "Dataset"):
        return open_hub_dataset(data, query)
    return open_items(data, query)


def _is_table(data: Any) -> bool:
    return _is_a(data, "polars", "DataFrame") or _is_a(data, "pyarrow", "Table")


def _is_a(data: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(data, kind)

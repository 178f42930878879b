"""Datasets of the Hugging Face hub, by address: hf://datasets/NAME[@REVISION][/CONFIG][:SPLIT]."""

from __future__ import annotations

import re
from typing import Any

from labelfix.errors import InputError

_PREFIX = "hf://"
_PART = r"[\w.-]+"
_ADDRESS = re.compile(
    rf"hf://datasets/(?P<name>{_PART}(?:/{_PART})?)(?:@(?P<revision>{_PART}))?(?:/(?P<config>{_PART}))?(?::(?P<split>.+))?"
)
_FORM = "hf://datasets/OWNER/NAME[@REVISION][/CONFIG][:SPLIT]"


def is_hub_address(source: Any) -> bool:
    """Whether a source is meant to be on the hub."""
    return isinstance(source, str) and source.startswith(_PREFIX)


def hub_name(address: str) -> str:
    """The last part of the name of a dataset.

    Raises:
        InputError: no address of a dataset.
    """
    return _parsed(address)["name"].rpartition("/")[2]


def load_hub(address: str) -> Any:
    """The Dataset at an address, downloaded once to the cache of `datasets`; all splits as one with a column `split`.

    Raises:
        InputError: no address of a dataset, no `datasets` (extra `hf`), or nothing that can be loaded.
    """
    parts = _parsed(address)
    try:
        import datasets
    except ImportError:
        raise InputError(f"{address} is read by `datasets`: pip install 'labelfix[hf]'") from None
    try:
        found: Any = datasets.load_dataset(
            parts["name"], parts["config"], revision=parts["revision"], split=parts["split"]
        )
        if isinstance(found, datasets.DatasetDict):
            splits = [_with_split(part, name) for name, part in found.items()]
            found = datasets.concatenate_datasets(splits)
    except Exception as error:  # the hub and its scripts have errors of many kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(
            f"{address} cannot be loaded ({reason}); check the name, or download it yourself"
        ) from None
    return found


def _with_split(part: Any, name: str) -> Any:
    return part if "split" in part.column_names else part.add_column("split", [name] * len(part))


def _parsed(address: str) -> dict[str, str | Any]:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InputError(f"{address} is no address of a dataset on the hub; write {_FORM}")
    return found.groupdict()

"""Names of classes: which of them look alike, and what other name each is to go by."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelfix.data.tables import text_columns
from labelfix.errors import InputError

_NUMBER = re.compile(r"([+-]?[0-9]+)(?:\.0+)?")
_BLANKS = re.compile(r"[\s_-]+")
_MOST_SHOWN = 5


def look_alikes(names: Sequence[str]) -> list[list[str]]:
    """Groups of two or more names that a person may not tell apart, in the order of the names.

    They differ only in case, in Unicode form, in characters that are not seen, in the number of blanks, `_` and `-`, or
    as `3` and `3.0`.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def merged(names: Sequence[str], counts: Mapping[str, int]) -> dict[str, str]:
    """The name that each of some look-alikes is to go by: the one with most rows, else the first by code points."""
    found: dict[str, str] = {}
    for group in look_alikes(names):
        best = min(group, key=lambda name: (-counts.get(name, 0), name))
        found |= {name: best for name in group if name != best}
    return found


def look_alike_warning(source: Path, names: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """A sentence that names the classes that look alike, with the option that makes them one."""
    groups = look_alikes(names)
    if not groups:
        return []
    shown = "; ".join(
        " and ".join(f"{_visible(name)} ({counts.get(name, 0)} rows)" for name in group)
        for group in groups[:_MOST_SHOWN]
    )
    more = f"; and {len(groups) - _MOST_SHOWN} such groups more" if len(groups) > _MOST_SHOWN else ""
    return [
        f"{source}: classes that look alike: {shown}{more}; --merge-classes makes them one, --class-map FILE says how"
    ]


def read_class_map(given: str | Path | Mapping[str, str]) -> dict[str, str]:
    """The names that classes are to go by: `{name: other name}`.

    Args:
        given: such a mapping; or a .json file of one; or a .csv, .tsv, .jsonl or .parquet file with the columns `class`
            and `to`.

    Raises:
        InputError: a file that is not there or holds something else, a name without another, or two for one name.
    """
    if isinstance(given, Mapping):
        return _checked(list(given.items()), "class_map")
    path = Path(given).expanduser()
    where = f"--class-map {path}"
    if not path.is_file():
        raise InputError(f"{where} does not exist; check the path")
    if path.suffix.lower() == ".json":
        return _checked(_json_pairs(path, where), where)
    names, cells = text_columns(path, ("class", "to"), "--class-map")
    if set(cells) != {"class", "to"}:
        there = ", ".join(map(repr, names)) or "none"
        raise InputError(f"{where}: it needs the columns 'class' and 'to'; its columns are {there}")
    return _checked(list(zip(cells["class"].to_pylist(), cells["to"].to_pylist(), strict=True)), where)


def _json_pairs(path: Path, where: str) -> list[tuple[Any, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{where} cannot be read as JSON ({error}); correct it") from None
    if not isinstance(found, dict):
        raise InputError(f'{where}: it has to be one object, as in {{"Cat": "cat"}}')
    return list(found.items())


def _checked(pairs: list[tuple[Any, Any]], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, other in pairs:
        name, other = (text.strip() if isinstance(text, str) else text for text in (name, other))
        if not isinstance(name, str) or not isinstance(other, str) or not name or not other:
            raise InputError(
                f"{where}: {name!r} is to be {other!r}; write two names, each a text that is not empty"
            )
        if found.setdefault(name, other) != other:
            raise InputError(f"{where}: {name!r} is to be {found[name]!r} and {other!r}; keep one")
    return {name: other for name, other in found.items() if name != other}


def _key(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(
        sign for sign in unicodedata.normalize("NFKC", plain) if unicodedata.category(sign) != "Cf"
    )
    number = _NUMBER.fullmatch(seen.strip())
    return number[1] if number else _BLANKS.sub(" ", seen).strip()


def _visible(name: str) -> str:
    """The name, with escapes where two that look alike could not be told apart on a screen."""
    is_plain = name.isprintable() and unicodedata.normalize("NFC", name) == name
    return repr(name) if is_plain else ascii(name)

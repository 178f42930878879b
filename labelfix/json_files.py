"""JSON that anybody may have written: every value that is used has its type and range before anything is made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labelfix.errors import InputError

Check = Callable[[Any], bool]
Checks = Mapping[str, "Check | Checks"]
_MOST_BYTES = 1 << 28
_LARGEST = 1e15  # of numbers, so that no sum or product of some is infinite


def is_text(value: Any) -> bool:
    """Text that can be written as UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def is_path(value: Any) -> bool:
    """Text that can be the name of a file."""
    return is_text(value) and bool(value) and "\0" not in value


def is_flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A finite number of a usual size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def is_count(value: Any) -> bool:
    """A whole number from 0 up."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def is_share(value: Any) -> bool:
    """A number from 0 to 1."""
    return is_number(value) and 0 <= value <= 1


def is_object(value: Any) -> bool:
    """Names with values of any kind."""
    return isinstance(value, dict) and all(map(is_text, value))


def are_names(value: Any) -> bool:
    """At least one text, all different and none empty."""
    return are(is_text)(value) and bool(value) and all(value) and len(set(value)) == len(value)


def are(check: Check) -> Check:
    """A list of such values."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def by_name(check: Check) -> Check:
    """Names with such values."""
    return lambda value: is_object(value) and all(map(check, value.values()))


def maybe(check: Check | Checks) -> Check:
    """Such a value, null, or nothing at all."""
    return lambda value: (
        value is None
        or (check(value) if callable(check) else isinstance(value, dict) and wrong_key(value, check) is None)
    )


def wrong_key(found: Mapping[str, Any], checks: Checks) -> str | None:
    """The first key, dots between levels, whose value is missing or fails its check; None where all are right."""
    for name, check in checks.items():
        value = found.get(name)
        if callable(check):
            if not check(value):
                return name
        elif not isinstance(value, dict):
            return name
        elif (inner := wrong_key(value, check)) is not None:
            return f"{name}.{inner}"
    return None


def parse_object(text: str | bytes, checks: Checks) -> dict[str, Any]:
    """The JSON object that a text holds; keys beyond those checked are left as they are.

    Raises:
        ValueError: no JSON object, or a value that fails its check; says which.
    """
    try:
        found = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    wrong = wrong_key(found, checks)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is missing, or of another kind than labelfix writes")
    return found


def load_object(path: Path, checks: Checks) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: no regular file, larger than 256 MiB, or as `parse_object`.
    """
    if not path.is_file() and path.exists():
        raise ValueError("it is no regular file")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES >> 20} MiB")
    return parse_object(path.read_bytes(), checks)


def read_object(path: Path, checks: Checks, way_out: str) -> dict[str, Any] | None:
    """The JSON object that a file holds; None where there is no such file.

    Args:
        path: of the file.
        checks: of the values by key, see `wrong_key`.
        way_out: end of the message.

    Raises:
        InputError: it cannot be read, or is not as labelfix writes it.
    """
    try:
        return load_object(path, checks)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {way_out}") from None
    except ValueError as error:
        raise InputError(f"{path} is not as labelfix writes it: {error}; {way_out}") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number

"""The CSV file of a noise: a confusion matrix, or a rate for each class."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labelfix.data.readers import unescape_cell
from labelfix.errors import InputError
from labelfix.noise.planting import NoiseSpec


class NoiseFile(NamedTuple):
    """A CSV file as read.

    Attributes:
        path: of the file.
        sha256: of its bytes, hex.
        header: its first record.
        records: line number and cells of each record below.
    """

    path: Path
    sha256: str
    header: list[str]
    records: list[tuple[int, list[str]]]


def read_noise_file(noise: NoiseSpec) -> NoiseFile | None:
    """Read the CSV file of a noise, None where it has none; what our own csv export escaped is unescaped.

    Raises:
        InputError: no such file, or no CSV in UTF-8 with equally long records.
    """
    if noise.file is None:
        return None
    path = Path(os.path.expanduser(noise.file))
    try:
        data = path.read_bytes()
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        # Blank lines have no cells.
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise InputError(f"--noise {noise}: cannot be read: {error.strerror}; name a CSV file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not valid UTF-8; save the file in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path} cannot be read ({error}); correct its quotes") from None
    records = [(line, [unescape_cell(cell).strip() for cell in cells]) for line, cells in lines]
    header = records[0][1] if records else []
    for line, cells in records[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{path}: line {line} ({cells[0]!r}) has {len(cells)} cells where the header has {len(header)};"
                " correct it, or put class names with commas in quotes"
            )
    return NoiseFile(path, hashlib.sha256(data).hexdigest(), header, records[1:])


def asked_of(file: NoiseFile, noise: NoiseSpec, class_names: Sequence[str]) -> np.ndarray:
    """What the file asks for, in class order: (K, K) shares for confusion, else (K,) rates.

    Raises:
        InputError: a class too few or too many, or what is no share or rate.
    """
    is_matrix = noise.kind == "confusion"
    if not is_matrix and file.header != ["class", "rate"]:
        raise InputError(f"{file.path}: the header has to be class,rate, with a row per class below")
    headed = [("the header", name) for name in file.header[1:]]
    columns = _places(file.path, headed, "header", class_names) if is_matrix else [0]
    lines = [(f"line {line}", cells[0]) for line, cells in file.records]
    rows = _places(file.path, lines, "first column", class_names)
    asked = np.empty((len(rows), len(columns)))
    for row, (line, cells) in zip(rows, file.records, strict=True):
        where = f"{file.path}: line {line}, class {cells[0]!r}"
        shares = [_share(*named, where) for named in zip(cells[1:], file.header[1:], strict=True)]
        total = math.fsum(shares) if is_matrix else 1.0
        if round(abs(total - 1), 9) > 1e-6:
            raise InputError(f"{where}: the row sums to {total:.9g}; the shares of a class have to sum to 1")
        asked[row, columns] = np.array(shares) / total
    return asked if is_matrix else asked[:, 0]


def _places(path: Path, named: list[tuple[str, str]], part: str, class_names: Sequence[str]) -> list[int]:
    """Class index of each name, found somewhere in a part of the file; every class has to be there, once."""
    index = {name: label for label, name in enumerate(class_names)}
    found: dict[str, int] = {}
    for where, name in named:
        if name not in index:
            raise InputError(
                f"{path}: {where} names the class {name!r}, which the source does not have; correct or remove it"
            )
        if name in found:
            raise InputError(f"{path}: {where} names the class {name!r} a second time; keep one of the two")
        found[name] = index[name]
    missing = [name for name in class_names if name not in found]
    if missing:
        raise InputError(f"{path}: the {part} lacks the class {missing[0]!r}; it has to name every class")
    return list(found.values())


def _share(cell: str, column: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise InputError(f"{where}, column {column!r}: {cell!r} is no number from 0 to 1; correct it")
    return value

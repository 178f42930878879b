"""Large arrays in .npy files of the cache: made whole before they are filled, and mapped only where they are right."""

from __future__ import annotations

import io
import math
import os
import shutil
from pathlib import Path

import numpy as np

from labelfix.errors import InputError


def map_array(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """The array of this type and shape in a .npy file, mapped for reading.

    Raises:
        OSError: it cannot be read.
        ValueError: the file is not exactly that.
    """
    header = _header(dtype, shape)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != len(header) + math.prod(shape) * dtype.itemsize or file.read(len(header)) != header:
            raise ValueError("another array")
        return np.memmap(file, dtype, "r", len(header), shape)


def reserve(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Make the file with all its blocks: a disk that fills up later would kill who writes through a map.

    Raises:
        InputError: it cannot be written.
    """
    try:
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be written ({error.strerror}); set LABELFIX_CACHE to another"
        ) from None


def check_space(needed: int, folder: Path, what: str, way_out: str) -> None:
    """Refuse an array that would take more than a quarter of the free disk.

    Args:
        needed: bytes.
        folder: that is to hold it.
        what: it holds, in words.
        way_out: what makes it smaller, in words.

    Raises:
        InputError: it would.
    """
    limit = shutil.disk_usage(folder).free // 4
    if needed > limit:
        raise InputError(
            f"{what} needs {needed / 1e9:.3g} GB, more than a quarter of the free disk ({limit / 1e9:.3g} GB) in"
            f" {folder}; {way_out}, or set LABELFIX_CACHE to a folder on a larger disk"
        )


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    sink = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(sink, described)
    return sink.getvalue()

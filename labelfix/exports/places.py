"""Where an export goes: a new file or folder, whole or not at all, and never into the source."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelfix.corrections import Corrections
from labelfix.errors import InputError
from labelfix.exports.target import Target
from labelfix.originals import scanned_source
from labelfix.tables import atomic_path


def is_folder(target: Target, path: Path) -> bool:
    """Whether a target writes a folder at `path`, not a file."""
    return "" in target.SUFFIXES and path.suffix.lower() not in target.SUFFIXES[1:]


def checked_out(
    corrections: Corrections, targets: Mapping[str, Target], to: str, out: str | Path | None, source: Any
) -> Path:
    """Where the target `to` writes; by default beside the corrections.

    Args:
        corrections: that are exported.
        targets: all of them, by name.
        to: the name of one.
        out: as the user says.
        source: where the images are now, as the user says; None: where the run found them.

    Raises:
        InputError: a place of the wrong kind, one that holds something that is to stay, or one in the source.
    """
    target = targets[to]
    name = f"corrected-{to}" if target.SUFFIXES[0] == "" else f"corrected{target.SUFFIXES[0]}"
    out = corrections.path.parent / name if out is None else Path(out)
    _check_kind(target, to, out)
    for other, its in targets.items():
        if out.suffix and out.suffix.lower() in its.SUFFIXES and out.suffix.lower() not in target.SUFFIXES:
            raise InputError(f"--out {out} would hold {to}; add --to {other}, or choose another name")
    place = out.resolve()
    if place == corrections.path.resolve():
        raise InputError(f"--out {out} is the corrections file itself; choose another name")
    scanned = (
        Path(source).expanduser()
        if isinstance(source, str | os.PathLike)
        else scanned_source(corrections.path)
    )
    if scanned is not None and (
        place == scanned.resolve() or (scanned.is_dir() and place.is_relative_to(scanned.resolve()))
    ):
        raise InputError(
            f"--out {out} lies in the source {scanned}, where nothing is written; choose another"
        )
    return out


@contextmanager
def written(target: Target, path: Path) -> Iterator[Path]:
    """Yield a temporary file or folder for a target, and put it in its place at the end; on an error remove it.

    Raises:
        InputError: the disk is full.
    """
    try:
        with _new_folder(path) if is_folder(target, path) else atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"--out {path}: the disk is full; free some space, or choose another place"
        ) from None


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        # Once for all of them: flushing each of a million images by itself would take hours.
        os.sync()
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_kind(target: Target, to: str, out: Path) -> None:
    """Refuse a folder where a file goes, and the other way round; a folder has to be empty, so that nothing is lost."""
    if is_folder(target, out):
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"--out {out} is not empty; choose a new or empty folder")
        if out.exists() and not out.is_dir():
            raise InputError(f"--out {out} is a file, and {to} is a folder; choose a new or empty one")
    elif out.is_dir():
        name = f"corrected{target.SUFFIXES[-1]}"
        raise InputError(f"--out {out} is a folder; name a file in it, as in {out / name}")

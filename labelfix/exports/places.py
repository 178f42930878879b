"""Where an export goes: a new file or folder, whole or not at all, and never into the source."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelfix.atomic_files import atomic_path
from labelfix.errors import InputError
from labelfix.exports.base import Target
from labelfix.exports.known import is_known, remember
from labelfix.output_paths import check_place, naming
from labelfix.results.corrections import Corrections
from labelfix.results.protected_paths import check_protected


def is_folder(target: Target, path: Path) -> bool:
    """Whether a target writes a folder at `path`, not a file."""
    return "" in target.SUFFIXES and path.suffix.lower() not in target.SUFFIXES[1:]


def checked_out(
    corrections: Corrections,
    targets: Mapping[str, Target],
    to: str,
    out: str | Path | None,
    source: Any,
    decisions: str | Path | None,
    *,
    overwrite: bool,
) -> Path:
    """Where the target `to` writes; by default beside the corrections.

    Args:
        corrections: that are exported.
        targets: all of them, by name.
        to: the name of one.
        out: as the user says.
        source: where the images are now, as the user says; None: where the run found them.
        decisions: the file of a person's decisions.
        overwrite: whether a file there may be replaced that no export has written.

    Raises:
        InputError: a place of the wrong kind, one that holds something that is to stay, or one in the source.
    """
    target = targets[to]
    name = f"corrected-{to}" if target.SUFFIXES[0] == "" else f"corrected{target.SUFFIXES[0]}"
    out = corrections.path.parent / name if out is None else Path(out)
    with naming(out):
        _check_kind(targets[to], to, out)
        _check_ending(targets, to, out)
        check_protected(corrections, out, source, decisions)
        if out.is_file() and not (overwrite or is_known(out)):
            raise InputError(
                f"--out {out} is there already, and not as an export left it; use --overwrite to replace it, or"
                " another name"
            )
    return out


@contextmanager
def written(target: Target, path: Path) -> Iterator[Path]:
    """Yield a temporary file or folder for a target, and put it in its place at the end; on an error remove it.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    with (
        naming(path),
        _new_folder(path) if is_folder(target, path) else atomic_path(path) as temporary,
    ):
        yield temporary
        if temporary.is_file():
            remember(temporary)


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside the new one; inside of one that is there, which may be a disk or somebody's own."""
    path = path.resolve()
    is_there = path.is_dir()
    above = path if is_there else path.parent
    above.mkdir(parents=True, exist_ok=True)
    temporary = above / f".{path.name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        # Once for all of them: flushing each of a million images by itself would take hours.
        os.sync()
        if is_there:
            _move_entries(temporary, path)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_entries(temporary: Path, path: Path) -> None:
    """Put all that is in a temporary folder into the one around it, which is empty but for that, or nothing of it."""
    if os.listdir(path) != [temporary.name]:
        raise InputError(f"--out {path} is no more empty; choose a new or empty folder")
    moved: list[Path] = []
    try:
        for entry in sorted(temporary.iterdir()):
            moved.append(entry.rename(path / entry.name))
    except BaseException:
        for entry in moved:
            entry.rename(temporary / entry.name)
        raise


def _check_kind(target: Target, to: str, out: Path) -> None:
    """Refuse a folder where a file goes, and the other way round; a folder has to be empty, so that nothing is lost."""
    check_place(out)
    if is_folder(target, out):
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"--out {out} is not empty; choose a new or empty folder")
        if out.exists() and not out.is_dir():
            raise InputError(f"--out {out} is a file, and {to} is a folder; choose a new or empty one")
    elif out.is_dir():
        name = f"corrected{target.SUFFIXES[-1]}"
        raise InputError(f"--out {out} is a folder; name a file in it, as in {out / name}")


def _check_ending(targets: Mapping[str, Target], to: str, out: Path) -> None:
    """Refuse the extension of another format, and any but the own of a file: images and other data are to stay."""
    target, ending = targets[to], out.suffix.lower()
    if ending in target.SUFFIXES:
        return
    other = next((name for name, its in targets.items() if ending and ending in its.SUFFIXES), None)
    if other is not None:
        raise InputError(f"--out {out} would hold {to}; add --to {other}, or choose another name")
    if not is_folder(target, out):
        raise InputError(f"--out {out}: a file of {to} is called *{target.SUFFIXES[-1]}; choose such a name")

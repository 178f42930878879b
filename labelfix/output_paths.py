"""What may be written, for every command and for the cache: never the source, nor what a run is made of.

Places are compared by path and by inode, links resolved, so that another spelling, a link or a file system that does
not tell `A` from `a` opens no back door; also where nothing is there yet.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from labelfix.atomic_files import check_regular
from labelfix.errors import InputError
from labelfix.json_files import load_object

# What a scan makes in its run folder, and will make again: nothing else may lie there under these names.
FINDINGS = "corrections.parquet"
RUN_FILES = ("config.json", FINDINGS, "summary.json", "epochs.parquet")
RUN_FOLDERS = ("classifier", "checkpoint", ".checkpoint-done")
RUN_PARTS = (*RUN_FILES, *RUN_FOLDERS)
# Keys of the config.json of a run, by which its folder is known.
RUN_KEYS = {"config", "source", "environment"}
_LONGEST_NAME = 240  # bytes; with those of a temporary one it fits on all common file systems
_NOT_WRITABLE = (
    errno.EACCES,
    errno.EBUSY,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
    errno.EROFS,
)


def source_places(
    source: Path | None, root: Path, folders: Iterable[str], *, is_root_given: bool = False
) -> list[Path]:
    """The files and folders of a source, in which nothing is written: itself, and where its images lie.

    Where images lie in folders that have a folder in common, that one is kept too: `images/cat/1.png` and
    `images/dog/2.png` keep `images/` as it is; outside of the root that is the folder right above them. Only a folder
    that holds the manifest itself is left open, also where images lie beside it: somebody works there.

    Args:
        source: absolute path of the folder or manifest; None in memory, where one works in the current folder.
        root: that relative image paths start from, absolute.
        folders: the folder part of every image path, once each, relative to the root or absolute.
        is_root_given: whether the user named the root, which then belongs to the source.
    """
    by_top: dict[tuple[str, ...], list[Path]] = {}
    for folder in folders:
        if "\0" in folder:
            continue  # no folder at all; the row says so
        place = Path(os.path.normpath(root / folder))
        if place.is_relative_to(root):
            by_top.setdefault(place.parts[: len(root.parts) + 1], []).append(place)
        else:
            by_top.setdefault(place.parent.parts if _is_of_data(place.parent) else place.parts, []).append(
                place
            )
    places = {place for some in by_top.values() for place in some}
    places |= {Path(os.path.commonpath(some)) for some in by_top.values()}
    if is_root_given:
        places.add(root)
    if source is not None and source.is_dir():
        return [source, *sorted(places)]
    workplace = Path.cwd() if source is None else source.parent.resolve()
    closed = [place for place in sorted(places) if not workplace.is_relative_to(place.resolve())]
    return closed if source is None else [source, *closed]


def _is_of_data(folder: Path) -> bool:
    """Whether a folder can belong to a data set as a whole: no home, no disk and nothing at the top of one."""
    return len(folder.parts) > 2 and folder != Path.home() and not folder.is_mount()


def check_output(out: Path, sources: Mapping[str, Iterable[Path]] | None = None) -> None:
    """Refuse to write into a source or over a part of a run, whether or not anything is there yet.

    Args:
        out: a file or folder.
        sources: what each source is called in the message, and its places, see `source_places`.

    Raises:
        InputError: it lies in one of them, is one of them, or would be a part of a run.
    """
    for name, places in (sources or {}).items():
        place = holding(out, places)
        if place is not None:
            is_itself = identity(out) == identity(place) is not None
            lies = "is" if is_itself else "lies in"
            raise InputError(
                f"--out {out} {lies} {name} {place}, where nothing is written; choose another place"
            )
    for place in _itself_and_above(out):
        if place.name.casefold() in RUN_PARTS and is_run(place.parent):
            raise InputError(f"--out {out} would write over {place} of the run; choose another name")


def holding(out: Path, places: Iterable[Path]) -> Path | None:
    """The first of some places that is `out` or holds it; None where it lies outside of them all."""
    above = _itself_and_above(out)
    identities = {identity(place) for place in above} - {None}
    for place in places:
        if Path(os.path.realpath(place)) in above or identity(place) in identities:
            return place
    return None


def is_run(folder: Path) -> bool:
    """Whether a folder is one that a scan has written to: by the findings or the config.json in it."""
    if (folder / FINDINGS).is_file():
        return True
    try:
        config = load_object(folder / "config.json", {})
    except (OSError, ValueError):
        return False
    return config.keys() >= RUN_KEYS


def check_parts(folder: Path, names: Iterable[str], *, are_folders: bool) -> None:
    """Refuse parts of a folder of ours that are of another kind than what is going to be written there.

    Raises:
        InputError: names the part.
    """
    for name in names:
        part = folder / name
        if part.exists() and (not part.is_dir() if are_folders else not part.is_file()):
            kind = "folder" if are_folders else "regular file"
            raise InputError(f"{part} is no {kind}, as it is in a run; move it, or choose another --out")


def check_no_links(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder of ours in which a part is a link: what it leads to is not ours to empty or replace.

    Raises:
        InputError: names the link.
    """
    for name in names:
        if (folder / name).is_symlink():
            raise InputError(
                f"{folder / name} is a link, and labelfix writes and deletes only what is its own; put the real"
                f" {name} in its place, or choose another --out"
            )


def check_place(out: Path) -> None:
    """Refuse a place where nothing can be made, whatever it would be.

    Raises:
        InputError: a name that is too long, a file among the folders above, or a device, FIFO or socket.
    """
    if len(os.fsencode(out.name)) > _LONGEST_NAME:
        raise InputError(f"--out {out}: the name has more than {_LONGEST_NAME} bytes; choose a shorter one")
    above = next((folder for folder in out.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"--out {out}: {above} is no folder; choose another place")
    check_regular(out)


def check_no_folder(out: Path, way_out: str) -> None:
    """Refuse a folder where a file goes.

    Raises:
        InputError: ends with `way_out`.
    """
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; {way_out}")


def check_no_file(out: Path, way_out: str = "choose a folder") -> None:
    """Refuse what is no folder where a folder goes.

    Raises:
        InputError: ends with `way_out`.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; {way_out}")


def check_new(out: Path, complaint: str, *, overwrite: bool) -> None:
    """Refuse to replace a file without `overwrite`.

    Raises:
        InputError: it is there; ends with `complaint`.
    """
    if out.exists() and not overwrite:
        raise InputError(f"--out {out} {complaint}")


@contextmanager
def naming(out: Path) -> Iterator[None]:
    """Say what is wrong with `out` in a line.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"--out {out}: the disk is full; free some space, or choose another place"
            ) from None
        if error.errno in _NOT_WRITABLE or (error.errno == errno.ENOENT and _is_there(error, out)):
            raise InputError(
                f"--out {out} cannot be written ({error.strerror}); choose another place"
            ) from None
        raise


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or folder from all others, whatever it is called; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _itself_and_above(path: Path) -> set[Path]:
    """A path and all folders above it, links resolved; where it is a link, both what it is and what it leads to."""
    beside = path.parent.resolve() / path.name
    place = path.resolve()
    return {place, *place.parents, beside, *beside.parents}


def _is_there(error: OSError, out: Path) -> bool:
    """Whether an error is about something at a place or above it, and not about what is read for it."""
    if not isinstance(error.filename, str):
        return False
    place = out.resolve()
    return Path(error.filename).parent.resolve() in (place, *place.parents)

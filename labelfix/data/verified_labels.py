"""Trusted: labels that a person has verified, from the column is_trusted and from a --trusted file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.manifest import Manifest
from labelfix.data.readers.annotations import FIFTYONE_LABELS
from labelfix.data.readers.several_labels import labels_in
from labelfix.data.tables import TABLES, check_table, text_columns
from labelfix.errors import InputError
from labelfix.output_paths import FINDINGS

MIN_DIFFERENT = 20  # verified labels that differ from the given ones, from which half of the file is scored
SEPARATOR = ";"  # between the labels of a row in decisions, and where a source names no other
SKIP, REMOVE, PARTLY = "skip", "remove", "partly"
DECISIONS = ("accept", "keep", "change", REMOVE, SKIP)
DECISIONS_ON_LISTS = (*DECISIONS, PARTLY)
"""Where a row may have several labels; `partly`: of its suggested changes only some are decided on."""


_COLUMNS = ("sample_id", "file_name", "label", "decision", "review_status")
_FINDINGS = ("file_name", "corrected_label", "is_trusted")
_WHOLE = re.compile(r"([0-9]{1,18})(?:\.0+)?")


@dataclass(frozen=True, eq=False)
class Trusted:
    """Verified labels, row by row of a manifest.

    Attributes:
        label: (N,) int64 verified class index, -1 where the row is not trusted; read-only.
        is_scored: (N,) bool, trusted rows that are treated as ordinary rows with their given label, so that
            findings can be checked on them; read-only. Where 20 or more rows of the file differ from their given
            label, and checking is wanted, these are its 2nd, 4th, ... row of each verified class by sample_id, among
            those that have a given label and are trained on; else none.
        sha256: hexadecimal SHA-256 of the --trusted file; "" without one.
        removed: (N,) bool, rows that no label fits: a person wants them out of the data; read-only.
        targets: (N, K) float32, 1 for the verified labels of a row and 0 for the others where it may have several, NaN
            rows that are not trusted; `label` then only says by -1 which those are. None for one label a row.
    """

    label: np.ndarray
    is_scored: np.ndarray
    sha256: str
    removed: np.ndarray
    targets: np.ndarray | None = None

    @classmethod
    def of(cls, manifest: Manifest, path: str | Path | None, *, check: bool = True) -> Trusted:
        """The trusted rows of a manifest: those it marks itself, and those of a --trusted file, which outranks it.

        Args:
            manifest: the source.
            path: .csv, .tsv, .jsonl, .json or .parquet with `sample_id` or `file_name`, `label`, and maybe `decision`:
                accept, keep and change count, remove takes the row out, skip and partly do nothing. Rows join by
                sample_id where that column is there. Rows beyond the manifest's `limit` are skipped. Also an export of
                Label Studio, FiftyOne or cleanlab, or a run, whose verified rows count. None: no file.
            check: whether findings are to be checked on a part of the file, see `is_scored`.

        Raises:
            InputError: anything wrong with the file or one of its rows; says the way out.
        """
        label = np.where(manifest.is_trusted, manifest.given, -1)
        is_scored, removed = (np.zeros(manifest.num_rows, bool) for _ in range(2))
        sha256, targets = "", None if manifest.targets is None else manifest.targets.copy()
        if path is not None:
            file = verified_file(Path(os.path.abspath(Path(path).expanduser())))
            sha256 = sha256_of(file, "--trusted")
            rows, verified, those, states = _read(file, manifest)
            label[rows] = verified
            removed[those], label[those] = True, -1
            if targets is not None:
                targets[rows] = states
            if check and targets is None:
                is_scored[scored_rows(rows, verified, manifest.given, manifest.held_out)] = True
            elif check:
                is_scored[_scored_lists(rows, states, manifest)] = True
        if targets is not None:
            targets = np.where((label >= 0)[:, None], targets, np.float32("nan"))
        label.flags.writeable = is_scored.flags.writeable = removed.flags.writeable = False
        return cls(label, is_scored, sha256, removed, targets)


def _read(path: Path, manifest: Manifest) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the manifest and their verified classes, both (n,) int64; the rows that are to be removed (m,).

    And (n, K) bool which classes they have, of several labels a row; of those the classes only say that there are some.
    """
    known = Known(
        str(manifest.source),
        manifest.class_names,
        manifest.file_names(),
        manifest.name_of,
        is_cut=manifest.limit == manifest.num_rows,
        class_map=manifest.class_map,
        separators=()
        if manifest.task == "single"
        else tuple(dict.fromkeys([manifest.options.get("label_separator") or SEPARATOR, SEPARATOR])),
    )
    found = read_verified(path, known)
    counts, removed = (found.labels >= 0) & ~found.is_decided(PARTLY), found.is_decided(REMOVE)
    if not (counts.any() or removed.any()):
        some = f"none of its rows is among the first {manifest.limit} of {manifest.source}; raise --rows"
        none = "it holds no row that counts; leave out --trusted"
        raise InputError(f"{path} verifies nothing: {some if found.num_left_out else none}")
    return found.rows[counts], found.labels[counts], found.rows[removed], found.states[counts]


def _scored_lists(rows: np.ndarray, states: np.ndarray, manifest: Manifest) -> np.ndarray:
    """As `scored_rows`, of verified states (n, K) bool: every second row, where 20 or more rows have a wrong label."""
    assert manifest.targets is not None
    labelled = manifest.given[rows] >= 0
    wrong = ((np.nan_to_num(manifest.targets[rows]) >= 0.5) != states).any(axis=1)
    if (labelled & wrong).sum() < MIN_DIFFERENT:
        return np.empty(0, np.int64)
    return np.sort(rows[labelled & ~manifest.held_out[rows]])[1::2]


def scored_rows(
    rows: np.ndarray, verified: np.ndarray, given: np.ndarray, held_out: np.ndarray
) -> np.ndarray:
    """Rows among `rows` that are treated as ordinary ones, see `Trusted.is_scored`.

    Args:
        rows: (n,) int64, those with a verified label.
        verified: (n,) int64, these labels.
        given: (N,) int64 given labels of all rows, -1 for none.
        held_out: (N,) bool, rows that are never trained on.
    """
    labels = given[rows]
    if ((labels >= 0) & (labels != verified)).sum() < MIN_DIFFERENT:
        return np.empty(0, np.int64)
    usable = (labels >= 0) & ~held_out[rows]
    by_class = [np.sort(rows[usable & (verified == label)])[1::2] for label in np.unique(verified)]
    return np.concatenate(by_class)


@dataclass(frozen=True)
class Known:
    """The rows that a verified file may speak of.

    Attributes:
        title: what messages call them.
        class_names: that its labels must be among.
        file_names: string (N,).
        name_of: the file name that a path of the source has.
        is_cut: whether there may be rows beyond these; lines about those are left out.
        class_map: the class that a label stands for which is called otherwise.
        separators: what may stand between the labels of a row, the source's own sign first; none for one label a row.
    """

    title: str
    class_names: tuple[str, ...]
    file_names: pa.ChunkedArray
    name_of: Callable[[str], str]
    is_cut: bool = False
    class_map: Mapping[str, str] = field(default_factory=dict)
    separators: tuple[str, ...] = ()

    def class_of(self, label: str) -> str:
        """The name that a label goes by."""
        return self.class_map.get(label, label)


@dataclass(frozen=True)
class Verified:
    """The lines of a verified file, one per row that it speaks of, in the order of the file.

    Attributes:
        rows: (n,) int64, rows of what is known.
        labels: (n,) int64 class index, -1 where the decision is to skip or to remove.
        decisions: (n,) of `DECISIONS_ON_LISTS`; None for a file without that column.
        lines: (n,) the row of the file, from 0.
        num_left_out: how many lines are about rows beyond those known.
        states: (n, K) bool, which classes the rows have; where they have one label, that.
    """

    rows: np.ndarray
    labels: np.ndarray
    decisions: list[str] | None
    lines: list[int]
    num_left_out: int
    states: np.ndarray

    def is_decided(self, decision: str) -> np.ndarray:
        """(n,) bool: the lines with this decision."""
        decisions = self.decisions if self.decisions is not None else [""] * len(self.rows)
        return np.array([one == decision for one in decisions], bool)


def sha256_of(path: Path, option: str) -> str:
    """SHA-256 (hex) of a verified file.

    Raises:
        InputError: no such file, or of no supported kind; begins with the option.
    """
    if path.suffix.lower() != ".npy":
        check_table(path, option)
    if not path.exists():
        raise InputError(f"{option} {path} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"{option} {path} is no regular file; name one of {TABLES}")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{option} {path} cannot be read: {error.strerror}") from None


def read_verified(path: Path, known: Known) -> Verified:
    """Read a verified file: `label`, `sample_id` or `file_name` (the first counts), and maybe `decision`.

    Raises:
        InputError: anything wrong with the file or one of its rows; says the way out.
    """
    entries = _entries(path, lists=bool(known.separators))
    places = _by_name(entries, known) if entries.sample_ids is None else _by_id(entries, known)
    index = {name: number for number, name in enumerate(known.class_names)}
    found: dict[int, int] = {}
    labels, states = np.full(len(places), -1), np.zeros((len(places), len(index)), bool)
    for entry, place in enumerate(places.tolist()):
        if place < 0:
            continue
        classes = _labels(entries, entry, index, known)
        states[entry, classes or []] = True
        # Of several labels, or none of the classes, it only matters that they are known.
        labels[entry] = -1 if classes is None else (classes[0] if classes else 0)
        first = found.setdefault(place, entry)
        if entries.verdict_of(first) != entries.verdict_of(entry):
            row, other = entries.lines[first], entries.lines[entry]
            raise InputError(
                f"{path}: rows {row} and {other} give one sample two labels or decisions,"
                f" {entries.shown(first)} and {entries.shown(entry)}; keep one"
            )
    kept = np.array(list(found.values()), np.int64)
    decisions = None if entries.decisions is None else [entries.decisions[entry] for entry in kept]
    lines = [entries.lines[entry] for entry in kept]
    return Verified(places[kept], labels[kept], decisions, lines, int((places < 0).sum()), states[kept])


@dataclass(frozen=True)
class _Entries:
    """The lines of a file as they stand there; text, None where empty, and None without the column."""

    path: Path
    lines: list[int]
    labels: list[str | None]
    decisions: list[str] | None
    sample_ids: list[str | None] | None
    file_names: list[str | None] | None

    def has_no_label(self, entry: int) -> bool:
        """Whether the decision of a line gives its row no label."""
        return self.decisions is not None and self.decisions[entry] in (SKIP, REMOVE)

    def verdict_of(self, entry: int) -> tuple[str | None, str | None]:
        """Decision and label of a line; those who skip or remove a row may write what they like beside it."""
        decision = None if self.decisions is None else self.decisions[entry]
        return decision, None if self.has_no_label(entry) else self.labels[entry]

    def shown(self, entry: int) -> str:
        decision, label = self.verdict_of(entry)
        return " ".join([*filter(None, [decision]), *([] if self.has_no_label(entry) else [repr(label)])])


def _entries(path: Path, *, lists: bool) -> _Entries:
    names, cells = _columns(path, lists=lists)
    allowed = DECISIONS_ON_LISTS if lists else DECISIONS
    there = ", ".join(map(repr, names)) or "none"
    if "label" not in cells:
        raise InputError(f"{path}: no column 'label'; its columns are {there}: name the verified labels so")
    if not {"sample_id", "file_name"} & set(cells):
        raise InputError(
            f"{path}: no column 'sample_id' or 'file_name'; its columns are {there}: add one of the two"
        )
    texts = {name: column.to_pylist() for name, column in cells.items()}
    labels = [(text or "").strip() or None for text in texts["label"]]
    decisions = None
    if "decision" in texts:
        decisions = [(text or "").strip().lower() for text in texts["decision"]]
    elif "review_status" in texts:
        # Of an export with decisions: rows that nobody has looked at have none.
        decisions = [(text or "").strip().lower() or SKIP for text in texts["review_status"]]
    for row, decision in enumerate(decisions or ()):
        if decision not in allowed:
            raise InputError(
                f"{path}: row {row} has the decision {decision!r}; write one of {', '.join(allowed)}"
            )
    lines = list(range(len(labels)))
    return _Entries(path, lines, labels, decisions, texts.get("sample_id"), texts.get("file_name"))


def _columns(path: Path, *, lists: bool) -> tuple[list[str], dict[str, pa.Array]]:
    """The columns of a verified file, those of a run and of an export for cleanlab under the names that others have."""
    if path.suffix.lower() == ".npy":
        return _cleanlab_columns(path.parent)
    names, cells = text_columns(path, _COLUMNS, "--trusted", lists=lists)
    if "label" in cells or not set(_FINDINGS) <= set(names):
        return names, cells
    _, found = text_columns(path, _FINDINGS, "--trusted", lists=lists)
    is_trusted = pc.equal(found["is_trusted"], "true")
    decision = pc.if_else(is_trusted, pa.scalar("change"), pa.scalar(SKIP))
    return names, {"file_name": found["file_name"], "label": found["corrected_label"], "decision": decision}


def _cleanlab_columns(folder: Path) -> tuple[list[str], dict[str, pa.Array]]:
    try:
        rows, labels = (np.load(folder / f"{name}.npy") for name in ("sample_ids", "corrected_labels"))
        names = json.loads((folder / "class_names.json").read_text(encoding="utf-8"))
        texts = pa.array(names, pa.string()).take(pa.array(labels))
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise InputError(
            f"{folder} cannot be read as an export for cleanlab ({error}); export it again"
        ) from None
    return ["sample_id", "label"], {"sample_id": pa.array(rows).cast(pa.string()), "label": texts}


def verified_file(path: Path) -> Path:
    """The file that holds the labels of a folder: of a run, or an export to FiftyOne or cleanlab; a file is itself."""
    for name in (FINDINGS, FIFTYONE_LABELS, "corrected_labels.npy"):
        if path.is_dir() and (path / name).is_file():
            return path / name
    return path


def _labels(entries: _Entries, entry: int, index: dict[str, int], known: Known) -> list[int] | None:
    """Class indices of a line, one unless there may be several; None where it is skipped or removed."""
    label = entries.labels[entry]
    if entries.has_no_label(entry):
        return None
    if not known.separators or (label is None and entries.decisions is None):
        return [_label(entries, label, entry, index, known)]
    # What labelfix writes has its own separator whatever the source's is.
    separators = known.separators if entries.decisions is None else known.separators[::-1]
    # Who decided on a row and left it no label has said that it is none of the classes.
    ways = [_parts(label or "", separator, index) for separator in separators]
    first = next((parts for parts in ways if all(known.class_of(part) in index for part in parts)), ways[0])
    return [_label(entries, part, entry, index, known) for part in first]


def _parts(text: str, separator: str, index: dict[str, int]) -> list[str]:
    """The labels of a text without blanks around them, but for a class that has some."""
    parts = (part if part in index else part.strip() for part in labels_in(text, separator))
    return [part for part in parts if part]


def _label(entries: _Entries, label: str | None, entry: int, index: dict[str, int], known: Known) -> int:
    """Class index of a label."""
    row = entries.lines[entry]
    if label is None:
        raise InputError(f"{entries.path}: row {row} has no label; give it one, or take the row out")
    label = known.class_of(label)
    if label not in index:
        raise InputError(
            f"{entries.path}: row {row} has the label {label!r}, which is no class of {known.title}"
            f" ({_shown(known.class_names)}); correct it, or take the row out"
        )
    return index[label]


def _by_id(entries: _Entries, known: Known) -> np.ndarray:
    """(n,) int64 row for each line; -1 beyond what is known."""
    assert entries.sample_ids is not None
    path, last = entries.path, len(known.file_names) - 1
    places = np.empty(len(entries.lines), np.int64)
    for entry, (row, text) in enumerate(zip(entries.lines, entries.sample_ids, strict=True)):
        number = _WHOLE.fullmatch((text or "").strip())
        place = int(number[1]) if number else -1
        if number is None or (place > last and not known.is_cut):
            raise InputError(
                f"{path}: row {row} has the sample_id {text or ''!r}; {known.title} has the rows 0 to {last}"
            )
        places[entry] = place if place <= last else -1
    if entries.file_names is not None:
        _check_names(entries, places, known)
    return places


def _check_names(entries: _Entries, places: np.ndarray, known: Known) -> None:
    """Refuse a sample_id whose row has another file name than the file says."""
    assert entries.file_names is not None
    names = known.file_names.take(pa.array(places, mask=places < 0)).to_pylist()
    for row, place, name, written in zip(entries.lines, places, names, entries.file_names, strict=True):
        # A labelling tool serves the images below a folder of its own.
        served = entries.path.suffix.lower() == ".json" and (written or "").endswith(f"/{name}")
        if place >= 0 and written and written != name and known.name_of(written) != name and not served:
            raise InputError(
                f"{entries.path}: row {row} says {written!r}, but sample_id {place} of {known.title} is"
                f" {name!r}; is it of another source? Correct one, or take one of the two columns out"
            )


def _by_name(entries: _Entries, known: Known) -> np.ndarray:
    """(n,) int64 row for each line; -1 where its name is beyond what is known."""
    assert entries.file_names is not None
    path = entries.path
    for row, name in zip(entries.lines, entries.file_names, strict=True):
        if not name:
            raise InputError(f"{path}: row {row} has no file_name; give it one, or take the row out")
    names = [name for name in entries.file_names if name]
    plain = [known.name_of(name) for name in names]
    found = _find({*names, *plain}, known.file_names)
    if path.suffix.lower() == ".json":
        # A labelling tool serves the images below a folder of its own.
        ends = {name: list(_ends(name)) for name in names if name not in found}
        others = _find({end for some in ends.values() for end in some}, known.file_names)
        for name, some in ends.items():
            longest = next((end for end in some if end in others), None)
            if longest is not None:
                found[name] = others[longest]
    places = np.empty(len(names), np.int64)
    for entry, (row, name, other) in enumerate(zip(entries.lines, names, plain, strict=True)):
        place, count = found.get(name) or found.get(other) or (-1, 0)
        if count > 1:
            raise InputError(
                f"{path}: row {row}: {count} rows of {known.title} are called {name!r}; name rows by sample_id"
            )
        if count == 0 and not known.is_cut:
            raise InputError(
                f"{path}: row {row}: {known.title} has no {name!r}; write file names as they stand in"
                " corrections.parquet, or name rows by sample_id"
            )
        places[entry] = place
    return places


def _ends(name: str) -> Iterator[str]:
    """A path, and what is left of it below each of its folders."""
    parts = name.split("/")
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _find(wanted: set[str], file_names: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """The last row that has each name, and how many have it; names that none has are left out."""
    names = pa.array(sorted(wanted), pa.string())
    last, count = np.full(len(names), -1), np.zeros(len(names), np.int64)
    start = 0
    for chunk in file_names.chunks:
        place = pc.fill_null(pc.index_in(chunk, value_set=names), -1).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(place >= 0)
        last[place[rows]] = start + rows
        count += np.bincount(place[rows], minlength=len(names))
        start += len(chunk)
    found = zip(names.to_pylist(), last.tolist(), count.tolist(), strict=True)
    return {name: (row, times) for name, row, times in found if times}


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")

"""The run folder: what stands where, who may write there, and whether a run is finished.

A run is unfinished while `checkpoint/` is there. A lock on the folder itself keeps two scans out of each other's way;
the system lets go of it when its process dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelfix.atomic_files import disk_error, write_json
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.errors import InputError, LabelfixError
from labelfix.networks.encoders import is_encoder
from labelfix.output_paths import (
    RUN_FILES,
    RUN_FOLDERS,
    RUN_PARTS,
    check_no_file,
    check_no_links,
    check_parts,
    check_place,
)
from labelfix.results import corrections
from labelfix.results.run_json import read_scan

_DONE = ".checkpoint-done"
# A scan that was just killed takes a moment to give back its memory, and holds its folder until then.
WAIT_SECONDS = 5.0
_CHECKPOINT = re.compile(r"[0-9]{9}\.(json|safetensors)|\.[0-9]{9}\.(json|safetensors)\..*\.tmp")
_FOLD = re.compile(r"fold-([a-z-]+-)?[0-9]+")
_CLASSIFIER_PARTS = ("classifier/model.safetensors", "classifier/classifier.json", "classifier/README.md")
# A person changes data, not a fingerprint.
_MEANT = {
    "fingerprint": "set of images or labels in SOURCE",
    "marks_sha256": "is_trusted, split or group column in SOURCE",
    "trusted_sha256": "--trusted file",
    "test_fingerprint": "set of images or labels in --test",
    "candidates": "settings of the methods that are compared",
}


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def corrections(self) -> Path:
        """The findings."""
        return self.path / corrections.FILE_NAME

    @property
    def classifier(self) -> Path:
        """Folder of the trained classifier."""
        return self.path / "classifier"

    @property
    def card(self) -> Path:
        """The model card, by the name under which the Hugging Face hub shows it."""
        return self.classifier / "README.md"

    @property
    def summary(self) -> Path:
        """Counts, noise rate, transition matrix, seconds."""
        return self.path / "summary.json"

    @property
    def epochs(self) -> Path:
        """A row per epoch."""
        return self.path / "epochs.parquet"

    @property
    def config(self) -> Path:
        """Everything needed to run it again."""
        return self.path / "config.json"

    @property
    def checkpoint(self) -> Path:
        """Exists while the run is unfinished."""
        return self.path / "checkpoint"

    @property
    def is_finished(self) -> bool:
        """True when the findings are complete."""
        return self.corrections.is_file() and not self.checkpoint.exists()

    def finish(self) -> None:
        """Mark the run as finished: one rename, so that no kill leaves half a checkpoint in force."""
        _remove_checkpoints(self.path / _DONE)
        os.replace(self.checkpoint, self.path / _DONE)
        _remove_checkpoints(self.path / _DONE)

    def saved_config(self) -> dict[str, Any] | None:
        """The config.json of an earlier start; None where there is none, or one that labelfix did not write.

        Raises:
            InputError: it was changed to what labelfix does not write.
        """
        return read_scan(self.config)

    def clear(self) -> None:
        """Remove the results and checkpoints of an earlier run, nothing else; its config marks the folder as ours."""
        for path in (self.corrections, self.summary, self.epochs, *self._parts()):
            path.unlink(missing_ok=True)
        _remove_checkpoints(self.checkpoint)

    def check_checkpoints(self) -> None:
        """Refuse folders of checkpoints that hold what a scan did not write: they are emptied at its end.

        Raises:
            InputError: names it.
        """
        for folder in (self.checkpoint, self.path / _DONE):
            for path in _checkpoint_parts(folder).foreign:
                raise InputError(
                    f"{path} is no checkpoint of labelfix, and would lie in the way; move it, or choose another --out"
                )

    def sweep(self) -> None:
        """Remove what a kill left behind: temporary files, and the checkpoints of a finished run."""
        _remove_checkpoints(self.path / _DONE)
        for path in (self.corrections, self.summary, self.epochs, self.config, *self._parts()):
            for left in path.parent.glob(f".{path.name}.*.tmp"):
                if left.is_file():
                    left.unlink()

    def _parts(self) -> tuple[Path, ...]:
        """What a scan writes into the folder of the classifier."""
        return self.classifier / "model.safetensors", self.classifier / "classifier.json", self.card


class _CheckpointParts(NamedTuple):
    """What lies in a folder of checkpoints and in those of its folds; folders come after what is in them."""

    files: list[Path]
    folders: list[Path]
    foreign: list[Path]


def _checkpoint_parts(folder: Path, *, is_fold: bool = False) -> _CheckpointParts:
    parts = _CheckpointParts([], [], [])
    if not folder.is_dir() or folder.is_symlink():
        return parts
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.is_file(follow_symlinks=False) and _CHECKPOINT.fullmatch(entry.name):
            parts.files.append(path)
        elif not is_fold and entry.is_dir(follow_symlinks=False) and _FOLD.fullmatch(entry.name):
            for found, its in zip(parts, _checkpoint_parts(path, is_fold=True), strict=True):
                found.extend(its)
        else:
            parts.foreign.append(path)
    parts.folders.append(folder)
    return parts


def _remove_checkpoints(folder: Path) -> None:
    """Remove our own files, by their names, and the folders that are empty then."""
    parts = _checkpoint_parts(folder)
    for path in parts.files:
        path.unlink()
    for path in parts.folders:
        if not any(path.iterdir()):
            path.rmdir()


def check_out(folder: RunFolder, *, overwrite: bool) -> None:
    """Refuse an output folder that a scan must not write to, wherever it lies.

    Raises:
        InputError: a file, somebody else's folder, one with parts that are links or hold what is not ours, or a
            finished run without `overwrite`.
    """
    out = folder.path
    check_no_file(out)
    check_place(out)
    if out.is_dir() and folder.saved_config() is None and _holds_more_than_a_half_written_config(out):
        raise InputError(
            f"--out {out} holds files that are no run of labelfix; choose an empty or new folder"
        )
    check_no_links(out, RUN_PARTS)
    check_parts(out, RUN_FOLDERS, are_folders=True)
    check_parts(out, (*RUN_FILES, *_CLASSIFIER_PARTS), are_folders=False)
    folder.check_checkpoints()
    if folder.is_finished and not overwrite:
        raise InputError(f"{out} holds a finished run; use --overwrite to replace it, or another --out")


def config_json(
    config: Mapping[str, Any],
    asked: Mapping[str, str],
    manifest: Manifest,
    trusted: Trusted,
    trusted_path: Path | None,
    test: Manifest | None,
    environment: Mapping[str, Any],
    encoder_trial: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of config.json; JSON-able.

    Args:
        config: the options, resolved; JSON-able.
        asked: options that may be `auto`, as they were given.
        manifest: of the source.
        trusted: its verified labels.
        trusted_path: of their file, absolute; None without one.
        test: labelled images that are only measured on; None without any.
        environment: see `labelfix.config.environment`.
        encoder_trial: what a trial said of `--encoder auto`, JSON-able; None without one.
    """
    return {
        "config": config,
        "asked": asked,
        "source": {
            **manifest.options,
            "in_memory": manifest.options["source"] is None,
            "fingerprint": manifest.fingerprint,
            "marks_sha256": _marks_sha256(manifest),
            "trusted_sha256": trusted.sha256,
            "test_fingerprint": test.fingerprint if test is not None else None,
        },
        # Where they lie does not matter when a run is resumed, what they hold does.
        "files": {
            "image_key": manifest.image_key,
            "num_links": manifest.num_links,
            "num_linked_folders": manifest.num_linked_folders,
            "trusted": None if trusted_path is None else str(trusted_path),
            "test": None if test is None else test.options,
        },
        "environment": environment,
        "encoder_trial": encoder_trial,
    }


def _marks_sha256(manifest: Manifest) -> str:
    """SHA-256 (hex) of the columns is_trusted, split and group, which no fingerprint covers; empty without any."""
    groups = np.empty(0, np.int64) if manifest.groups is None else manifest.groups
    if not (manifest.is_trusted.any() or manifest.held_out.any() or len(groups)):
        return ""
    parts = (manifest.is_trusted, manifest.held_out, groups)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@contextmanager
def locked(folder: RunFolder, facts: dict[str, Any], *, overwrite: bool) -> Iterator[Callable[[], bool]]:
    """Keep the folder for one scan, after checking that this scan may write there.

    Nothing in the folder changes until the scan calls what is yielded: first it should have found its options to
    work. Empty folders that were made for nothing are removed again.

    Args:
        folder: of the run.
        facts: config.json of this scan: `config`, `source` and `environment`.
        overwrite: whether a finished or different run may be replaced.

    Yields:
        `begin()`, which resumes the run that is there or clears the folder for a new one, and returns True when it is
        resumed on another device, with other packages or another thread count, so that its bytes may differ.

    Raises:
        InputError: as `check_out`; the folder cannot be made; another scan is writing here, also after some seconds;
            the unfinished run has other options.
        LabelfixError: inside, the disk was full or could not be written.
    """
    check_out(folder, overwrite=overwrite)
    made = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {folder.path} cannot be made ({error.strerror}); choose a folder that you may write to"
        ) from None
    lock = os.open(folder.path, os.O_RDONLY)
    try:
        _wait_for(lock, folder.path)
        check_out(folder, overwrite=overwrite)  # again: what was there at the first check may have finished
        saved = resumed(folder, facts, overwrite=overwrite)
        with _plain_disk_errors():
            yield lambda: _begin(folder, facts, saved)
    finally:
        os.close(lock)
        for path in made:
            if not any(path.iterdir()):
                path.rmdir()


def resumed(folder: RunFolder, facts: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """The config.json of the unfinished run that a scan goes on with; None where it starts anew.

    Args:
        folder: of the run.
        facts: config.json of this scan.
        overwrite: whether a finished or different run may be replaced.

    Raises:
        InputError: the unfinished run has other options, and may not be replaced.
    """
    saved = None if folder.is_finished else folder.saved_config()
    changed = [] if saved is None else changes(saved, facts)
    if changed and not overwrite:
        raise InputError(
            f"{folder.path} holds an unfinished run with another {', '.join(changed)}; "
            "give the same options to resume it, or --overwrite to start anew"
        )
    return None if changed else saved


def _wait_for(lock: int, path: Path) -> None:
    """Take the lock of a folder, a few seconds later where another process still has it."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                raise InputError(
                    f"{path}: another scan is writing here; wait for it, or use another --out"
                ) from None
            time.sleep(0.1)
        else:
            return


@contextmanager
def _plain_disk_errors() -> Iterator[None]:
    """A disk that is full, or may not be written, in one line that says how to go on."""
    try:
        yield
    except OSError as error:
        if disk_error(error) is None or error.filename is None:
            raise
        raise LabelfixError(
            f"{error.filename} cannot be written ({error.strerror}); what was done so far is saved: make room, or see"
            " to the permissions, and give the same command to go on"
        ) from error


def _holds_more_than_a_half_written_config(out: Path) -> bool:
    return any(not path.match(".config.json.*.tmp") for path in out.iterdir())


def resolved_autos(folder: RunFolder) -> dict[str, Any]:
    """What `auto` was resolved to in an unfinished run, by option, so that it means the same on another machine."""
    saved = folder.saved_config()
    if saved is None or folder.is_finished:
        return {}
    asked = saved.get("asked") or {}
    names = ("image_size", "backbone", "tune")
    # A run of before encoders does not say what was tuned.
    found = {
        name: saved["config"][name]
        for name in names
        if asked.get(name) == "auto" and saved["config"].get(name) is not None
    }
    if asked.get("encoder", "auto") == "auto":
        backbone = saved["config"]["backbone"]
        found["encoder"] = backbone if is_encoder(backbone) else "none"
    return found


def _begin(folder: RunFolder, facts: dict[str, Any], saved: dict[str, Any] | None) -> bool:
    folder.sweep()
    if saved is None:
        folder.clear()
        saved = facts
    is_other_environment = _is_other_environment(saved, facts)
    # In this order: without its config a folder with a checkpoint/ could be anybody's.
    write_json(folder.config, {**facts, "resumed_elsewhere": is_other_environment})
    folder.checkpoint.mkdir(exist_ok=True)
    return is_other_environment


def changes(saved: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What two scans have different, as a person calls it; where they happen may differ.

    Args:
        saved: `config` and `source` of the one, as config.json has them.
        facts: the same of the other.
    """
    # Of another method every setting is another.
    is_same = saved["config"].get("method") == facts["config"].get("method")
    before, now = (_options(each, with_settings=is_same) for each in (saved, facts))
    if saved["config"]["device"] != facts["config"]["device"]:
        # Another device may bring another precision with it.
        before["precision"] = now["precision"]
    different = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return [_MEANT.get(name, name) for name in different]


def _options(facts: Mapping[str, Any], *, with_settings: bool = True) -> dict[str, Any]:
    # Through JSON, so that tuples and lists compare equal.
    plain = json.loads(json.dumps({name: facts[name] for name in ("config", "source")}))
    config = plain["config"]
    settings = config["settings"] if with_settings else {}
    options = {**config, **settings, **(config.get("thresholds") or {}), **plain["source"]}
    # What a probe is follows from the other options; a run of an older version has none, and goes on with one.
    unasked = ["settings", "thresholds", "device", "probe"]
    for name in unasked + ([] if with_settings else ["candidates", "preset"]):
        options.pop(name, None)
    return options


def _is_other_environment(saved: dict[str, Any], facts: dict[str, Any]) -> bool:
    if saved.get("resumed_elsewhere"):
        return True
    before, now = json.loads(json.dumps(saved)), json.loads(json.dumps(facts))
    if before["environment"] != now["environment"]:
        return True
    return any(before["config"][name] != now["config"][name] for name in ("device", "precision"))

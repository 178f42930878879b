"""The run folder: what stands where, who may write there, and whether a run is finished.

A run is unfinished while `checkpoint/` is there. A lock in it keeps two scans from writing the same folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelfix import corrections
from labelfix.errors import InputError
from labelfix.tables import write_json

_DONE = ".checkpoint-done"


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
        done = self.path / _DONE
        shutil.rmtree(done, ignore_errors=True)
        os.replace(self.checkpoint, done)
        shutil.rmtree(done)

    def saved_config(self) -> dict[str, Any] | None:
        """The config.json of an earlier start; None where there is none."""
        try:
            return json.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError(
                f"{self.config}: not readable ({error}); use --overwrite or another --out"
            ) from None

    def clear(self) -> None:
        """Remove the results and checkpoints of an earlier run, nothing else."""
        for path in (self.corrections, self.summary, self.epochs, self.config):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.classifier, ignore_errors=True)
        for path in self.checkpoint.glob("0*"):
            path.unlink()


def check_out(out: Path, source: Path, *, overwrite: bool) -> RunFolder:
    """Refuse an output folder that a scan must not write to.

    Raises:
        InputError: inside the source, a file, somebody else's folder, or a finished run without `overwrite`.
    """
    folder = RunFolder(out)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"--out {out} lies inside SOURCE, where nothing is ever written; choose another folder"
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; choose a folder")
    is_run = folder.config.is_file() or folder.checkpoint.is_dir()
    if out.is_dir() and not is_run and any(out.iterdir()):
        raise InputError(
            f"--out {out} holds files that are no run of labelfix; choose an empty or new folder"
        )
    if folder.is_finished and not overwrite:
        raise InputError(f"{out} holds a finished run; use --overwrite to replace it, or another --out")
    return folder


@contextmanager
def opened(folder: RunFolder, facts: dict[str, Any], *, overwrite: bool) -> Iterator[bool]:
    """Lock the folder and settle what is in it: resume the same run, or start one.

    Args:
        folder: passed by `check_out`.
        facts: config.json of this scan: `config`, `source` and `environment`.
        overwrite: whether a finished or different run may be replaced.

    Yields:
        True when the run is resumed on another device, with other packages or another thread count, so that
        its bytes may differ from those of an uninterrupted run.

    Raises:
        InputError: another scan is writing here, or the unfinished run has other options.
    """
    was_finished = folder.is_finished
    folder.checkpoint.mkdir(parents=True, exist_ok=True)
    with (folder.checkpoint / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{folder.path}: another scan is writing here; wait for it, or use another --out"
            ) from None
        saved = folder.saved_config() if not was_finished else None
        changed = [] if saved is None else _changes(saved, facts)
        if changed and not overwrite:
            raise InputError(
                f"{folder.path} holds an unfinished run with another {', '.join(changed)}; "
                "give the same options to resume it, or --overwrite to start anew"
            )
        if saved is None or changed:
            folder.clear()
            saved = facts
        write_json(folder.config, {**facts, "resumed_elsewhere": _is_elsewhere(saved, facts)})
        yield _is_elsewhere(saved, facts)


def _changes(saved: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """Names of options that differ; where the run happens may differ."""
    before, now = _options(saved), _options(facts)
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _options(facts: dict[str, Any]) -> dict[str, Any]:
    # Through JSON, so that tuples and lists compare equal.
    plain = json.loads(json.dumps(facts))
    options = {**plain["config"], **plain["config"]["settings"], **plain["source"]}
    for name in ("settings", "device", "precision"):
        options.pop(name, None)
    return options


def _is_elsewhere(saved: dict[str, Any], facts: dict[str, Any]) -> bool:
    if saved.get("resumed_elsewhere"):
        return True
    before, now = json.loads(json.dumps(saved)), json.loads(json.dumps(facts))
    if before["environment"] != now["environment"]:
        return True
    return any(before["config"][name] != now["config"][name] for name in ("device", "precision"))

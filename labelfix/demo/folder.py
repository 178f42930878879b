"""The folder of a demo: nothing in it is replaced that no demo wrote, and no link in it is followed.

A mark, written before all else, names the seed; from that follows every name that may lie here. A killed demo goes on
by writing what is missing or half written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labelfix.atomic_files import atomic_path, write_json
from labelfix.demo.digits import Digits, noisy_digits
from labelfix.errors import InputError
from labelfix.output_paths import check_no_file, check_place, naming
from labelfix.results.run_folder import RunFolder

MARK = ".labelfix-demo.json"
_FORMAT = 1
_LONGEST_MARK = 4096
_FILES = (MARK, "truth.csv", "corrected.csv")
# What a kill leaves of a file that appears at once.
_TEMPORARY = re.compile(rf"\.({'|'.join(map(re.escape, _FILES))})\.[a-z0-9_]{{8}}\.tmp")


@dataclass(frozen=True)
class DemoFolder:
    """Paths of a demo.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def images(self) -> Path:
        """Class folders of the digits."""
        return self.path / "images"

    @property
    def run(self) -> Path:
        """The run folder of the scan."""
        return self.path / "run"

    @property
    def truth(self) -> Path:
        """The true labels."""
        return self.path / "truth.csv"

    @property
    def corrected(self) -> Path:
        """The corrected labels."""
        return self.path / "corrected.csv"

    def write(self, digits: Digits, *, overwrite: bool) -> None:
        """Write the images and the truth, what is there already left as it is.

        Args:
            digits: what to write.
            overwrite: whether a demo that is finished, or of another seed, may be replaced.

        Raises:
            InputError: the folder holds something else, a link among it, or such a demo without `overwrite`.
        """
        with naming(self.path):
            check_place(self.path)
            check_no_file(self.path, "choose a new folder")
            self._replace_earlier(digits, overwrite=overwrite)
            mark = {"labelfix_demo": _FORMAT, "seed": digits.seed, "names_sha256": digits.names_sha256}
            write_json(self.path / MARK, mark)
            with atomic_path(self.truth) as temporary:
                temporary.write_text(digits.truth(), encoding="utf-8")
            for row, name in enumerate(digits.names):
                _write_once(self.images / name, digits.image(row))

    def _replace_earlier(self, digits: Digits, *, overwrite: bool) -> None:
        """Refuse what is not ours to replace, then remove what an earlier demo wrote and this one does not."""
        earlier = self._earlier()
        self._check_entries(() if earlier is None else earlier.names)
        if earlier is not None and not overwrite:
            if RunFolder(self.run).is_finished:
                raise InputError(
                    f"--out {self.path} holds a finished demo; use --overwrite to replace it, or another --out"
                )
            if earlier.seed != digits.seed:
                raise InputError(
                    f"--out {self.path} holds an unfinished demo of --seed {earlier.seed}; give that to go on, or"
                    " --overwrite to start anew"
                )
        for name in _entries(self.path, ""):
            if _TEMPORARY.fullmatch(name):
                (self.path / name).unlink()
        if earlier is not None:
            self.corrected.unlink(missing_ok=True)
            for name in set(earlier.names) - set(digits.names):
                (self.images / name).unlink(missing_ok=True)

    def _earlier(self) -> Digits | None:
        """The digits of the demo that the mark names; None in a new or empty folder.

        Raises:
            InputError: the folder holds something else.
        """
        if all(_TEMPORARY.fullmatch(name) for name in _entries(self.path, "")):
            return None
        marked = _marked(self.path / MARK)
        if marked is None:
            raise InputError(
                f"--out {self.path} holds something else than a demo of this version of labelfix; choose a new folder"
            )
        return marked

    def _check_entries(self, names: Iterable[str]) -> None:
        """Refuse whatever no demo of these images wrote; the run folder is left to the scan.

        Raises:
            InputError: names the file or folder.
        """
        files = {f"images/{name}" for name in names} | set(_FILES)
        folders = {"images"} | {os.path.dirname(name) for name in files if "/" in name}
        for folder in ("", *sorted(folders)):
            for name, entry in _entries(self.path, folder).items():
                if name in folders or name == "run":
                    is_ours = entry.is_dir(follow_symlinks=False)
                else:
                    is_ours = name in files or _TEMPORARY.fullmatch(name) is not None
                    is_ours = is_ours and entry.is_file(follow_symlinks=False)
                if not is_ours:
                    raise InputError(
                        f"--out {self.path} holds {name}, which no demo wrote; move it away, or choose a new folder"
                    )


def _entries(path: Path, folder: str) -> dict[str, os.DirEntry[str]]:
    """What lies in a folder of the demo, by its name from the top; nothing where it is not there."""
    try:
        with os.scandir(path / folder) as entries:
            return {f"{folder}/{entry.name}".lstrip("/"): entry for entry in entries}
    except FileNotFoundError:
        return {}


def _marked(path: Path) -> Digits | None:
    """The digits that a mark names; None where it is no mark of this version."""
    try:
        with open(path, "rb", opener=_no_link) as file:
            mark = json.loads(file.read(_LONGEST_MARK))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(mark, dict) or mark.get("labelfix_demo") != _FORMAT:
        return None
    seed = mark.get("seed")
    if type(seed) is not int or seed < 0:
        return None
    digits = noisy_digits(seed)
    return digits if mark.get("names_sha256") == digits.names_sha256 else None


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _write_once(path: Path, data: bytes) -> None:
    """Write a file unless it is there and whole; where it is another one, only its name is taken from that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(data) + 1) == data:
                return
        path.unlink()
    with path.open("xb") as file:
        file.write(data)

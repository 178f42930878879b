"""The rows of a bench, noise x method x seed, from the texts that name them; nothing is read yet."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labelfix.config import resolve_settings
from labelfix.errors import InputError
from labelfix.methods import AUTO, method_names, multi_label_methods
from labelfix.noise.planting import KINDS, parse_noise
from labelfix.noise.several_labels import KINDS as SEVERAL_KINDS
from labelfix.noise.several_labels import is_for_several, parse_parts

CLEAN, GIVEN = "clean", "given"
# Keys of a method's text that are options of scan; every other one is a setting of the method.
_LONGEST_NAME = 160
_NUMBERS = ("epochs", "folds", "batch_size")


@dataclass(frozen=True)
class MethodText:
    """A method with options of its own, as `bmm:folds=5:epochs=8` says it.

    Attributes:
        text: as it was given; it names the row.
        name: of the method.
        options: preset, epochs, folds and batch_size, those that the text sets.
        settings: of the method by name, values as text.
    """

    text: str
    name: str
    options: Mapping[str, Any]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """One run of a bench.

    Attributes:
        noise: clean, given, or noise to plant.
        method: what is trained.
        seed: of the noise and of the run.
    """

    noise: str
    method: MethodText
    seed: int

    @property
    def labels(self) -> str:
        """File name, without extension, of what is planted for this run."""
        return safe_name(f"{self.noise}-seed{self.seed}")

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return safe_name(f"{self.noise}-seed{self.seed}-{self.method.text}")


def make_grid(
    methods: str | Sequence[str],
    noise: str | Sequence[str],
    seeds: str | Sequence[int],
    shared: Mapping[str, Any],
) -> list[Cell]:
    """The runs of a bench, by noise, then method, then seed.

    Args:
        methods: texts, or one text with commas between them.
        noise: clean, given, or what `labelfix corrupt --noise` takes; the same.
        seeds: whole numbers from 0 up; the same.
        shared: options of every run; only preset, epochs and batch_size are looked at.

    Raises:
        InputError: an unknown method, setting, preset or kind of noise, a value that does not fit, nothing at all,
            or the same twice.
    """
    # A comma before a digit stands between the values of a setting: milestones=20,30.
    texts = _listed("--methods", methods, r",(?!\s*\d)")
    return make_cells([(each, text) for each in listed_noises(noise) for text in texts], seeds, shared)


def make_cells(
    pairs: Sequence[tuple[str, str]], seeds: str | Sequence[int], shared: Mapping[str, Any]
) -> list[Cell]:
    """The runs of pairs of a noise and a method's text, with every seed; see `make_grid`."""
    parsed = {text: parse_method(text) for _, text in pairs}
    several = any(is_for_several(noise) for noise, _ in pairs)
    for method in parsed.values():
        _check_settings(method, shared, several=several)
    for noise in dict.fromkeys(noise for noise, _ in pairs):
        _check_noise(noise)
    numbers = [_seed(text) for text in _listed("--seeds", seeds, ",")]
    cells = [Cell(noise, parsed[text], seed) for noise, text in pairs for seed in numbers]
    _check_names(cells)
    return cells


def listed_noises(noise: str | Sequence[str]) -> list[str]:
    """The noises of one text with commas between them, or of a list.

    Of a text, kinds for several labels a row that follow each other are one noise, until a kind comes again:
    `dropped:0.2,added:0.05,dropped:0.4` are two.

    Raises:
        InputError: none, or the same twice.
    """
    if isinstance(noise, str):
        noise = _joined(noise.split(","))
    return _listed("--noise", noise, ",")


def _joined(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    kinds: set[str] = set()
    for word in map(str.strip, words):
        kind = word.partition(":")[0]
        if kind in SEVERAL_KINDS and kinds and kind not in kinds:
            found[-1] += f",{word}"
        else:
            found.append(word)
            kinds = set()
        kinds |= {kind} & {*SEVERAL_KINDS}
    return found


def parse_method(text: str) -> MethodText:
    """Read `name:key=value:...`.

    Raises:
        InputError: an unknown method, a part that is no key=value, a key twice, or no whole number where one is due.
    """
    name, *parts = text.split(":")
    if name not in (known := (AUTO, *method_names())):
        raise InputError(f"--methods {text}: no method {name!r}; choose one of {', '.join(known)}")
    options: dict[str, Any] = {}
    settings: dict[str, str] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise InputError(f"--methods {text}: {part!r} has to be key=value, as in {name}:epochs=8")
        if key in options or key in settings:
            raise InputError(f"--methods {text}: {key} stands there twice; keep one")
        if key in _NUMBERS:
            options[key] = _whole_number(text, key, value)
        elif key == "preset":
            options[key] = value
        else:
            settings[key] = value
    return MethodText(text, name, options, settings)


def safe_name(text: str) -> str:
    """A file name of only a-z, 0-9, dot, underscore, equals sign and hyphen, of at most 173 characters."""
    name = re.sub(r"[^a-z0-9._=-]", "-", text.lower())
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _listed(option: str, value: int | str | Sequence[Any], comma: str) -> list[str]:
    if isinstance(value, int):
        value = str(value)
    parts = re.split(comma, value) if isinstance(value, str) else [str(part) for part in value]
    texts = [part.strip() for part in parts]
    if not texts or "" in texts:
        raise InputError(f"{option}: give at least one, with a comma between two")
    twice = [text for text, count in Counter(texts).items() if count > 1]
    if twice:
        raise InputError(f"{option}: {twice[0]} stands there twice; keep one")
    return texts


def _whole_number(text: str, key: str, value: str) -> int:
    least = 1 if key == "epochs" else 2
    if not (value.isascii() and value.isdecimal()) or int(value) < least:
        raise InputError(f"--methods {text}: {key} has to be a whole number from {least} up")
    return int(value)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"--seeds {text}: a seed is a whole number from 0 up, as in --seeds 0,1")
    return int(text)


def _check_noise(text: str) -> None:
    if text in (CLEAN, GIVEN):
        return
    if is_for_several(text):
        parse_parts(text)
        return
    kind = text.partition(":")[0]
    plantable = [each for each in KINDS if each != "open-set"]
    if kind not in KINDS:
        raise InputError(
            f"--noise {text}: unknown kind {kind!r}; it is clean, given, or one of {', '.join(plantable)}; for several"
            f" labels a row {', '.join(SEVERAL_KINDS)}"
        )
    parse_noise(text)
    if kind not in plantable:
        raise InputError(
            f"--noise {text} is planted beforehand: labelfix corrupt SOURCE --noise {text} --open-set OTHER_SOURCE"
            " --out noisy.parquet, then labelfix bench noisy.parquet --noise given --truth-column true_label"
            " --label-column label"
        )


def _check_settings(method: MethodText, shared: Mapping[str, Any], *, several: bool) -> None:
    """Refuse settings that the method does not have, whatever the source holds; the source decides the rest."""
    options = {"preset": "fast", "epochs": None, "batch_size": None, **shared, **method.options}
    asked = (options["preset"], options["epochs"], options["batch_size"], method.settings)
    errors = []
    for task in ("multi",) if several else ("single", "multi"):
        if task == "multi" and not several and method.name not in multi_label_methods():
            continue
        try:
            resolve_settings(method.name, *asked, task)
        except InputError as error:
            errors.append(error)
        else:
            return
    raise InputError(f"--methods {method.text}: {errors[0]}") from None


def _check_names(cells: Sequence[Cell]) -> None:
    # Folders of two noises or of two methods must not be one.
    for kind in ("labels", "name"):
        found: dict[str, Cell] = {}
        for cell in cells:
            other = found.setdefault(getattr(cell, kind), cell)
            same = (other.noise, other.seed) == (cell.noise, cell.seed)
            if not same or (kind == "name" and other is not cell):
                raise InputError(
                    f"{other.noise}, {other.method.text} and {cell.noise}, {cell.method.text} would both be"
                    f" written to {getattr(cell, kind)}; write one of them differently"
                )

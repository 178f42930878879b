"""What a scan is about to do: its sources read, its options resolved, its run folder named; nothing written yet."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.config import ScanConfig, ScanOptions, environment
from labelfix.data.manifest import Manifest
from labelfix.data.verified_labels import Trusted
from labelfix.errors import InputError
from labelfix.methods import method_class
from labelfix.output_paths import check_output
from labelfix.reporting import Reporter
from labelfix.results.run_folder import RunFolder, resolved_autos
from labelfix.training.setup import trusted_stream_labels


@dataclass(frozen=True)
class ScanPlan:
    """A scan before its first step.

    Attributes:
        manifest: of the source.
        trusted: its verified labels.
        trusted_path: of the --trusted file, absolute; None without one.
        test: labelled images that are only measured on; None without --test.
        config: the options, every `auto` replaced.
        asked: options that may be `auto`, as they were given.
        folder: of the run.
        overwrite: whether a finished or different run there may be replaced.
    """

    manifest: Manifest
    trusted: Trusted
    trusted_path: Path | None
    test: Manifest | None
    config: ScanConfig
    asked: dict[str, str]
    folder: RunFolder
    overwrite: bool

    @classmethod
    def of(cls, source: Any, options: Mapping[str, Any], reporter: Reporter) -> ScanPlan:
        """Read the sources and settle the options.

        Raises:
            InputError: bad input or options, in one line.
        """
        chosen = ScanOptions.of(options)
        method_class(chosen.method)
        manifest = Manifest.read(
            source,
            rows=chosen.rows,
            root=chosen.root,
            image_column=chosen.image_column,
            label_column=chosen.label_column,
        )
        test = _read_test(chosen, manifest)
        for warning in (*manifest.warnings, *(test.warnings if test is not None else ())):
            reporter.message(f"warning: {warning}")
        trusted = Trusted.of(manifest, chosen.trusted)
        trusted_stream_labels(
            chosen.method, manifest, ~manifest.held_out, trusted
        )  # refused before anything is decoded
        folder = RunFolder(chosen.run_path(manifest))
        check_output(
            folder.path, {"the source": manifest.places, "--test": () if test is None else test.places}
        )
        return cls(
            manifest,
            trusted,
            None if chosen.trusted is None else Path(chosen.trusted).expanduser().absolute(),
            test,
            chosen.resolve(manifest, {} if chosen.overwrite else resolved_autos(folder)),
            chosen.asked,
            folder,
            chosen.overwrite,
        )

    def facts(self) -> dict[str, Any]:
        """What config.json says of the run; JSON-able."""
        return {
            "config": self.config.to_json(),
            "asked": self.asked,
            "source": {
                **self.manifest.options,
                "in_memory": self.manifest.options["source"] is None,
                "fingerprint": self.manifest.fingerprint,
                "marks_sha256": _marks_sha256(self.manifest),
                "trusted_sha256": self.trusted.sha256,
                "test_fingerprint": self.test.fingerprint if self.test is not None else None,
            },
            # Where they lie does not matter when a run is resumed, what they hold does.
            "files": {
                "image_key": self.manifest.image_key,
                "num_links": self.manifest.num_links,
                "trusted": None if self.trusted_path is None else str(self.trusted_path),
                "test": None if self.test is None else self.test.options,
            },
            "environment": environment(self.config.method),
        }


def _marks_sha256(manifest: Manifest) -> str:
    """SHA-256 (hex) of the columns is_trusted, split and group, which no fingerprint covers; empty without any."""
    groups = np.empty(0, np.int64) if manifest.groups is None else manifest.groups
    if not (manifest.is_trusted.any() or manifest.held_out.any() or len(groups)):
        return ""
    parts = (manifest.is_trusted, manifest.held_out, groups)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def _read_test(chosen: ScanOptions, manifest: Manifest) -> Manifest | None:
    if chosen.test is None:
        return None
    test = _with_columns(chosen)
    labels = np.unique(test.given[test.given >= 0])
    if not len(labels):
        raise InputError(
            f"--test {test.source}: none of its rows has a label; give labels, or leave --test out"
        )
    found = [test.class_names[label] for label in labels]
    strangers = [name for name in found if name not in manifest.class_names]
    if strangers:
        raise InputError(
            f"--test {test.source}: its class {strangers[0]!r} is no class of {manifest.source}; leave those rows out,"
            " or scan the source that has them"
        )
    return test


def _with_columns(chosen: ScanOptions) -> Manifest:
    """The test source by the source's own column names where it has them, else by the usual ones."""
    try:
        return Manifest.read(
            chosen.test,
            root=chosen.root,
            image_column=chosen.image_column,
            label_column=chosen.label_column,
            require_labels=False,
        )
    except InputError:
        if chosen.image_column is None and chosen.label_column is None:
            raise
    return Manifest.read(chosen.test, root=chosen.root, require_labels=False)

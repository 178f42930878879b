"""bench(): methods against noise of known truth, a row per noise, method and seed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelfix.atomic_files import write_json, write_table
from labelfix.benchmark.agreement import SCHEMA as AGREEMENT_SCHEMA
from labelfix.benchmark.agreement import make_agreement
from labelfix.benchmark.grid import GIVEN, Cell, make_grid
from labelfix.benchmark.loss_plots import write_loss_plot
from labelfix.benchmark.materials import Materials, check_given, gather, plant_noise
from labelfix.benchmark.paper_table import PaperTable
from labelfix.benchmark.plot import write_plot
from labelfix.benchmark.processes import scan_in_process
from labelfix.benchmark.rows import SAVED, SCHEMA, is_current, judged_rows, make_row
from labelfix.data.readers.several_labels import column_names
from labelfix.errors import InputError
from labelfix.json_files import read_object
from labelfix.methods import method_class
from labelfix.reporting import Reporter, Silent
from labelfix.results.corrections import Corrections
from labelfix.results.run_folder import RunFolder, changes
from labelfix.scan_plan import ScanPlan

DEFAULT_OUT = "labelfix-bench"
SHARED_OPTIONS = (
    "device", "precision", "preset", "epochs", "folds", "holdout", "batch_size", "backbone", "encoder", "tune",
    "weights", "image_size",
)  # fmt: skip


def bench(
    source: str | Path,
    *,
    methods: str | Sequence[str] | None = None,
    noise: str | Sequence[str] | None = None,
    table: str | None = None,
    out: str | Path = DEFAULT_OUT,
    truth_column: str | None = None,
    seeds: str | Sequence[int] = (0,),
    test: str | Path | None = None,
    trusted: str | Path | None = None,
    rows: int | None = None,
    plots: bool = False,
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    label_separator: str | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Scan a source of known truth with every method, under every noise, with every seed.

    `out` gets `truth.parquet`, `noisy/` (planted labels), `runs/` (ordinary run folders, and beside each what its
    process took), `rows/` (a finished row each), `bench.parquet` (the table of this call), `agreement.parquet` (what
    its methods say together), `bench.png` and, where asked for, `plots/`. Each run is a process of its own. The same
    call on an unfinished bench goes on, and skips what is finished. Another --trusted file evaluates finished runs
    anew, unless they were given it; so does cleanlab where it was not there before.

    Args:
        source: class folders or a manifest, by its path.
        methods: `name`, or `name:key=value:...` with epochs, folds, preset, batch_size or a setting of the method;
            the text names the row. A list, or one text with commas.
        noise: `clean` (the true labels), `given` (the label column), or noise that `labelfix.corrupt` plants on the
            true labels, such as "symmetric:0.4", or "dropped:0.2,added:0.05" where a row may have several labels. A
            list, or one text with commas.
        table: in place of `methods`, a published table, such as "paper:bmm-1": its rows under its noises, or under
            those of them that `noise` names. All rows train (holdout 0) unless `holdout` says otherwise.
        out: folder of the bench.
        truth_column: of the true labels; None: the label column is the truth. In class folders the folder is.
        seeds: of planted noise and runs; whole numbers from 0 up.
        test: source of images with true labels for test_accuracy; None for the rows of a test split.
        trusted: file of verified labels, see `labelfix.data.verified_labels`. Only methods that need some are given
            them; no evaluation counts their rows.
        rows: only the first so many rows.
        plots: whether `plots/` gets, for every run with wrong labels, a figure of the losses of right and wrong ones
            and of what two betas and two gaussians make of them (`labelfix.benchmark.loss_plots`).
        root: folder that a manifest's relative paths start from.
        image_column: of a manifest or Parquet file.
        label_column: of a manifest or Parquet file.
        label_columns: of given labels, where a row may have several, see `labelfix.config.ScanOptions`; a truth column
            holds lists.
        label_separator: the same.
        reporter: gets progress and messages.
        options: of all runs, unless the method's text says otherwise: device, precision, preset, epochs, folds,
            holdout, batch_size, backbone, encoder (auto is none: all runs are compared on one network), tune, weights
            and image_size, see `labelfix.config.ScanOptions`.

    Returns:
        JSON-able: out, table, plot; paper, see `labelfix.benchmark.paper_table.PaperTable.beside`, None without
        `table`; loss_plots, of the figures that `plots` asks for noise, method, seed, path, and the areas under the
        ROC curves, beta and gaussian; rows, a dict for each noise, method and seed, by the
        column names of bench.parquet; agreement, one for each noise and seed of which two runs or more are there, by
        those of agreement.parquet (see `labelfix.benchmark.agreement.make_agreement`). What is undefined is None:
        average precision of clean labels, errors_removed ((corrected - given) / (1 - given) of the label accuracies)
        where no label is wrong, the cleanlab columns without out-of-sample predictions, test_accuracy where a row may
        have several labels and test_map where it has one. Of several, states (a row has a class, or lacks it) count as
        rows do else. Memory is in MiB, of the process of the run alone; seconds are of the training, seconds_total of
        the whole run, but for what a killed process did.

    Raises:
        InputError: bad input or options, before anything is trained; a finished row with other options.
        Interrupted: Ctrl-C; the same call goes on.
    """
    reporter = reporter or Silent()
    cells, paper, options = _settled(table, methods, noise, seeds, _of_all_runs(options))
    for cell in cells:
        _check_trusted(cell, trusted)
    source = _path_of(source)
    read_options: dict[str, Any] = {"rows": rows, "root": root, "image_column": image_column}
    lists = {"label_columns": column_names(label_columns), "label_separator": label_separator}
    columns: dict[str, Any] = {"truth_column": truth_column, "label_column": label_column, "lists": lists}
    if any(cell.noise == GIVEN for cell in cells):
        check_given(source, **columns, **read_options)
    materials = gather(source, Path(out), **columns, cells=cells, trusted=trusted, test=test, **read_options)
    _check_answers(materials, table, plots=plots)
    plant_noise(materials, cells, reporter)
    planned = [_plan(cell, materials, options) for cell in cells]
    rows_made: list[dict[str, Any]] = []
    for number, run in enumerate(planned):
        reporter.progress("runs", number, len(planned))
        rows_made.append(run.row or _finish(run, materials, reporter, f"run {number + 1} of {len(planned)}"))
    reporter.progress("runs", len(planned), len(planned))
    return {
        **_answer(planned, rows_made, materials),
        "paper": paper and paper.beside(rows_made),
        "loss_plots": _loss_plots(planned, materials) if plots else [],
    }


def _check_answers(materials: Materials, table: str | None, *, plots: bool) -> None:
    """Refuse what cannot be drawn, or set beside a paper's figures, of such rows."""
    if plots and materials.manifest.task == "multi":
        raise InputError(
            f"--plots draws losses of one label a row, and {materials.source} has several; leave it out"
        )
    if table is not None and materials.test is None:
        raise InputError(
            f"--table {table} sets accuracies on test images beside the paper's: name some with --test, or mark rows"
            " of a split"
        )


@dataclass(frozen=True)
class _Planned:
    """A run before it starts: what it scans, with which options, and its row where that need not be made again."""

    cell: Cell
    source: Path
    options: dict[str, Any]
    folder: RunFolder
    saved: Path
    made: dict[str, Any]
    row: dict[str, Any] | None

    @property
    def record(self) -> Path:
        """What the process of the run took."""
        return self.folder.path.with_name(f"{self.folder.path.name}.process.json")


def _plan(cell: Cell, materials: Materials, shared: dict[str, Any]) -> _Planned:
    """Settle the options of a run, and whether its row is made already.

    Raises:
        InputError: options that do not fit, or that differ from those that what is there was made with.
    """
    source, read_options = materials.scanned(cell)
    folder = RunFolder(materials.out / "runs" / cell.name)
    given = {name: value for name, value in shared.items() if value is not None}
    options = {
        **given,
        **cell.method.options,
        **read_options,
        "method": cell.method.name,
        "settings": dict(cell.method.settings),
        "seed": cell.seed,
        "test": materials.test,
        "trusted": materials.trusted if method_class(cell.method.name).needs_trusted else None,
        "out": folder.path,
    }
    facts = ScanPlan.of(source, options, Silent()).facts()
    path = materials.out / "rows" / f"{cell.name}.json"
    saved = read_object(path, SAVED, "delete it, and the row is made again")
    # A row outlives its run.
    before = folder.saved_config() or (saved and saved["made"])
    changed = changes(before, facts) if before else []
    if saved and not folder.is_finished and saved.get("left_out_sha256") != materials.trusted_sha256:
        changed.append("--trusted file, and its run is gone")
    if changed:
        raise InputError(
            f"{path if saved else folder.path} was made with another {', '.join(changed)}; give the same options,"
            " or another --out"
        )
    made = {name: facts[name] for name in ("config", "source")}
    keeps = saved is not None and (is_current(saved, materials) or not folder.is_finished)
    return _Planned(cell, source, options, folder, path, made, saved["row"] if saved and keeps else None)


def _finish(run: _Planned, materials: Materials, reporter: Reporter, place: str) -> dict[str, Any]:
    """Train what is not trained yet, and write the row."""
    cell = run.cell
    reporter.message(f"{place}: {cell.noise}, {cell.method.text}, seed {cell.seed}")
    if not run.folder.is_finished:
        scan_in_process(run.source, run.options, run.record, reporter)
    row = make_row(cell, materials, run.folder, run.record)
    write_json(run.saved, {"row": row, "made": run.made, "left_out_sha256": materials.trusted_sha256})
    return row


def _answer(planned: Sequence[_Planned], rows: list[dict[str, Any]], materials: Materials) -> dict[str, Any]:
    """Write the tables and the plot, and return what `bench` does."""
    table = materials.out / "bench.parquet"
    write_table(table, pa.Table.from_pylist(rows, SCHEMA))
    agreement = _agreement(planned, rows, materials)
    write_table(materials.out / "agreement.parquet", pa.Table.from_pylist(agreement, AGREEMENT_SCHEMA))
    plot = materials.out / "bench.png"
    write_plot(plot, rows)
    return {
        "out": str(materials.out),
        "table": str(table),
        "plot": str(plot),
        "rows": rows,
        "agreement": agreement,
    }


def _agreement(
    planned: Sequence[_Planned], rows: Sequence[dict[str, Any]], materials: Materials
) -> list[dict[str, Any]]:
    """A dict for each noise and seed of which two runs or more are there."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, run in enumerate(planned):
        if run.folder.is_finished:
            groups[run.cell.noise, run.cell.seed].append(place)
    return [
        make_agreement(
            [rows[place] for place in places],
            [planned[place].folder.corrections for place in places],
            materials.truth_of(planned[places[0]].cell),
            materials.left_out,
        )
        for places in groups.values()
        if len(places) > 1
    ]


def _loss_plots(planned: Sequence[_Planned], materials: Materials) -> list[dict[str, Any]]:
    """Draw the losses of every run that is there; a dict for each figure."""
    made = []
    for run in planned:
        if not run.folder.is_finished:
            continue
        path = materials.out / "plots" / f"{run.cell.name}.png"
        path.parent.mkdir(exist_ok=True)
        found, truth = Corrections.open(run.folder.corrections), materials.truth_of(run.cell)
        areas = write_loss_plot(path, *judged_rows(found, truth, materials.left_out))
        if areas is not None:
            cell = {"noise": run.cell.noise, "method": run.cell.method.text, "seed": run.cell.seed}
            made.append({**cell, "path": str(path), **areas})
    return made


def _of_all_runs(options: dict[str, Any]) -> dict[str, Any]:
    """The options of all runs, which see through one network whatever their noise.

    Raises:
        InputError: there is no option of this name.
    """
    for name in options:
        if name not in SHARED_OPTIONS:
            raise InputError(
                f"bench has no option {name}; for all runs there are {', '.join(SHARED_OPTIONS)}"
            )
    return {**options, "encoder": "none"} if options.get("encoder") in (None, "auto") else options


def _settled(
    table: str | None,
    methods: str | Sequence[str] | None,
    noise: str | Sequence[str] | None,
    seeds: str | Sequence[int],
    options: dict[str, Any],
) -> tuple[list[Cell], PaperTable | None, dict[str, Any]]:
    """The runs, of a published table or of methods and noises, that table, and the options of all runs.

    Raises:
        InputError: both or neither are asked for, or what is asked for is not there.
    """
    if table is None:
        if methods is None or noise is None:
            raise InputError("bench needs --methods and --noise, or a published table: --table paper:bmm-1")
        return make_grid(methods, noise, seeds, options), None, options
    if methods is not None:
        raise InputError(f"--table {table} has methods of its own: leave out --methods, or --table")
    paper = PaperTable.of(table, noise)
    if options.get("holdout") in (None, "auto"):
        options = {**options, "holdout": 0.0}
    return paper.cells(seeds, options), paper, options


def _path_of(source: Any) -> Path:
    """The path of a source.

    Raises:
        InputError: it is in memory.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            "bench reads SOURCE from its path; write what is in memory with"
            " labelfix.corrupt(source, noise='symmetric:0', out='clean.parquet') and bench that"
        )
    return Path(source).expanduser()


def _check_trusted(cell: Cell, trusted: str | Path | None) -> None:
    if trusted is None and method_class(cell.method.name).needs_trusted:
        raise InputError(
            f"--methods {cell.method.text}: {cell.method.name} needs labels to trust; add --trusted FILE"
        )

"""labelfix evaluate."""

from __future__ import annotations

from typing import Any

import click

from labelfix.cli import options
from labelfix.cli.terminal import print_table, say, say_copies

_SECTIONS = {
    "noise": ("noise_rate_true", "noise_rate_estimated"),
    "scores": ("average_precision", "auroc", "expected_calibration_error"),
    "flags": ("flagged", "flagged_share", "precision", "recall", "f1"),
    "labels": (
        "label_accuracy_given",
        "label_accuracy_corrected",
        "changed",
        "changed_right",
        "changed_wrong",
    ),
}

_OF_SEVERAL = {
    "rows": ("rows_right_given", "rows_right_corrected"),
    "classifier": ("mean_average_precision",),
}


@click.command("evaluate", epilog="\b\nExample:\n  labelfix evaluate runs/first --truth noisy.parquet")
@click.argument("corrections")
@click.option("--truth", required=True, metavar="MANIFEST", help="A source whose labels are the truth.")
@click.option(
    "--truth-column", metavar="NAME", help="Its column of true labels.  [default: true_label, else label]"
)
@options.cache_dir
@options.as_json
def command(corrections: str, truth: str, truth_column: str | None, as_json: bool) -> None:
    """Compare CORRECTIONS, a corrections file or a run folder, with true labels.

    Rows are joined by file name where names are unique, else by row. Only valid, labelled, untrusted rows
    with a true label count. Where a row may have several labels, a class in a row counts as a row does else.
    """
    from labelfix.cli.terminal import print_json
    from labelfix.evaluation import evaluate
    from labelfix.results.corrections import find_corrections

    path, note = find_corrections(corrections)
    if note:
        say(note, err=True)
    result = evaluate(path, truth=truth, truth_column=truth_column)
    if as_json:
        print_json(result)
    else:
        _print_result(result)


def _print_result(result: dict[str, Any]) -> None:
    joined = "file name" if result["joined_by"] == "file_name" else "row"
    say(f"{result['rows_evaluated']} of {result['rows']} rows evaluated, joined by {joined}")
    say_copies(result["copies_left_out"])
    sections = _SECTIONS | (_OF_SEVERAL if result.get("task") == "multi" else {})
    rows = [
        [
            "" if place else section,
            name.replace("_", " "),
            _shown(result[name]),
            result["reasons"].get(name, ""),
        ]
        for section, metrics in sections.items()
        for place, name in enumerate(metrics)
    ]
    names = ("section", "metric", "value", "reason")
    print_table(names, rows, left=names, has_header=False)
    if result["reliability"] is not None:
        _print_reliability(result["reliability"])


def _print_reliability(bins: list[dict[str, Any]]) -> None:
    rows = [
        [
            f"{part['lower']:.1f} to {part['upper']:.1f}",
            *map(_shown, (part["count"], part["mean_score"], part["share_wrong"])),
        ]
        for part in bins
    ]
    names = ("noise score", "rows", "mean score", "share wrong")
    print_table(names, rows, left=("noise score",), title="\nreliability")


def _shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"

"""labelfix bench."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from labelfix.cli import options
from labelfix.cli.scan import command as scan_command
from labelfix.cli.terminal import print_table, say, say_copies

# As they are in scan.
_AS_IN_SCAN = (
    "label_column", "label_columns", "label_separator", "image_column", "root", "rows", "test", "preset", "epochs",
    "folds", "holdout", "batch_size", "backbone", "encoder", "tune", "weights", "image_size", "device", "precision",
)  # fmt: skip
_MEANS = {
    "AP": "average_precision",
    "cleanlab AP": "cleanlab_average_precision",
    "test mAP": "test_map",
    "P": "precision",
    "R": "recall",
    "F1": "f1",
    "given": "label_accuracy_given",
    "corrected": "label_accuracy_corrected",
    "changed": "changed",
    "units": "forward_units_per_row",
    "seconds": "seconds",
}
_IF_KNOWN = ("cleanlab AP", "test mAP")
_WHOLE = ("changed", "units", "seconds")
_EPILOG = """\b
Noises:
  clean          the labels of --truth-column
  given          the labels of --label-column
  symmetric:0.4  planted on the true labels, as by `labelfix corrupt --noise`
                 (symmetric:0.4:exact for exact counts)
  dropped:0.2,added:0.05
                 the same where a row may have several labels

\b
Example:
  labelfix bench ./images --methods bmm,cross-entropy --noise clean,symmetric:0.4
  labelfix bench photos.jsonl --methods pencil,cross-entropy:folds=3 --noise dropped:0.2,added:0.05
  labelfix bench noisy.parquet --truth-column true_label --noise given --methods bmm
  labelfix bench train.parquet --test test.parquet --table paper:bmm-1 --rows 3000 --epochs 30"""


@click.command("bench", epilog=_EPILOG)
@click.argument("source")
@click.option(
    "--methods",
    metavar="NAME[:KEY=VALUE...],...",
    help="What to compare; a key is epochs, folds, preset, batch_size or a setting of the method.",
)
@click.option("--noise", metavar="NOISE,...", help="Noises, see below; with --table some of its columns.")
@click.option(
    "--table",
    metavar="paper:NAME",
    help="In place of --methods: the rows and columns of a published table, our figures beside its own.",
)
@click.option("--seeds", default="0", show_default=True, metavar="N,...", help="Of planted noise and runs.")
@click.option(
    "--truth-column", metavar="NAME", help="Column of the true labels.  [default: the label column]"
)
@options.one_file(
    "--trusted",
    text="Verified labels, for methods that need some; their rows are left out of every evaluation.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="labelfix-bench",
    show_default=True,
    help="Folder of the bench; an unfinished one goes on.",
)
@click.option(
    "--plots",
    is_flag=True,
    help="Draw the losses of right and wrong labels of every run, and the ROC curves of two mixtures on them.",
)
@options.cache_dir
@options.as_json
@options.quiet
@options.no_progress
def command(source: str, as_json: bool, quiet: bool, no_progress: bool, **options: Any) -> None:
    """Scan SOURCE with every method, under every noise, with every seed, and compare with the truth.

    The folder gets bench.parquet (a row per noise, method and seed), agreement.parquet (how many methods flag a
    row, and what that says), bench.png and the runs themselves. The same command skips what is finished and
    goes on where it stopped.
    """
    from labelfix.benchmark import bench
    from labelfix.cli.terminal import Terminal, print_json

    with Terminal(quiet=quiet, bar=not no_progress) as terminal:
        result = bench(source, reporter=terminal, **options)
    if as_json:
        print_json(result)
        return
    if result["paper"]:
        _print_paper(result["paper"])
    else:
        _print_means(result["rows"])
        # The most of any run: near copies are told by the features of its encoder.
        say_copies(max(row["copies_left_out"] or 0 for row in result["rows"]))
        if result["agreement"]:
            _print_agreement(result["agreement"])
    say("", f"table: {result['table']}", f"plot: {result['plot']}")
    if result["loss_plots"]:
        _print_loss_plots(result["loss_plots"])


_of_scan = {option.name: option for option in scan_command.params}
command.params.extend(_of_scan[name] for name in _AS_IN_SCAN)


def _print_means(rows: list[dict[str, Any]]) -> None:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["noise"], row["method"]].append(row)
    means = {
        name: column
        for name, column in _MEANS.items()
        if name not in _IF_KNOWN or any(row[column] is not None for row in rows)
    }
    lines = [
        [noise, method, len(some)]
        + [_shown(name, [row[column] for row in some]) for name, column in means.items()]
        for (noise, method), some in groups.items()
    ]
    print_table(["noise", "method", "seeds", *means], lines, left=("noise", "method"))


def _print_paper(paper: dict[str, Any]) -> None:
    measured = "errors" if paper["is_error"] else "accuracies"
    say(
        f"{paper['source']}: {paper['settings']}. Test {measured} in per cent, ours beside the published ones;",
        "best is the epoch that is best on validation rows, without any the highest of all epochs.",
        "",
    )
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for figure in paper["figures"]:
        lines[figure["row"], figure["measure"]] += [_percent(figure["published"]), _percent(figure["ours"])]
    names = [name for noise in paper["columns"] for name in (noise, "ours")]
    rows = [[*key, *figures] for key, figures in lines.items()]
    print_table(["row", "epoch", *names], rows, left=("row", "epoch"))


def _print_loss_plots(plots: list[dict[str, Any]]) -> None:
    say(
        "", f"Losses of every run, in {Path(plots[0]['path']).parent}; areas under the ROC curve of p(noisy):"
    )
    names = ("noise", "method", "seed", "beta", "gaussian")
    rows = [
        [plot[name] for name in names[:3]] + [f"{plot[name]:.3f}" for name in names[3:]] for plot in plots
    ]
    print_table(names, rows, left=("noise", "method"))


def _percent(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}"


def _print_agreement(agreement: list[dict[str, Any]]) -> None:
    say(
        "",
        "Average precision of the mean rank over the methods, beside that of the best of them; and how many rows",
        "no method flags, one, two, ..., with the share of them that is wrong:",
    )
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in agreement:
        groups[row["noise"]].append(row)
    most = max(row["flagged_by"][-1] for row in agreement)
    lines = []
    for noise, some in groups.items():
        best = dict.fromkeys(row["best_method"] for row in some if row["best_method"] is not None)
        means = [
            _shown(name, [row[name] for row in some])
            for name in ("average_precision_mean_rank", "best_average_precision")
        ]
        counts = [_flagged_by(runs, some) for runs in range(most + 1)]
        lines.append([noise, len(some), *means, " or ".join(best) or "-", *counts])
    names = ["noise", "seeds", "mean rank AP", "best AP", "best", *map(str, range(most + 1))]
    print_table(names, lines, left=("noise", "best"))


def _flagged_by(runs: int, rows: list[dict[str, Any]]) -> str:
    """Rows that so many methods flag, a mean over seeds, and the share of them that is wrong."""
    known = [row for row in rows if runs in row["flagged_by"]]
    count = sum(row["rows"][runs] for row in known)
    if not count:
        return "0"
    wrong = sum(row["rows"][runs] * row["share_wrong"][runs] for row in known if row["rows"][runs])
    return f"{count / len(known):.0f} ({wrong / count:.0%})"


def _shown(name: str, values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = sum(known) / len(known)
    return f"{mean:.0f}" if name in _WHOLE else f"{mean:.3f}"

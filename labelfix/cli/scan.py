"""labelfix scan."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labelfix.cli import options
from labelfix.cli.terminal import say
from labelfix.methods import AUTO, method_names
from labelfix.networks import own_backbones

if TYPE_CHECKING:
    from labelfix.pipeline import Run

_DEGRADED = 3

_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--method",
        type=click.Choice([AUTO, *method_names()]),
        default=AUTO,
        show_default=True,
        help="How to train; auto compares some where heads are trained in folds, else it is bmm, or pencil.",
    ),
    click.option(
        "--out", type=click.Path(path_type=Path), help="Run folder  [default: runs/<source name>-<method>]"
    ),
    options.seed(),
    options.device("Where to train."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16"]),
        default="auto",
        show_default=True,
        help="auto: bf16 on a GPU, and for an encoder on a processor, with instructions for it; else fp32. "
        "The findings are predicted in fp32.",
    ),
    click.option(
        "--preset", default="fast", show_default=True, help="fast, paper, or another one of the method's."
    ),
    click.option("--epochs", type=click.IntRange(1), help="Scale all phases of the preset to N epochs."),
    click.option(
        "--folds",
        type=click.IntRange(2),
        metavar="K",
        help="Cross-fitting: train K times, judge every row by a network that never saw it.  "
        "[default: 5 for confident-learning and for heads on an encoder, else none]",
    ),
    click.option(
        "--holdout",
        default="auto",
        show_default=True,
        metavar="auto|SHARE",
        help="Without folds: share of the rows that training leaves out, to tell what the network remembers of "
        "labels.  [auto: 500 rows, a fiftieth to a fifth of all]",
    ),
    click.option("--batch-size", type=click.IntRange(2), help="Rows of a training step."),
    click.option(
        "--backbone",
        default="auto",
        show_default=True,
        help=f"{', '.join(own_backbones())}, or a torchvision classifier such as resnet50.",
    ),
    click.option(
        "--encoder",
        default="auto",
        show_default=True,
        metavar="none|auto|lite0|timm:NAME|FILE.onnx",
        help="Pretrained network to see images through: lite0 comes with labelfix, timm's weights are downloaded.  "
        "[auto: lite0 or none, by a trial on 500 images; with --tune alone lite0]",
    ),
    click.option(
        "--tune",
        type=click.Choice(["auto", "none", "all"]),
        default="auto",
        show_default=True,
        help="What of the encoder is trained: none (a head on its features, in seconds) or all.  [auto: none on a CPU]",
    ),
    click.option(
        "--weights",
        default="none",
        show_default=True,
        metavar="none|imagenet|FILE",
        help="Weights to start from: torchvision's published ones, or a file.",
    ),
    click.option(
        "--image-size", default="auto", show_default=True, help="Side of the network's input in pixels."
    ),
    options.one_file(
        "--pred-probs",
        text="Your own out-of-sample probabilities, .npy, .npz or .parquet, a row per image: nothing is trained.",
    ),
    click.option(
        "--class-order",
        metavar="NAMES|FILE",
        help="Classes in the order of the columns of --pred-probs: a,b,c or a file with a name a line.  "
        "[default: numeric, else alphabetic]",
    ),
    options.one_file(
        "--features",
        text="Your own features, .npy, .npz or .parquet, a row per image: heads are trained on them.",
    ),
    click.option(
        "--no-images",
        is_flag=True,
        help="SOURCE is a table without images (text, audio, ...), for --features or --pred-probs.",
    ),
    options.rows,
    options.one_file(
        "--trusted",
        text="Labels that a person has verified: sample_id or file_name, label, and maybe decision.",
    ),
    click.option(
        "--check-trusted/--no-check-trusted",
        default=None,
        help="Whether half of --trusted, where 20 or more of its labels differ from the given ones, is kept from "
        "training, to calibrate the scores and check the corrections on.  [default: but for meta and mixmatch]",
    ),
    click.option(
        "--test",
        metavar="SOURCE",
        help="Labelled images to measure the accuracy on after every epoch.  [default: rows of a test split]",
    ),
    options.root,
    options.image_column,
    options.label_column(),
    *options.label_lists,
    click.option(
        "--task",
        type=click.Choice(["auto", "single", "multi"]),
        default="auto",
        show_default=True,
        help="One label per row, or any number of them (pencil and cross-entropy); auto: what SOURCE holds.",
    ),
    click.option(
        "--merge-classes", is_flag=True, help="Make one of classes whose names look alike: Cat, cat; 3, 3.0."
    ),
    options.one_file(
        "--class-map",
        text="Other names for classes: columns class and to, or one JSON object in a .json file.",
    ),
    click.option(
        "--set", "changes", multiple=True, metavar="KEY=VALUE", help="A setting of the method; repeatable."
    ),
    options.overwrite("Replace a finished run, or one with other options."),
]


def _with_options(function: Callable[..., int]) -> Callable[..., int]:
    """The options in their order, before those of the command line alone."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command(
    "scan",
    epilog="\b\nExample:\n  labelfix scan ./images --method bmm --out runs/first --seed 0\n"
    "  labelfix scan train.parquet --label-column label --rows 5000 --epochs 20\n"
    "  labelfix scan train.csv --pred-probs cross_validated.npy",
)
@click.argument("source")
@_with_options
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what it would do and about how long; write nothing, but into the cache what a trial decodes.",
)
@click.option("--strict", is_flag=True, help="Exit 3 when the fit failed or images are invalid.")
@options.cache_dir
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    help="A line an epoch on stderr: as text, or everything that is said there as JSON objects, one a line.",
)
@options.as_json
@options.quiet
@options.no_progress
def command(
    source: str,
    dry_run: bool,
    strict: bool,
    log_format: str | None,
    as_json: bool,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> int:
    """Train on SOURCE with a method that survives wrong labels, and write what is wrong.

    SOURCE is a folder of class folders, or of splits that hold some; a csv, tsv, json, jsonl or Parquet manifest;
    Hugging Face image Parquet, saved datasets or hf://datasets/NAME; tar shards; or what Label Studio, FiftyOne and
    labelfix export. With --pred-probs nothing is trained. The run folder gets
    corrections.parquet, classifier/, summary.json, epochs.parquet and config.json. The
    same command on an unfinished run goes on where it stopped.
    """
    from labelfix.cli.terminal import Terminal, print_json
    from labelfix.pipeline import scan
    from labelfix.scan_plan import plan

    options["settings"] = _settings(options.pop("changes"))
    with Terminal(quiet=quiet, bar=not no_progress, log=log_format) as terminal:
        if dry_run:
            planned = plan(source, reporter=terminal, **options)
            print_json(planned) if as_json else _print_plan(planned)
            return 0
        run = scan(source, reporter=terminal, **options)
    if as_json:
        print_json({"out": str(run.out), **run.summary})
    else:
        _print_run(run)
    degraded = not run.summary["fit_ok"] or run.summary["counts"]["invalid"]
    return _DEGRADED if strict and degraded else 0


def _settings(changes: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise click.UsageError(f"--set {change}: write it as KEY=VALUE")
        settings[name.strip()] = value.strip()
    return settings


def _print_plan(planned: dict[str, Any]) -> None:
    candidates = planned.get("candidates") or {}
    for name, value in planned.items():
        if name == "candidates":
            continue  # a line each, below
        if name == "probe":
            value = {part: value[part] for part in ("backbone", "preset", "image_size", "folds")}
        shown = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
        if value != {}:
            say(f"{name.replace('_', ' ')}: {shown}")
    for method, settings in candidates.items():
        say(f"settings of {method}: {', '.join(f'{k}={v}' for k, v in settings.items())}")


def _print_copies(copies: dict[str, Any]) -> None:
    """How many rows show the same picture, which of them cannot all be right, and how many are measured on too."""
    if count := copies.get("in_test"):
        say(f"{count} images are in --test too, so that its accuracy is too good")
    if not copies["groups"]:
        return
    say(
        f"{copies['rows']} rows are copies of each other, in {copies['groups']} groups: see `duplicate_group`"
    )
    for kind, what in (
        ("contradicting", "have contradicting labels"),
        ("leaking", "reach across the test split"),
    ):
        if count := copies[f"{kind}_groups"]:
            say(f"  {count} of the groups {what}, such as {_named(copies[f'{kind}_examples'][0])}")


def _named(example: dict[str, Any]) -> str:
    rows = zip(example["sample_ids"], example["file_names"], example["given_labels"], strict=True)
    return " = ".join(f"row {row} {name!r} ({label!r})" for row, name, label in rows)


def _print_run(run: Run) -> None:
    summary = run.summary
    counts = summary["counts"]
    say(f"{counts['judged']} eligible labels, {counts['flagged']} flagged, {counts['corrected']} corrected")
    if summary["noise_rate"] is not None:
        say(f"estimated noise rate: {summary['noise_rate']:.1%}")
    if summary["fit_reason"]:
        say(("note: " if summary["fit_ok"] else "the fit failed: ") + summary["fit_reason"])
    if "test_map" in summary:
        say(f"mean average precision on the test images: {summary['test_map']:.1%}")
    if "test_accuracy" in summary:
        wrong = summary["test_labels_wrong"]
        known = f", {wrong} of which are known to be wrong" if wrong else ""
        say(f"accuracy on the test images: {summary['test_accuracy']:.1%}, by their own labels{known}")
    _print_copies(summary["copies"])
    if any(summary["image_issues"].values()):
        found = [f"{count} {name}" for name, count in summary["image_issues"].items() if count]
        say(f"images that are bad by their looks: {', '.join(found)}: see `image_issue`")
    if counts["invalid"]:
        say(f"{counts['invalid']} invalid images: see the column `error`")
    path = shlex.quote(str(run.corrections))
    say("", f"findings: {run.corrections}", "next:")
    say(f"  labelfix review {path}")
    say(f"  labelfix export {path}")

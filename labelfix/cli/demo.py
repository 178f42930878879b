"""labelfix demo."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from labelfix.cli import options


@click.command("demo", epilog="\b\nExample:\n  labelfix demo --out labelfix-demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="labelfix-demo",
    show_default=True,
    help="Folder of the demo: a new or empty one, or that of an earlier demo.",
)
@options.seed()
@options.overwrite("Replace an earlier demo, finished or of another seed.")
@options.cache_dir
@options.as_json
@options.quiet
@options.no_progress
def command(out: Path, seed: int, overwrite: bool, as_json: bool, quiet: bool, no_progress: bool) -> None:
    """Scan 1,797 real handwritten digits, 20 % of them wrongly labelled, and compare with the truth."""
    from labelfix.cli.terminal import Terminal, print_json, say
    from labelfix.demo import demo

    with Terminal(quiet=quiet, bar=not no_progress) as terminal:
        result = demo(out, seed=seed, overwrite=overwrite, reporter=terminal)
    if as_json:
        print_json(result)
        return
    say(f"{result['images']} digits, {result['noise_rate_true']:.1%} of the labels wrong", "")
    for name, key in (
        ("estimated noise rate", "noise_rate_estimated"),
        ("average precision of noise_score", "average_precision"),
        ("flagged rows that are wrong", "precision"),
        ("wrong rows that are flagged", "recall"),
        ("labels right before", "label_accuracy_given"),
        ("labels right after", "label_accuracy_corrected"),
    ):
        shown = "-" if result[key] is None else f"{result[key]:.3f}"
        say(f"  {name:<36}{shown}")
    say("", f"trained for {result['training_seconds']:.0f} s; findings in {result['run']}; now try")
    say(f"  labelfix review {shlex.quote(result['run'])}")

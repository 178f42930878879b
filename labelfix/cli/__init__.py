"""The command line: a thin skin over the functions of the same names.

Results go to stdout, progress and messages to stderr. A command's file is imported when it is called, and
what it needs only when it runs, so that every --help answers at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from labelfix import processes
from labelfix.cli.terminal import say
from labelfix.errors import InputError, LabelfixError
from labelfix.main_memory import ask_for_large_pages
from labelfix.threads import wait_briefly

COMMANDS = {
    "scan": "Find wrong labels: train, and write corrections.parquet.",
    "predict": "Label other images with the classifier of a run.",
    "review": "Make a page to look at the suspects and decide.",
    "export": "Turn corrections into what the next tool reads.",
    "evaluate": "Compare corrections with a known truth.",
    "corrupt": "Plant label noise of a known kind.",
    "bench": "Compare methods under noise of known truth.",
    "cache": "See and empty the cache of decoded images and features.",
    "methods": "Show the methods, their cards, settings and presets.",
    "demo": "Real digits from scan to corrected labels, in about a minute.",
}


class LazyGroup(click.Group):
    """Commands by name, each imported from its own file when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"labelfix.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from their one-line descriptions, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  labelfix scan ./images --method bmm\n  labelfix export corrections.parquet",
)
@click.version_option(package_name="labelfix")
def cli() -> None:
    """Find and correct wrong labels in image datasets."""


def main() -> None:
    """Run the program and turn every ending into its exit code."""
    wait_briefly()
    ask_for_large_pages()
    debug = os.environ.get("LABELFIX_DEBUG") == "1"
    try:
        code = _run(debug=debug)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        if debug:
            raise
        code = _complain(error.format_message(), error.exit_code)
    except LabelfixError as error:
        if debug:
            raise
        code = _complain(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = _complain("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # the last resort: one line for the user, the rest on request
        if debug:
            raise
        code = _complain(f"{_last_words(error)} (LABELFIX_DEBUG=1 shows where)", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _run(*, debug: bool) -> Any:
    number, count = processes.told()
    if count > 1 and sys.argv[1:2] != ["scan"]:
        raise click.UsageError("only scan runs in several processes; give this command without torchrun")
    with warnings.catch_warnings():
        if number:  # the first speaks for all, but for errors
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            warnings.simplefilter("ignore")
        elif not debug:
            warnings.showwarning = _warn
        return cli.main(prog_name="labelfix", standalone_mode=False)


def _last_words(error: Exception) -> str:
    """What is said of an error that nobody has foreseen; of a file, what the system said of it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}; see to its folder, disk and permissions"
    return f"{type(error).__name__}: {error}"


def _complain(text: str, code: int) -> int:
    number, count = processes.told()
    # What is asked for is wrong in all of a machine alike: the first of each says so.
    if number and code == InputError.exit_code and os.environ["LOCAL_RANK"] != "0":
        return code
    who = f"process {number + 1} of {count}: " if number else ""
    say(f"labelfix: {who}{' '.join(text.split())}", err=True)
    return code


def _warn(message: Warning | str, *_where: Any, **_file: Any) -> None:
    """In place of `warnings.showwarning`: what a library warns of is one line too."""
    say(f"warning: {' '.join(str(message).split())}", err=True)

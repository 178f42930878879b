"""What can go wrong, and the exit code it ends in.

LabelfixError            1    anything that is ours and not the user's
├── InputError           2    the source, a file, a row or an option; says the way out
└── Interrupted        130    stopped by the user; progress is saved
"""

from __future__ import annotations


class LabelfixError(Exception):
    """Base of every error that labelfix raises on purpose; its text is one line for a person."""

    exit_code = 1


class InputError(LabelfixError):
    """Bad input or usage: names the file, row or option, and the way out."""

    exit_code = 2


class Interrupted(LabelfixError):  # noqa: N818 (an interruption is no error of anybody's)
    """The user stopped a run; what was done so far is saved and the same command goes on."""

    exit_code = 130

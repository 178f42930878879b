"""Processes of our own: they start without the user's script, and end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection

_MAIN = threading.Lock()


@contextmanager
def without_script() -> Iterator[None]:
    """Keep the user's script from a process that is started inside: it would import the script again.

    One without `if __name__ == "__main__"` would then start itself over.
    """
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def leave_with_parent() -> None:
    """In such a process: end it at once when the one that started it ends."""
    threading.Thread(target=_wait_and_leave, daemon=True).start()


def _wait_and_leave() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)

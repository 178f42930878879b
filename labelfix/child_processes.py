"""Processes of our own: they run no foreign code, and end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker

_STARTING = threading.RLock()
_SAFE_PATH = "PYTHONSAFEPATH"


@contextmanager
def only_our_code() -> Iterator[None]:
    """Keep foreign code from the processes that are started inside, those that multiprocessing adds included.

    They start as `python -c`, with the working folder first on the import path: a folder of somebody's images that
    holds a `random.py` would run it. And they would import the user's script again; one without
    `if __name__ == "__main__"` would start itself over.
    """
    with _STARTING:
        main, before = sys.modules["__main__"], os.environ.get(_SAFE_PATH)
        sys.modules["__main__"] = types.ModuleType("__main__")
        os.environ[_SAFE_PATH] = "1"
        try:
            yield
        finally:
            sys.modules["__main__"] = main
            if before is None:
                del os.environ[_SAFE_PATH]
            else:
                os.environ[_SAFE_PATH] = before


def start_tracker() -> None:
    """Start the process in which multiprocessing keeps track of locks, which else starts with the first lock."""
    with only_our_code():
        resource_tracker.ensure_running()


def leave_with_parent() -> None:
    """In such a process: end it at once when the one that started it ends."""
    threading.Thread(target=_wait_and_leave, daemon=True).start()


def _wait_and_leave() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)

"""A scan in a process of its own, so that its peak memory is that of the run and of nothing else."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, context
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from labelfix.atomic_files import write_json
from labelfix.benchmark.rows import read_process
from labelfix.child_processes import leave_with_parent, only_our_code, start_tracker
from labelfix.errors import Interrupted, LabelfixError
from labelfix.pipeline import scan
from labelfix.reporting import Reporter

_MEBI = 1 << 20


def scan_in_process(source: Path, options: dict[str, Any], record: Path, reporter: Reporter) -> None:
    """Run `scan` in a process of its own and wait for it; Ctrl-C is passed on to it once.

    Args:
        source: what is scanned.
        options: of the scan.
        record: JSON file that gets seconds_total, peak_memory_mb and peak_gpu_memory_mb (null without a GPU), added
            to what an interrupted process of the same run left there.
        reporter: gets progress and messages.

    Raises:
        InputError, Interrupted: as the scan raises them.
        LabelfixError: anything else that ended the process.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = _Process(target=_run, args=(sender, source, options, record))
    failure: LabelfixError | None
    with receiver, _passing_on(process) as interrupted:
        _start_without_interrupts(process)
        sender.close()
        try:
            failure = _listen(receiver, reporter)
        except EOFError:
            process.join()
            reason = f"the process of {options['out']} ended with exit code {process.exitcode}"
            failure = LabelfixError(f"{reason}; give the same command to go on")
        except BaseException:
            process.terminate()
            raise
        finally:
            process.join()
    process.close()
    if interrupted.is_set() and not isinstance(failure, Interrupted):
        failure = Interrupted("interrupted; give the same command to go on")
    if failure is not None:
        raise failure


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MiB.

    On Linux not getrusage: what that counts starts with the memory of the process that started this one.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / _MEBI
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEBI


def _listen(receiver: connection.Connection, reporter: Reporter) -> LabelfixError | None:
    """Hand on what the process reports, to its end; returns the error that it ended with."""
    while True:
        kind, *values = receiver.recv()
        if kind == "end":
            failure: LabelfixError | None = values[0]
            return failure
        if kind == "progress":
            reporter.progress(*values)
        else:
            reporter.message(*values)


class _Process(context.SpawnProcess):
    def start(self) -> None:
        with only_our_code():
            super().start()


def _start_without_interrupts(process: _Process) -> None:
    # It starts with Ctrl-C held back, until it can save: see `_run`. The tracker would lift that, were it not there.
    start_tracker()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


@contextmanager
def _passing_on(process: _Process) -> Iterator[threading.Event]:
    """Pass every Ctrl-C on to a process; only the main thread gets signals."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        flag.set()
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGINT)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)


class _Sender:
    """A reporter at the other end of a pipe."""

    def __init__(self, pipe: connection.Connection) -> None:
        self._pipe = pipe

    def progress(self, stage: str, done: int, total: int) -> None:
        self._pipe.send(("progress", stage, done, total))

    def message(self, text: str) -> None:
        self._pipe.send(("message", text))


def _run(pipe: connection.Connection, source: Path, options: dict[str, Any], record: Path) -> None:
    """In the process: scan, and tell how it ended."""
    leave_with_parent()
    # Out of the group that a terminal sends Ctrl-C to: the parent passes it on, so that it comes once.
    os.setpgrp()
    failure: LabelfixError | None = None
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        with _recorded(record):
            scan(source, reporter=_Sender(pipe), **options)
    except LabelfixError as error:
        failure = error
    except KeyboardInterrupt:
        failure = Interrupted("interrupted; give the same command to go on")
    except Exception as error:  # a bug: one line for the user, the rest on request
        failure = LabelfixError(f"{options['out']}: {type(error).__name__}: {error}")
        failure.add_note(traceback.format_exc())
    pipe.send(("end", failure))


@contextmanager
def _recorded(record: Path) -> Iterator[None]:
    """Write what the work inside took, also when it is interrupted."""
    before, started = read_process(record), time.monotonic()
    try:
        yield
    finally:
        used = {
            "seconds_total": round((before.get("seconds_total") or 0.0) + time.monotonic() - started, 3),
            "peak_memory_mb": _larger(before.get("peak_memory_mb"), peak_memory_mb()),
            "peak_gpu_memory_mb": _larger(before.get("peak_gpu_memory_mb"), _peak_gpu_memory_mb()),
        }
        write_json(record, used)


def _larger(before: float | None, now: float | None) -> float | None:
    known = [value for value in (before, now) if value is not None]
    return round(max(known), 1) if known else None


def _peak_gpu_memory_mb() -> float | None:
    if not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return max(torch.cuda.max_memory_allocated(device) for device in devices) / _MEBI

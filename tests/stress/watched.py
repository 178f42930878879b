"""Programs and functions that are watched: how they end, how long they take, and the most memory that they hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: exit code; minus the signal that killed it; None where it was stopped because it took too long.
        err: its stderr.
        seconds: that it took.
        peak: most bytes that it and its children held at one moment.
    """

    code: int | None
    err: str
    seconds: float
    peak: int

    @property
    def trouble(self) -> str:
        """What is wrong with such an end: "" where it is one that labelfix promises."""
        if self.code is None:
            return "hang"
        if self.code < 0:
            return f"killed by signal {-self.code}"
        if "Traceback" in self.err:
            return "traceback"
        if self.code not in (0, 2, 3):
            return f"exit {self.code}: {self.err.strip()[-200:]}"
        if self.code == 2 and self.err.rstrip("\n").rpartition("\n")[2][:9] != "labelfix:":
            return f"no line of ours: {self.err[-200:]}"
        return ""


def held_bytes(session: int) -> int:
    """What all processes of a session hold together, shared pages counted once."""
    total = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text()
            if int(stat.rpartition(")")[2].split()[3]) == session:
                rollup = Path(entry.path, "smaps_rollup").read_text()
                total += sum(
                    int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:")
                )
        except (OSError, ValueError):
            continue  # it has gone meanwhile
    return total


def run(args: Sequence[str], cwd: Path, timeout: float, **env: str) -> Ended:
    """Run labelfix so, in a session of its own that is ended as a whole."""
    started, peak = time.monotonic(), 0
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "labelfix", *map(str, args)],
            cwd=cwd, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True, env={**os.environ, **env},
        )  # fmt: skip
        code = None
        while time.monotonic() < started + timeout:
            peak = max(peak, held_bytes(process.pid))
            code = process.poll()
            if code is not None:
                break
            time.sleep(_LOOK_SECONDS)
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        err.seek(0)
        text = err.read().decode(errors="replace")
    return Ended(code, text, time.monotonic() - started, peak)


def forked(function: Callable[[], None], timeout: float) -> Ended:
    """Call a function in a copy of this process, which has imported everything already; its exit code is the end."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(err.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr = os.fdopen(2, "w")
            os._exit(_exit_code(function))
        code, usage = _wait(child, started + timeout)
        err.seek(0)
        text = err.read().decode(errors="replace")
    return Ended(code, text, time.monotonic() - started, usage)


def _exit_code(function: Callable[[], None]) -> int:
    code = 1
    try:
        function()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    return code


def _wait(child: int, until: float) -> tuple[int | None, int]:
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss << 10
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            return None, os.wait4(child, 0)[2].ru_maxrss << 10
        time.sleep(0.005)

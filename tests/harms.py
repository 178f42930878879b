"""What may happen to a worker process, and where its memory is bounded."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

linux = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="only Linux bounds the memory of a process"
)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def sleep():
    time.sleep(60)


def hoard():
    bytearray(3 << 30)

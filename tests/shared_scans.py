"""Scans by several processes, started as torchrun starts them but without it, so that a test has each of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

_SECONDS = 300.0


def free_port() -> str:
    """A port of this machine that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start_together(count: int, *command: str | Path, cwd: Path) -> list[subprocess.Popen[str]]:
    """The same command in so many processes, `python` in front, that know of each other."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    shared |= {"OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=cwd,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def start_nodes(count: int, each: int, *command: str | Path, cwd: Path) -> list[subprocess.Popen[str]]:
    """The launchers of so many machines, all of them this one, each with so many processes; `-m` in front."""
    port = free_port()
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run"),
                *("--nnodes", str(count), "--node-rank", str(node), "--nproc-per-node", str(each)),
                *("--master-addr", "127.0.0.1", "--master-port", port),
                *map(str, command),
            ],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(count)
    ]


def ended(running: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each, when all have ended."""
    found = []
    for process in running:
        out, err = process.communicate(timeout=_SECONDS)
        found.append((process.returncode, out, err))
    return found


def together(count: int, *command: str | Path, cwd: Path) -> list[tuple[int, str, str]]:
    """Start them and wait for all."""
    return ended(start_together(count, *command, cwd=cwd))

"""How much main memory can be had: what the system has, and what the control groups of this process allow it.

A container, a batch job or a service may get a part of the memory of its machine, and is killed when it takes more.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CAUTIOUS = 2 << 30  # where the system reports nothing
_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def ask_for_large_pages() -> None:
    """Let torch ask Linux for pages of 2 MB for its large tensors; before its first one, or it has no effect.

    Else each of their pages of 4 kB is fetched by itself, in every step of a training anew. What a user has set in the
    environment stays as it is.
    """
    os.environ.setdefault(_LARGE_PAGES, "1")


def free_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int:
    """Bytes of main memory that can be had without swapping; a cautious 2 GiB where the system does not report it.

    Args:
        proc: where the system reports on itself.
        groups: where it reports on the control groups of processes.
    """
    free = _CAUTIOUS
    with suppress(OSError, ValueError):
        free = _number_of(proc / "meminfo", "MemAvailable:") * 1024
    return max(min([free, *_left_to_groups(proc, groups)]), 0)


def _left_to_groups(proc: Path, groups: Path) -> list[int]:
    """What each control group that this process is in, and each above it, leaves it in bytes."""
    found = []
    for folder in _folders(proc, groups):
        # The second version of control groups, and the first; the outermost group has no limit in the second.
        with suppress(OSError, ValueError):
            limit, used = _whole(folder / "memory.max"), _whole(folder / "memory.current")
            found.append(limit - used + _given_up(folder, ""))
        with suppress(OSError, ValueError):
            limit, used = _whole(folder / "memory.limit_in_bytes"), _whole(folder / "memory.usage_in_bytes")
            found.append(limit - used + _given_up(folder, "total_"))
    return found


def _folders(proc: Path, groups: Path) -> list[Path]:
    """The group of this process and those above it; inside a container only the last may be there."""
    places: dict[str, str] = {}
    with suppress(OSError, ValueError):
        for line in (proc / "self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, place = line.split(":", 2)
            places |= dict.fromkeys(controllers.split(","), place)
    if "memory" in places:  # the first version has a tree for each controller
        root, place = groups / "memory", places["memory"]
    else:
        root, place = groups, places.get("", "/")
    own = root / place.lstrip("/")
    return [own, *(above for above in own.parents if above.is_relative_to(root))]


def _given_up(folder: Path, prefix: str) -> int:
    """Pages of files that count as used and are given up when memory is asked for."""
    names = (f"{prefix}active_file", f"{prefix}inactive_file")
    return sum(_number_of(folder / "memory.stat", name) for name in names)


def _number_of(file: Path, name: str) -> int:
    """Raises ValueError where no line begins with the name."""
    for line in file.read_text(encoding="ascii").splitlines():
        first, *rest = line.split()
        if first == name:
            return int(rest[0])
    raise ValueError(f"{file} does not tell {name}")


def _whole(file: Path) -> int:
    """Raises ValueError for the word "max", which is no limit."""
    return int(file.read_text(encoding="ascii"))

"""What a control group allows counts as much as what the machine has; large pages are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labelfix.main_memory import ask_for_large_pages, free_memory

GIB = 1 << 30
STAT = "anon 1\ninactive_file 30\nactive_file 12\ntotal_inactive_file 300\ntotal_active_file 120\n"


@pytest.fixture
def machine(tmp_path):
    """16 GiB free; writes the files of a group and says which one the process is in."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n")

    def group(line: str, files: dict[str, dict[str, object]]) -> int:
        (proc / "self" / "cgroup").write_text(line)
        for folder, content in files.items():
            (groups / folder).mkdir(parents=True, exist_ok=True)
            (groups / folder / "memory.stat").write_text(STAT)
            for name, value in content.items():
                (groups / folder / name).write_text(f"{value}\n")
        return free_memory(proc, groups)

    return group


def test_without_groups_it_is_what_the_machine_has(machine):
    assert machine("", {}) == 16 * GIB


def test_a_group_without_a_limit_takes_nothing_away(machine):
    assert machine("0::/a\n", {"a": {"memory.max": "max", "memory.current": GIB}}) == 16 * GIB


def test_pages_of_files_count_as_free(machine):
    found = machine("0::/a\n", {"a": {"memory.max": 4 * GIB, "memory.current": GIB}})
    assert found == 3 * GIB + 42


def test_the_smallest_of_the_groups_above_counts(machine):
    files = {
        "job": {"memory.max": 2 * GIB, "memory.current": GIB},
        "job/task": {"memory.max": 8 * GIB, "memory.current": GIB},
    }
    assert machine("0::/job/task\n", files) == GIB + 42


def test_groups_of_the_first_version_have_a_tree_of_their_own(machine):
    files = {"memory/job": {"memory.limit_in_bytes": 2 * GIB, "memory.usage_in_bytes": GIB}}
    assert machine("7:cpu:/other\n4:memory,hugetlb:/job\n0::/\n", files) == GIB + 420


def test_in_a_container_its_group_may_be_the_root_that_it_sees(machine):
    """It is told the name that its group has outside."""
    files = {"memory": {"memory.limit_in_bytes": GIB, "memory.usage_in_bytes": GIB // 2}}
    assert machine("4:memory:/docker/0123\n", files) == GIB // 2 + 420


def test_a_group_that_is_over_its_limit_has_nothing(machine):
    assert machine("0::/a\n", {"a": {"memory.max": GIB, "memory.current": 2 * GIB}}) == 0


def test_a_system_that_tells_nothing_gets_a_cautious_answer(tmp_path):
    assert free_memory(Path(tmp_path / "no-proc"), tmp_path / "none") == 2 * GIB


@pytest.mark.parametrize(("asked", "seen"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
def test_large_pages_are_asked_for_unless_the_user_says_otherwise(monkeypatch, asked, seen):
    monkeypatch.setattr(os, "environ", dict(asked))
    ask_for_large_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == seen

"""The README's tour, line by line: scan, review, decisions, export, retrain."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from browser import Visit, executable, open_browser
from conftest import write_digits

import labelfix

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)


def tour() -> list[tuple[str, str]]:
    """Kind and text of every code block of the tour, in order."""
    start, end = README.index("<!-- tour -->"), README.index("<!-- end of tour -->")
    return BLOCK.findall(README[start:end])


def run(kind: str, text: str, folder: Path) -> list[str]:
    """Run a block as a user would; returns its command lines."""
    if kind == "python":
        commands = [[sys.executable, "-c", text]]
    else:
        lines = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
        commands = [[sys.executable, "-m", *shlex.split(line)] for line in lines]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LABELFIX_CACHE": str(folder / "cache")}
    for command in commands:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
    return [" ".join(command[2:]) for command in commands]


def review(file: Path, folder: Path) -> None:
    """Accept the first five suspects, keep the label of the sixth, and download what was decided.

    Without a browser the same is written by hand: the other lines of the tour are tested all the same.
    """
    if executable() is None or find_spec("playwright") is None:
        rows = labelfix.read_corrections(file.parent).labelfix.top(6).reset_index()
        decision = ["accept"] * 5 + ["keep"]
        label = [*rows["corrected_label"][:5], rows["given_label"][5]]
        made = rows[["sample_id", "file_name"]].assign(decision=decision, label=label)
        made.to_csv(folder / "decisions.csv", index=False)
        return
    with open_browser() as browser:
        visit = Visit(browser, file)
        visit.press(*"aaaaag")
        with visit.page.expect_download() as download:
            visit.page.locator("#download").click()
        download.value.save_as(folder / "decisions.csv")
        visit.close()


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder in which the whole tour was made."""
    folder = tmp_path_factory.mktemp("tour")
    write_digits(folder / "images", 200, "symmetric-exclusive:0.2")
    for kind, text in tour():
        lines = run(kind, text, folder)
        if "labelfix review" in lines[-1]:
            review(next(folder.glob("runs/*/review.html")), folder)
    return folder


def test_the_tour_goes_from_scan_to_retraining():
    text = " ".join(text for _, text in tour())
    for step in (
        "labelfix scan",
        "labelfix review",
        "--decisions decisions.csv",
        "--trusted decisions.csv",
        "ImageFolder(",
    ):
        assert step in text, step


def test_what_was_decided_is_in_the_export(walked):
    decided = pd.read_csv(walked / "decisions.csv", dtype=str)
    assert sorted(decided["decision"]) == ["accept"] * 5 + ["keep"]
    for name, label in zip(decided["file_name"], decided["label"], strict=True):
        exported = [path.parent.name for path in (walked / "clean").glob(f"*/{Path(name).name}")]
        assert exported == [label]
    assert len(list((walked / "clean").glob("*/*.png"))) == 200


def test_the_second_round_starts_from_what_was_verified(walked):
    decided = pd.read_csv(walked / "decisions.csv", dtype=str)
    table = pq.read_table(walked / "runs" / "second-round" / "corrections.parquet").to_pandas()
    rows = table.iloc[decided["sample_id"].astype(int)]
    assert rows["is_trusted"].all()
    assert rows["corrected_label"].astype(str).tolist() == decided["label"].tolist()
    assert table["is_trusted"].sum() == 6

"""A dataset is pushed to the hub with a card that lists what changed."""

from __future__ import annotations

import huggingface_hub
import pytest
from export_runs import finish
from pictures import picture
from refusals import refuses
from sources import write_hf

from labelfix.exports import export

NAMES = ["a|b", "dog", "eel"]


@pytest.fixture
def run(tmp_path):
    images = [{"bytes": picture(row), "path": f"{row}.png"} for row in range(4)]
    source = write_hf(tmp_path / "x.parquet", images, [0, 1, 2, 0], names=NAMES)
    return finish(tmp_path / "run", source, corrected=[1, 1, 2, 1])[0]


class Hub:
    """What the hub is asked for, in place of the hub."""

    asked: list = []  # noqa: RUF012
    error = None

    def create_repo(self, repository, **options):
        if self.error is not None:
            raise self.error
        self.asked.append(("create", repository, options))

    def upload_folder(self, *, repo_id, folder_path, repo_type):
        self.asked.append(("upload", repo_id, folder_path, repo_type))


def test_the_folder_is_pushed_with_a_card(run, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "asked", [])
    found = export(run, to="hf", out=tmp_path / "out", push="me/pets")
    assert found["pushed"] == "https://huggingface.co/datasets/me/pets"
    assert Hub.asked == [
        ("create", "me/pets", {"repo_type": "dataset", "exist_ok": True}),
        ("upload", "me/pets", str(tmp_path / "out"), "dataset"),
    ]
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\ntask_categories:\n- image-classification\n")
    assert "changed 2 labels" in card
    assert r"| a\|b | dog | 2 |" in card


def test_what_the_hub_refuses_is_one_line_and_the_folder_stays(run, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "error", PermissionError("no\nlogin"))
    words = ("--push me/pets", "is written, but not pushed (PermissionError: no login)", "hf auth login")
    refuses(export, *words, corrections=run, to="hf", out=tmp_path / "out", push="me/pets")
    assert (tmp_path / "out/metadata.parquet").is_file()

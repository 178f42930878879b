"""The folder of the demo: what it may replace, what it leaves alone, and how a killed demo goes on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import refusals

from labelfix.demo import demo

MARK = ".labelfix-demo.json"


class Stopped(BaseException):
    """A kill."""


@pytest.fixture(autouse=True)
def stopped_before_the_scan(monkeypatch):
    """Every demo here ends where its images are written."""

    def stop(*_, **__):
        raise Stopped

    monkeypatch.setattr("labelfix.demo.scan", stop)


def written(out: Path, **options) -> Path:
    with pytest.raises(Stopped):
        demo(out, **options)
    return out


def finished(out: Path) -> Path:
    written(out)
    (out / "run").mkdir()
    (out / "run" / "corrections.parquet").write_bytes(b"findings")
    (out / "corrected.csv").write_text("file_name,label\n")
    return out


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file by its bytes and every link by its target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def refuses(out: Path, *words: str, **options) -> None:
    """It ends in a line with these words, and nothing has changed."""
    before = tree(out.parent)
    refusals.refuses(demo, out, *words, out=out, **options)
    assert tree(out.parent) == before


def test_a_folder_is_marked_before_anything_else_is_written(tmp_path):
    out = written(tmp_path / "demo", seed=3)
    mark = json.loads((out / MARK).read_text())
    assert mark["labelfix_demo"] == 1
    assert mark["seed"] == 3
    assert len(mark["names_sha256"]) == 64
    assert {path.name for path in out.iterdir()} == {MARK, "truth.csv", "images"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_somebody_elses_folder_with_a_truth_csv_is_left_alone(tmp_path, overwrite):
    out = tmp_path / "mine"
    (out / "images" / "cat").mkdir(parents=True)
    (out / "images" / "cat" / "1.png").write_bytes(b"the only copy")
    (out / ".images").mkdir()
    (out / ".images" / "notes.txt").write_text("mine too")
    (out / "truth.csv").write_text("file_name,true_label\n")
    (out / "corrected.csv").write_text("by hand\n")
    refuses(out, "something else than a demo", "choose a new folder", overwrite=overwrite)


def test_a_mark_that_no_demo_wrote_is_none(tmp_path):
    out = written(tmp_path / "demo")
    names_sha256 = json.loads((out / MARK).read_text())["names_sha256"]
    ours = {"labelfix_demo": 1, "seed": 0, "names_sha256": names_sha256}
    others = [{"labelfix_demo": 2}, {"seed": 1}, {"seed": -1}, {"seed": "0"}, {"names_sha256": "0"}]
    marks = [json.dumps(ours | other) for other in others]
    for mark in (*marks, "", "no json", "[1]", "[" * 5000):
        (out / MARK).write_text(mark)
        refuses(out, "something else than a demo", overwrite=True)
    (out / MARK).unlink()
    refuses(out, "something else than a demo of this version", "choose a new folder")


def test_what_no_demo_wrote_is_named(tmp_path):
    out = finished(tmp_path / "demo")
    of_another_row = f"images/4/{next(out.glob('images/3/*.png')).name}"
    others = ("notes.txt", "images/cat", "images/3/0001.jpg", "images/3/mine.png", ".images")
    for name in (*others, of_another_row):
        (out / name).write_text("mine")
        refuses(out, f"holds {name}, which no demo wrote", "move it away", overwrite=True)
        (out / name).unlink()


def test_links_in_the_folder_are_refused(tmp_path):
    out = finished(tmp_path / "demo")
    elsewhere = tmp_path / "elsewhere"
    image = f"images/3/{next(out.glob('images/3/*.png')).name}"
    for name in ("images", "images/3", image, "run", "truth.csv", "corrected.csv", MARK):
        (out / name).rename(elsewhere)
        (out / name).symlink_to(elsewhere)
        words = "something else" if name == MARK else f"holds {name}, which no demo wrote"
        refuses(out, words, overwrite=True)
        (out / name).unlink()
        elsewhere.rename(out / name)


def test_a_link_where_the_images_were_collected_is_refused(tmp_path):
    out = written(tmp_path / "demo")
    shutil.rmtree(out / "images")
    (tmp_path / "elsewhere").mkdir()
    (out / ".images").symlink_to(tmp_path / "elsewhere")
    refuses(out, "holds .images, which no demo wrote")


def test_a_second_name_of_a_file_of_another_folder_is_taken_and_the_file_stays(tmp_path):
    out = written(tmp_path / "demo")
    image = next(out.glob("images/3/*.png"))
    whole = image.read_bytes()
    (tmp_path / "precious").write_text("mine")
    for place in (image, out / "truth.csv"):
        place.unlink()
        os.link(tmp_path / "precious", place)
    written(out)
    assert image.read_bytes() == whole
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "demo").symlink_to(tmp_path / "disk")
    written(tmp_path / "demo")
    written(tmp_path / "demo")
    assert (tmp_path / "disk" / MARK).is_file()


@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_what_is_no_folder_is_refused(tmp_path, kind):
    out = tmp_path / "demo"
    if kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    refuses(out, "choose")


def test_a_demo_killed_while_it_writes_goes_on_with_the_same_bytes(tmp_path, monkeypatch):
    whole = tree(written(tmp_path / "whole"))
    out = tmp_path / "demo"
    calls = []

    def encode(pixels):
        from labelfix.data.images.decoding import encode

        calls.append(pixels)
        if len(calls) == 700:
            raise Stopped
        return encode(pixels)

    with monkeypatch.context() as patched:
        patched.setattr("labelfix.demo.digits.encode", encode)
        written(out)
    half = sorted(out.rglob("*.png"))
    assert len(half) == 699
    half[5].write_bytes(half[5].read_bytes()[:20])
    (out / ".truth.csv.ab12cd_3.tmp").write_text("file_na")
    (out / f".{MARK}.ab12cd_3.tmp").write_text("{")
    times = {path: path.stat().st_mtime_ns for path in half if path != half[5]}
    written(out)
    assert tree(out) == whole
    # A scan that was killed later knows its images by their times.
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_demo_killed_while_it_writes_its_mark_starts_anew(tmp_path):
    out = tmp_path / "demo"
    out.mkdir()
    (out / f".{MARK}.ab12cd_3.tmp").write_text('{"label')
    written(out)
    assert {path.name for path in out.iterdir()} == {MARK, "truth.csv", "images"}


def test_another_seed_replaces_the_images_only_when_asked(tmp_path):
    out = written(tmp_path / "demo")
    refuses(out, "unfinished demo of --seed 0", "--overwrite", seed=1)
    written(out, seed=1, overwrite=True)
    assert tree(out) == tree(written(tmp_path / "new", seed=1))


def test_a_finished_demo_is_replaced_only_when_asked(tmp_path):
    out = finished(tmp_path / "demo")
    refuses(out, "finished demo", "--overwrite")
    written(out, seed=1, overwrite=True)
    shutil.rmtree(out / "run")
    assert tree(out) == tree(written(tmp_path / "new", seed=1))

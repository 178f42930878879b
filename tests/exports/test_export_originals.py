"""Exports hold what the scan saw: a file replaced since by a link, or by what is no image, is refused by name."""

from __future__ import annotations

import io
import json
import os
import signal
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from export_runs import finish
from pictures import picture
from PIL import Image

from labelfix.choices import IMAGE_WAYS
from labelfix.data.images.decoding import FORMATS, HEAD_SIZE, decode, is_image
from labelfix.exports import export
from labelfix.results.originals import read_originals

refuses = partial(refusals.refuses, export)

# Every way that an image has into an export; None writes Parquet.
HOW = [(to, way) for to in ("imagefolder", "hf", "fiftyone") for way in IMAGE_WAYS] + [("hf", None)]
VICTIM = "cat/1.png"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for value, name in enumerate(("cat/0.png", VICTIM, "dog/2.png", "dog/3")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).with_suffix(".png").write_bytes(picture(value))
    return folder


def scanned(folder: Path, source: Path, *, notes_links: bool = True) -> Path:
    """The corrections of a finished run; without `notes_links` of one whose config.json does not tell of links."""
    path, manifest = finish(folder, source)
    links = {"num_links": manifest.num_links, "num_linked_folders": manifest.num_linked_folders}
    files = links if notes_links else {}
    (folder / "config.json").write_text(json.dumps({"source": manifest.options, "files": files}))
    return path


def secret(folder: Path, like: Path) -> Path:
    """A private key with as many bytes as an image."""
    text = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
    size = like.stat().st_size
    (folder / "id_rsa").write_bytes((text * (size // len(text) + 1))[:size])
    return folder / "id_rsa"


def to_link(place: Path, target: Path) -> None:
    place.unlink()
    place.symlink_to(target)


def options(to: str, way: str | None, tmp_path: Path) -> dict[str, object]:
    if way is None:
        return {"to": to, "out": tmp_path / "out" / "new.parquet"}
    return {"to": to, "out": tmp_path / "out" / "new", "images": way}


def swapped_after_the_check(monkeypatch, swap) -> None:
    """Do something once the source has proved to be the same."""

    def checked(*arguments):
        manifest = read_originals(*arguments)
        swap()
        return manifest

    monkeypatch.setattr("labelfix.exports.read_originals", checked)


@contextmanager
def waiting_for_nobody():
    """A pipe without a writer would hold the export up for ever."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("to", "way"), HOW)
class TestAFileReplacedSinceTheScan:
    def test_by_a_link_to_a_key_of_the_same_size(self, images, tmp_path, to, way):
        run = scanned(tmp_path / "run", images, notes_links=False)
        to_link(images / VICTIM, secret(tmp_path, images / VICTIM))
        refuses(VICTIM, "no image any more", "scan again", corrections=run, **options(to, way, tmp_path))
        assert os.listdir(tmp_path / "out") == []

    def test_by_a_link_to_another_image_of_the_same_size(self, images, tmp_path, to, way):
        run = scanned(tmp_path / "run", images)
        (tmp_path / "private.png").write_bytes((images / VICTIM).read_bytes())
        to_link(images / VICTIM, tmp_path / "private.png")
        chosen = options(to, way, tmp_path)
        refuses("1 of its images are links, and 0 were", "--source", corrections=run, **chosen)
        assert export(run, source=images, **chosen)["rows"] == 4

    @pytest.mark.parametrize("kind", ["link", "text", "empty", "pipe", "folder"])
    def test_while_it_is_exported(self, images, tmp_path, monkeypatch, to, way, kind):
        run, victim = scanned(tmp_path / "run", images), images / VICTIM
        (tmp_path / "private.png").write_bytes(victim.read_bytes())

        def swap():
            victim.unlink()
            if kind == "link":
                victim.symlink_to(tmp_path / "private.png")
            elif kind == "pipe":
                os.mkfifo(victim)
            elif kind == "folder":
                victim.mkdir()
            else:
                victim.write_bytes(b"BM, though no bitmap" if kind == "text" else b"")

        swapped_after_the_check(monkeypatch, swap)
        reasons = {
            "link": "has become a link since the scan",
            "pipe": "is no file any more",
            "folder": "cannot be read (Is a directory)",
        }
        with waiting_for_nobody():
            words = reasons.get(kind, "is no image any more")
            refuses(VICTIM, words, corrections=run, **options(to, way, tmp_path))
        assert os.listdir(tmp_path / "out") == []


def test_a_class_folder_that_became_a_link_is_refused(images, tmp_path):
    path = scanned(tmp_path / "run", images)
    (images / "dog").rename(tmp_path / "dogs")
    (images / "dog").symlink_to(tmp_path / "dogs")
    chosen = {"to": "imagefolder", "out": tmp_path / "out"}
    refuses("1 of its folders are links", "--source", corrections=path, **chosen)
    assert export(path, source=images, **chosen)["rows"] == 4


@pytest.mark.parametrize(("to", "way"), HOW)
@pytest.mark.parametrize("linked", ["images", "class folder"])
def test_links_that_were_scanned_are_followed(images, tmp_path, to, way, linked):
    pool = images.rename(tmp_path / "pool")
    images.mkdir()
    if linked == "class folder":
        for name in ("cat", "dog"):
            (images / name).symlink_to(pool / name)
    else:
        for path in pool.rglob("*.png"):
            (images / path.parent.name).mkdir(exist_ok=True)
            (images / path.parent.name / path.name).symlink_to(path)
    run = scanned(tmp_path / "run", images)
    chosen = options(to, way, tmp_path)
    assert export(run, **chosen)["rows"] == 4
    out = chosen["out"]
    if way is None:
        found = [image["bytes"] for image in pq.read_table(out)["image"].to_pylist()]
    else:
        found = [path.read_bytes() for path in out.rglob("*.png")]
    assert sorted(found) == sorted(picture(value) for value in range(4))
    to_link(images / VICTIM, secret(tmp_path, pool / VICTIM))
    with_another = chosen | {"out": out.with_name(f"other{out.suffix}")}
    if linked == "images":
        refuses(VICTIM, "no image any more", corrections=run, **with_another)
    else:
        refuses("1 of its images are links, and 0 were", corrections=run, **with_another)


def test_a_hard_link_is_one_to_the_file_that_was_looked_at(images, tmp_path, monkeypatch):
    run, victim = scanned(tmp_path / "run", images), images / VICTIM
    key, real = secret(tmp_path, victim), os.path.realpath

    def swap(path, **kwargs):
        if str(path) == str(victim):
            os.replace(key, victim)
        return real(path, **kwargs)

    monkeypatch.setattr(os.path, "realpath", swap)
    refuses(VICTIM, "was replaced while", corrections=run, **options("imagefolder", "hardlink", tmp_path))
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("to", ["imagefolder", "hf", "fiftyone"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_findings_that_call_a_key_an_image_are_not_believed(images, tmp_path, to, kind):
    key = secret(tmp_path, images / VICTIM)
    source, labels = tmp_path / f"list.{kind}", ["a", "b"]
    if kind == "csv":
        source.write_text(f"file_name,label\n{images / VICTIM},a\n{key},b\n")
    else:
        cells = [{"bytes": path.read_bytes(), "path": None} for path in (images / VICTIM, key)]
        pq.write_table(pa.table({"image": cells, "label": labels}), source)
    run = scanned(tmp_path / "run", source)
    name = str(key) if kind == "csv" else f"{source}: the image of row 1"
    refuses(f"{name} is no image", corrections=run, to=to, out=tmp_path / "out" / "new")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_the_decoder_is_known_by_its_first_bytes(name):
    for more in [{}] if name != "TIFF" else [{}, {"big_tiff": True}]:
        sink = io.BytesIO()
        Image.new("RGB", (3, 2)).save(sink, name, **more)
        assert is_image(sink.getvalue()[:HEAD_SIZE])
        decode(sink.getvalue(), 8)


def test_other_files_are_no_images():
    texts = (b"", b"B", b"BM", b"BMW,Audi,Opel,Ford", b"-----BEGIN OPENSSH")
    for head in (*texts, b"%PDF-1.7", b"%!PS-Adobe-3.0", b"RIFF....WAVE"):
        assert not is_image(head), head

"""Where a page may go: never over somebody's own file, and a place that cannot be written is one line."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import refusals
import review_data
from conftest import write_digits
from review_runs import make_run

from labelfix.cli import main
from labelfix.exports import export
from labelfix.output_paths import naming
from labelfix.reviews import review

refuses = partial(refusals.refuses, review)

needs_linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="places that only Linux has")


@pytest.fixture
def run(tmp_path):
    write_digits(tmp_path / "images", 20)
    return make_run(tmp_path / "runs" / "one", tmp_path / "images", noise=np.arange(20) / 20)


@pytest.fixture
def complaint(run, capsys, monkeypatch):
    """What `labelfix review --out` says of a place, in one line and with exit 2."""

    def say(out):
        monkeypatch.setattr("sys.argv", ["labelfix", "review", str(run), "--out", str(out)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return say


class TestPlaces:
    @needs_linux
    @pytest.mark.parametrize("folder", ["/proc", "/proc/new", "/sys"])
    def test_where_nobody_may_write(self, run, folder, complaint):
        out = Path(folder) / "page.html"
        refuses(f"--out {out} cannot be written", "choose another place", corrections=run, out=out)
        assert f"--out {out} cannot be written" in complaint(out)

    @needs_linux
    @pytest.mark.parametrize(("to", "name"), [("csv", "x.csv"), ("csv", "new/x.csv"), ("cleanlab", "x")])
    def test_an_export_says_the_same(self, run, to, name):
        out = Path("/proc") / name
        words = (f"--out {out} cannot be written (", "); choose another place")
        refusals.refuses(export, *words, corrections=run, to=to, out=out)

    def test_a_folder_closed_to_all(self, run, tmp_path):
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o555)
        if os.access(closed, os.W_OK):
            pytest.skip("whoever runs this may write everywhere")
        refuses("cannot be written (Permission denied)", corrections=run, out=closed / "page.html")
        refuses("cannot be written (Permission denied)", corrections=run, out=closed / "new" / "page.html")

    @pytest.mark.parametrize("below", ["page.html", "new/page.html"])
    def test_a_file_in_place_of_a_folder(self, run, tmp_path, below, complaint):
        (tmp_path / "file").write_text("mine")
        out = tmp_path / "file" / below
        refuses(f"--out {out}: {tmp_path / 'file'} is no folder", corrections=run, out=out)
        assert "is no folder" in complaint(out)

    @pytest.mark.parametrize("length", [241, 300])
    def test_a_long_name(self, run, tmp_path, length):
        out = tmp_path / f"{'x' * (length - 5)}.html"
        refuses("more than 240 bytes", "shorter", corrections=run, out=out)
        out = tmp_path / f"{'x' * 235}.html"
        assert review(run, out=out)["path"] == str(out)

    def test_no_file_of_somebody_else_is_blamed_on_the_place(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="gone"), naming(tmp_path / "new" / "page.html"):
            (tmp_path / "elsewhere" / "gone").read_bytes()


class TestNobodysPageIsLost:
    @pytest.mark.parametrize(
        "text",
        ["", "<!doctype html><title>labelfix</title>", '<meta name="generator" content="another tool">'],
    )
    def test_a_page_of_something_else(self, run, tmp_path, text, complaint):
        out = tmp_path / "index.html"
        out.write_text(text)
        refuses(f"--out {out} is no review page of labelfix; choose another name", corrections=run, out=out)
        assert "is no review page of labelfix" in complaint(out)
        assert out.read_text() == text

    def test_behind_a_link(self, run, tmp_path):
        (tmp_path / "index.html").write_text("mine")
        (tmp_path / "link.html").symlink_to("index.html")
        refuses("is no review page", corrections=run, out=tmp_path / "link.html")
        assert (tmp_path / "link.html").is_symlink()

    def test_a_page_of_ours_is_replaced(self, run, tmp_path):
        out = tmp_path / "page.html"
        first = review(run, limit=2, out=out)["bytes"]
        assert review(run, limit=5, out=out)["bytes"] > first

    @pytest.mark.parametrize("version", ["0.0.1", "99.1.dev2+g0123456"])
    def test_a_page_of_another_version_is_replaced(self, run, tmp_path, version):
        out = tmp_path / "page.htm"
        report = review_data.report(labelfix_version=version)
        out.write_text(review_data.page_of(review_data.single(), report), encoding="utf-8")
        assert review(run, limit=3, out=out)["shown"] == 3
        assert version not in out.read_text(encoding="utf-8")

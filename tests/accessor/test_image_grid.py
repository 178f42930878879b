"""df.labelfix.show(): the right images under the right labels, and nothing in them that a browser would run."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from accessor_runs import ROWS, make_run
from PIL import Image
from refusals import refuses

import labelfix
from labelfix.data.images.decoding import encode
from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder that is asked; no test changes it."""
    return make_run(tmp_path_factory.mktemp("letters"))


@pytest.fixture
def df(run):
    return labelfix.read_corrections(run)


class Page(HTMLParser):
    """Tags, attributes and text of a fragment, as a browser would read them."""

    def __init__(self, html):
        super().__init__()
        self.images, self.tags, self.cells, self.attributes = [], set(), [], set()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag == "img":
            self.images.append(dict(attributes))
        if tag == "figure":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] = " ".join([*self.cells[-1].split(), *data.split()])


def opened(image):
    address = image["src"]
    assert address.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


class TestShow:
    def test_rows_in_their_order(self, df):
        page = Page(df.labelfix.top().labelfix.show(3)._repr_html_())
        assert page.cells == ["a → b score 0.900 row 1", "b → a score 0.800 row 2", "b score 0.700 row 3"]
        assert [image["alt"] for image in page.images] == ["1.png", "2.png", "3.png"]
        # Image i is 8 wide and 6 + i high: these are the right ones.
        assert [opened(image).size for image in page.images] == [(8, 7), (8, 8), (8, 9)]
        again = Page(df.loc[[5, 0, 5]].labelfix.show().html)
        assert [image["alt"] for image in again.images] == ["5.png", "0.png", "5.png"]
        assert [opened(image).height for image in again.images] == [11, 6, 11]

    def test_rows_without_label_or_picture(self, df):
        page = Page(df.loc[[6, 7]].labelfix.show().html)
        assert page.cells == ["it is no image c row 6", "no label → a row 7"]
        assert len(page.images) == 1

    def test_it_says_what_it_is(self, df):
        assert repr(df.labelfix.show()) == "ImageGrid of 11 images"
        assert df.head(0).labelfix.show().count == 0

    def test_text_stays_text(self, tmp_path):
        evil = "<img src=x onerror=alert(1)>"
        rows = [(evil, "'\"&", *ROWS[1][2:]), ("'\"&", "'\"&", *ROWS[0][2:]), ("z", "z", *ROWS[0][2:])]
        names = ['" onload="alert(1).png', "</figure><script>.png".replace("/", "\\"), "\u202egnp.png"]
        df = labelfix.read_corrections(make_run(tmp_path, rows, names=names))
        page = Page(df.labelfix.show().html)
        assert page.tags <= {"div", "figure", "img", "figcaption", "bdi", "strong", "br"}
        assert page.attributes <= {"src", "alt", "title", "style"}
        assert page.cells[0] == f"{evil} → '\"& score 0.900 row 0"
        assert [image["alt"] for image in page.images] == names
        assert all(image["src"].startswith("data:image/") for image in page.images)

    def test_data_that_moved_or_changed(self, tmp_path):
        df = labelfix.read_corrections(make_run(tmp_path / "run"))
        images = tmp_path / "run" / "images"
        moved = images.rename(tmp_path / "elsewhere")
        refuses(df.labelfix.show, "show: ", "is not there", "source=")
        assert df.labelfix.show(source=moved / "labels.parquet").count == 11
        (moved / "0.png").write_bytes(encode(np.zeros((90, 90), np.uint8)))
        refuses(df.labelfix.show, "changed since", source=moved / "labels.parquet")

    def test_images_in_memory_come_from_the_cache(self, tmp_path):
        rows = [row for row in ROWS if row[4]]
        df = labelfix.read_corrections(make_run(tmp_path, rows, in_memory=True))
        page = Page(df.iloc[[3, 1]].labelfix.show().html)
        pixels = [np.asarray(opened(image)) for image in page.images]
        assert [values.shape for values in pixels] == [(8, 8, 3)] * 2
        assert [int(values.max()) for values in pixels] == [3, 1]

    def test_data_that_moved_come_from_the_cache_with_a_warning(self, tmp_path):
        df = labelfix.read_corrections(make_run(tmp_path / "run"))
        images = tmp_path / "run" / "images"
        ImageStore.open_or_build(Manifest.read(images / "labels.parquet"), 8)
        images.rename(tmp_path / "elsewhere")
        words = "is not there.*The pictures are the run's own copies, 8 pixels wide"
        with pytest.warns(UserWarning, match=words):
            assert df.labelfix.show().count == 11

    def test_refused(self, df):
        refuses(df.labelfix.show, "show: n is 0", n=0)
        refuses(df.labelfix.show, "size is 5000", "16 to 1024", size=5000)
        refuses(df.drop(columns="file_name").labelfix.show, "no column 'file_name'")
        refuses(df.assign(sample_id=df["sample_id"] + 5).labelfix.show, "sample_ids 0 to 10")
        lost = pd.DataFrame({name: df[name] for name in df})
        refuses(lost.labelfix.show, "attrs")

"""An invented run for the tests of the review page: few samples, and every kind of trouble among them."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
from markupsafe import Markup

from labelfix.data.images.decoding import encode
from labelfix.reviews import page

HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_FILE = "../../etc/<script>alert(2)</script>.png"
RUNS = '=cmd|"/c calc"!A1'
NAMES = ["cat", "dog", "frog", "horse", "ship", "truck", "bird", "deer", "plane", "van", HOSTILE, RUNS]
NAMES.append("a class whose name goes on and on, as names of products and of diseases in catalogues do")


def picture(shade: int, size: int = 8) -> str:
    """A tiny image as a data URI."""
    pixels = np.full((size, size), shade, np.uint8)
    pixels[: size // 2, : size // 2] = 255 - shade
    return "data:image/png;base64," + base64.b64encode(encode(pixels)).decode()


def single(count: int = 24) -> dict[str, Any]:
    """Samples 1, 11, 21, ...: given one of four classes, suggested the next or the one after; scores fall.

    Sample 21 is unlabelled and without score; 31 has no image, 41 a hostile name, 51 a name that needs quotes; the
    hostile class is the third likeliest of all, the class that a spreadsheet would run the fourth.
    """
    samples = []
    for row in range(count):
        given = row % 4
        suggested = (given + 1 + row // 4 % 2) % 13
        likely = [
            [suggested, 0.7],
            [given, 0.1],
            [10, 0.08],
            [11, 0.05],
            *([k, 0.01] for k in (5, 6, 7, 8, 9)),
            [12, 0.005],
        ]
        sample: dict[str, Any] = {
            "id": 10 * row + 1, "file": f"train/{NAMES[given]}/{row:04d}.png", "given": given, "corrected": suggested,
            "suggested": suggested, "score": round(max(0.0, 0.99 - 0.03 * row), 4), "confidence": 0.7, "flagged": True,
            "likely": likely, "added": [], "removed": [], "href": f"../images/{row:04d}.png",
            "thumb": picture(8 * row % 256),
        }  # fmt: skip
        samples.append(sample)
    samples[2] |= {"given": None, "score": None}
    samples[3] |= {"thumb": None, "href": "javascript:alert(3)"}
    samples[4] |= {"file": HOSTILE_FILE}
    samples[5] |= {"file": '@a,"b".png'}
    return _data("single", samples)


def unchanged() -> dict[str, Any]:
    """Eight samples as in `single`, but no change is suggested for 1 and 41, both cats, and for 71, a horse."""
    samples = single(8)["samples"]
    for place in (0, 4, 7):
        given = samples[place]["given"]
        samples[place] |= {"corrected": given, "suggested": given, "confidence": 0.1, "flagged": False}
    return _data("single", samples)


def copies() -> dict[str, Any]:
    """Six samples as in `single`: 1, 11 and 41 are copies under three labels, 21 and 31 leak, 51 is odd and blurred."""
    samples = single(6)["samples"]
    samples[2] |= {"given": 2, "score": 0.93}
    for place in (0, 1, 4):
        samples[place] |= {"group": 1, "two_labels": True}
    samples[4] |= {
        "given": 2,
        "suggested": 3,
        "file": "cell.txt",
        "columns": [["text", HOSTILE]],
        "thumb": None,
    }
    for place in (2, 3):
        samples[place] |= {"group": 21, "leak": True}
    samples[5] |= {"outlier": 0.97, "odd": True, "issue": "blurred"}
    return _data("single", samples)


def multi() -> dict[str, Any]:
    """Three samples with several labels each."""
    likely = [[1, 0.9], [0, 0.4], [10, 0.2]]
    shared = {"confidence": 0.6, "flagged": True, "likely": likely, "href": None}
    samples = [
        {"id": 0, "file": "a.png", "given": [0], "corrected": [0, 1], "added": [1], "removed": [], "score": 0.9},
        {"id": 1, "file": "b.png", "given": [0, 10], "corrected": [1], "added": [1], "removed": [0, 10], "score": 0.8},
        {"id": 2, "file": "c.png", "given": [], "corrected": [1], "added": [1], "removed": [], "score": 0.7},
    ]  # fmt: skip
    return _data(
        "multi",
        [shared | sample | {"suggested": sample["corrected"], "thumb": picture(50)} for sample in samples],
    )


def report(**changes: Any) -> dict[str, Any]:
    """What the summary shows; the hostile names stand in every place where a run's own text does."""
    by_class = [
        {"name": name, "rows": 40, "noise_rate": 0.25, "flagged": 9, "corrected": 5} for name in NAMES
    ]
    bars = '<rect width="2" height="3" fill="var(--accent)"/>'
    chart = Markup(f'<svg viewBox="0 0 4 3" role="img" aria-label="bars">{bars}</svg>')
    return {
        "title": f"Run {HOSTILE}", "source": HOSTILE_FILE, "method": "bmm", "labelfix_version": "0.1.0",
        "noise_rate": 0.2, "fit_ok": True, "fit_reason": "", "note": "",
        "counts": {
            "rows": 1200, "judged": 1190, "flagged": 24, "corrected": 12, "unlabelled": 1, "trusted": 4, "invalid": 2,
        },
        "shown": 24, "suspects": 24, "by_class": [*by_class, {**by_class[0], "name": "empty", "noise_rate": None}],
        "pairs": [{"given": HOSTILE, "corrected": "dog", "count": 7}, {"given": "cat", "corrected": RUNS, "count": 3}],
        "charts": [{"title": "Scores", "caption": "How many rows have which score.", "svg": chart}],
        "invalid": [{"file_name": HOSTILE_FILE, "error": f"no image: {HOSTILE}"}], "invalid_total": 2,
        "settings": [["source", HOSTILE_FILE], ["epochs", "8"]], **changes,
    }  # fmt: skip


class Reader(HTMLParser):
    """Every tag of a page with its attributes, the raw text of scripts and styles, and the words outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag in ("script", "style"):
            self.raw.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            attributes, text = self.raw.pop()
            self.raw.append((attributes, text + data))
        else:
            self.words.append(data)

    @property
    def blocks(self) -> dict[str, Any]:
        """The JSON that the page holds, by the id of its element; the thumbnails back at their samples."""
        found = {attributes["id"]: json.loads(text) for attributes, text in self.raw if attributes.get("id")}
        places = [name for name in found if name.startswith("thumbs-")]
        thumbs = [thumb for place in range(len(places)) for thumb in found.pop(f"thumbs-{place}")]
        for sample, thumb in zip(found["data"]["samples"], thumbs, strict=True):
            sample["thumb"] = thumb
        return found


def page_of(data: dict[str, Any], report: dict[str, Any]) -> str:
    """The whole page as one text."""
    return "".join(page.chunks(data, report))


# What a page says of a row beside its label; of most rows nothing.
UNNOTICED: dict[str, Any] = {
    "group": None, "two_labels": False, "leak": False, "outlier": None, "odd": False, "issue": None, "columns": [],
}  # fmt: skip


def _data(task: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    run = {"id": f"run-{task}-{len(samples)}", "source": "images", "method": "bmm", "task": task}
    return {"run": run, "class_names": NAMES, "samples": [UNNOTICED | sample for sample in samples]}

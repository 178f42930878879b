"""The file of a review page, read as text: its policy, what stands in it, and that names stay names."""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path

import pytest
import review_data
from review_data import HOSTILE, HOSTILE_FILE, NAMES, Reader

from labelfix.reviews import page

ASSETS = Path(page.__file__).parent / "assets"


@pytest.fixture(scope="module")
def single():
    return Reader(review_data.page_of(review_data.single(), review_data.report()))


def test_the_policy_allows_what_is_inside_and_nothing_else(single):
    def hashed(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    scripts = [text for attributes, text in single.raw if attributes == {} and "{" in text and "=>" in text]
    styles = [text for attributes, text in single.raw if text not in scripts and attributes == {}]
    assert (len(scripts), len(styles)) == (2, 1)
    expected = (
        f"default-src 'none'; script-src {hashed(scripts[0])} {hashed(scripts[1])}; style-src {hashed(styles[0])}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    policies = [
        tag["content"] for _, tag in single.tags if tag.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [expected]
    names = [tag for tag, _ in single.tags]
    assert names.index("meta") < names.index("script"), "the policy comes before what it is about"


def test_nothing_is_inline_and_nothing_is_loaded(single):
    for tag, attributes in single.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))


def test_data_come_back_as_they_went_in(single):
    data, found = review_data.single(), single.blocks["data"]
    assert (found["run"], found["class_names"]) == (data["run"], NAMES)
    assert found["samples"] == data["samples"]


def test_no_data_end_their_element():
    data = review_data.single()
    hostile = ["</script><script>alert(1)</script>", "<!--", "&lt;", "\u2028", "\ud800"]
    data["class_names"] = [*hostile, *NAMES[5:]]
    reader = Reader(review_data.page_of(data, review_data.report(title="</title><script>alert(1)</script>")))
    assert reader.blocks["data"]["class_names"] == data["class_names"]
    assert sum(tag == "script" for tag, _ in reader.tags) == 2 + 1 + 2


def test_names_in_the_summary_are_text(single):
    words = "".join(single.words)
    for name in (HOSTILE, HOSTILE_FILE, f"no image: {HOSTILE}"):
        assert name in words
    assert "alert(1)" not in [value for _, attributes in single.tags for value in attributes.values()]
    assert not [attributes for tag, attributes in single.tags if tag == "img" and attributes.get("src")]


def test_the_summary_says_what_the_report_says(single):
    words = " ".join(" ".join(single.words).split())
    counts = "1,200 rows in all: 1 unlabelled, 4 trusted, 2 unreadable."
    assert f"{counts} This page shows 24 of 24 suspects." in words
    assert "The first 1 of 2." in words
    assert "empty 40 \N{EN DASH} 9 5" in words, "a class without an estimate has a dash"


def test_numbers_that_json_lacks_are_an_error():
    data = review_data.single()
    data["samples"][0]["score"] = math.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        review_data.page_of(data, review_data.report())


def test_a_page_without_samples_and_without_charts():
    nothing = {name: [] for name in ("charts", "by_class", "pairs", "invalid", "settings")}
    report = review_data.report(**nothing, invalid_total=0, noise_rate=None)
    text = review_data.page_of(review_data.single() | {"samples": []}, report)
    assert 'id="thumbs-0"' not in text
    assert "Files that could not be read" not in text


def test_every_asset_is_used_and_short():
    assert {path.stem for path in (ASSETS / "scripts").iterdir()} == set(page.SCRIPTS)
    assert {path.stem for path in (ASSETS / "styles").iterdir()} == set(page.STYLES)
    for path in ASSETS.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, path.name
        assert "innerHTML" not in text
        assert path.suffix != ".js" or not {"</script", "<!--", "eval(", "document.write"} & set(text.split())

"""Fixtures for the review page in a browser: one page of each kind, and visits to them that watch for trouble."""

from __future__ import annotations

import pytest
import review_data
from browser import Visit, open_browser


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """One page of each kind, by name."""
    folder = tmp_path_factory.mktemp("pages")
    report = review_data.report
    failed = report(
        shown=1_500, suspects=5_000, fit_ok=False, fit_reason=review_data.HOSTILE, note=review_data.HOSTILE
    )
    contents = {
        "single": (review_data.single(), report()),
        "unchanged": (review_data.unchanged(), report(shown=8, suspects=8)),
        "multi": (review_data.multi(), report(shown=3, suspects=3)),
        "copies": (review_data.copies(), report(shown=6, suspects=6)),
        "many": (review_data.single(1_500), failed),
        "none": (review_data.single() | {"samples": []}, report(shown=0, suspects=0)),
    }
    files = {name: folder / f"{name}.html" for name in contents}
    for name, file in files.items():
        file.write_text(review_data.page_of(*contents[name]), encoding="utf-8")
    return files


@pytest.fixture
def visit(browser, pages):
    """Opens a page; one that had an error or asked for something outside fails the test at its end."""
    visits = []

    def open_page(name="single", fragment="", **context):
        visits.append(Visit(browser, pages[name], fragment, **context))
        return visits[-1]

    yield open_page
    for one in visits:
        one.close()

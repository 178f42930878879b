"""The review page for everybody: by screen reader and keyboard alone, on a phone, in the dark, without its script."""

from __future__ import annotations

import pytest
from review_data import NAMES

pytest_plugins = ["review_visits"]
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def grave(visit):
    """What axe calls critical or serious, in words."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    # Dialogs fade in nowhere, but colours of buttons take a while: what is measured must stand still.
    visit.page.emulate_media(reduced_motion="reduce")
    found = axe.Axe().run(visit.page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        (one["id"], node["target"], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_grave(visit, colours):
    it = visit(color_scheme=colours)
    states = {
        "grid": ["ArrowRight", "a", "g", "s", "4"], "large view": ["k", "Enter"], "classes": ["c"],
        "keys": ["Escape", "Escape", "?"], "bulk": ["Escape", "b"],
    }  # fmt: skip
    for state, keys in states.items():
        it.press(*keys)
        assert grave(it) == [], state
    it.press("Escape")
    it.page.click("#tab-summary")
    assert grave(it) == [], "summary"


@pytest.mark.parametrize("name", ["single", "multi"])
def test_axe_finds_nothing_grave_on_a_phone(visit, name):
    it = visit(name, **PHONE)
    it.page.tap("#filters-toggle")
    assert grave(it) == []
    it.page.tap(".card .frame")
    assert grave(it) == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_grave_in_rows_with_several_labels(visit, colours):
    it = visit("multi", color_scheme=colours)
    it.page.focus(".card[data-id='1']")
    states = {
        "grid": ["1", "2", "2"],
        "large view": ["Enter"],
        "own label": ["c", *"ship", "Enter"],
        "keys": ["?"],
    }
    for state, keys in states.items():
        it.press(*keys)
        assert grave(it) == [], state


def test_colours_are_the_systems_until_chosen(visit):
    it = visit(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = it.page.evaluate(ground)
    it.page.click("#theme")
    assert it.page.evaluate(ground) != dark
    it.page.reload()
    assert it.page.evaluate(ground) != dark
    assert it.page.locator("#theme").get_attribute("aria-pressed") == "false"


def test_single_keys_can_be_turned_off(visit):
    it = visit()
    it.press("?")
    it.page.uncheck("#single-keys")
    it.press("Escape", "a", "Control+z")
    assert it.texts("#progress-text") == ["0 decided, 24 left"]


def test_the_summary_needs_no_script(visit):
    it = visit(java_script_enabled=False)
    assert it.page.locator("#review").is_hidden()
    assert it.page.locator("noscript").is_visible()
    assert "20.0 %" in it.texts("#summary .numbers")[0]


def test_on_a_phone(visit):
    it = visit(**PHONE)
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert it.page.evaluate(overflow) == 0
    it.page.tap("#filters-toggle")
    assert it.page.locator("#search").is_visible()
    it.page.tap(".card .frame")
    box = it.page.locator("[data-action=accept]").bounding_box()
    assert box["y"] + box["height"] > 720
    small = it.page.locator("#viewer button:visible").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).filter(box => box.width < 40 || box.height < 40).length"
    )
    assert small == 0
    it.page.tap("[data-action=accept]")
    assert it.texts("#viewer-place") == ["2 of 24 · sample 11"]
    it.page.tap("#viewer-close")
    it.page.tap("#tab-summary")
    assert it.page.evaluate(overflow) == 0


def focused(visit):
    return visit.page.evaluate("document.activeElement.id || document.activeElement.dataset.id")


def test_skipping_to_the_content_stays_in_the_summary(visit):
    it = visit(fragment="#summary")
    it.page.focus(".skip-link")
    it.press("Enter")
    it.page.wait_for_function("() => location.hash === '#main'")
    assert it.page.locator("#summary").is_visible()
    assert it.page.locator("#review").is_hidden()
    assert focused(it) == "main"
    it.page.click("#tab-review")
    it.page.locator("#review").wait_for()  # until it is visible


def test_the_key_sheet_opens_over_the_summary(visit):
    it = visit(fragment="#summary")
    it.press("a", "?")
    assert it.page.locator("#help-dialog").is_visible()
    assert "Choose one of the likeliest classes" in it.texts("#help-dialog")[0]
    assert "undecided and skipped samples take the method" in it.texts("#help-dialog")[0]
    it.press("Escape")
    assert it.page.locator("#progress").evaluate("bar => bar.value") == 0, "no other key acts there"


def test_a_key_that_is_held_decides_once_and_moves_on(visit):
    it = visit()
    it.press("ArrowRight", "ArrowLeft")
    for key in ("a", "3", "0", "Backspace"):
        for _ in range(3):  # the second and third are repeats
            it.page.keyboard.down(key)
        it.page.keyboard.up(key)
    assert it.texts("#progress-text") == ["3 decided, 21 left"]
    for _ in range(3):
        it.page.keyboard.down("z")
    it.page.keyboard.up("z")
    assert it.texts("#progress-text") == ["0 decided, 24 left"]
    for _ in range(3):
        it.page.keyboard.down("j")
    it.page.keyboard.up("j")
    assert focused(it) == "41"
    it.press("Enter")
    it.page.focus("[data-action=accept]")
    for _ in range(3):
        it.page.keyboard.down("Enter")
    it.page.keyboard.up("Enter")
    assert it.texts("#viewer-place") == ["5 of 24 · sample 51"]


def test_the_tenth_class_has_a_key(visit):
    it = visit(fragment="#sample=11")
    assert it.texts("#viewer-likely kbd") == [*"123456789", "0"]
    it.press("0", "k")
    assert it.texts("#viewer-decision") == [f"Changed to {NAMES[-1]}"]


@pytest.mark.parametrize("in_large_view", [False, True])
def test_the_focus_has_a_place_where_nothing_is_left(visit, in_large_view):
    it = visit("multi")
    it.page.check("[name=state][value=undecided]")
    it.page.focus(".card[data-id='0']")
    if in_large_view:
        it.press("Enter")
    it.press("a", "g", "s")
    it.page.wait_for_function("() => document.activeElement.id === 'empty-reset'")
    it.press("Enter")
    assert focused(it) == "0", "and goes back to the samples with them"


def test_a_search_for_blanks_is_none(visit):
    it = visit()
    it.page.fill("#search", "   ")
    assert it.page.locator("#reset-filters").is_disabled()
    assert it.texts("#count") == ["24 samples"]
    it.page.fill("#search", "  dog/ ")
    assert it.texts("#count") == ["5 of 24 samples"]

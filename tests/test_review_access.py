"""The review page for everybody: by screen reader and keyboard alone, on a phone, in the dark, without its script."""

from __future__ import annotations

import pytest

pytest_plugins = ["review_visits"]
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def grave(visit):
    """What axe calls critical or serious, in words."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    # Dialogs fade in nowhere, but colours of buttons take a moment: what is measured must stand still.
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

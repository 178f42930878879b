"""The review page in several tabs, left and come back to, and opened from where it has no address."""

from __future__ import annotations

import json

pytest_plugins = ["review_visits"]
KEY = "labelfix-review:run-single-24"
STORE = "([key, made]) => localStorage.setItem(key, JSON.stringify(made))"


def store(tab, made):
    """What another tab would store; the tab itself gets no event of it, as if that were still on its way."""
    tab.evaluate(STORE, [KEY, made])


def stored(tab):
    return json.loads(tab.evaluate("key => localStorage.getItem(key)", KEY))


def test_both_tabs_show_what_one_decides(visit):
    it = visit()
    other = it.tab()
    it.press("a")
    other.wait_for_function("() => document.getElementById('progress').value === 1")
    store(it.page, {"1": "accept", "999": "keep"})
    other.wait_for_function("() => document.getElementById('other-rows')?.textContent.includes('1 decision')")
    store(it.page, {"1": "accept"})
    other.wait_for_function("() => !document.getElementById('other-rows')")


def test_undo_leaves_what_another_tab_has_decided(visit):
    it = visit()
    it.press("a", "a", "g", "z")
    assert stored(it.page) == {"1": "accept", "11": "accept"}
    other = it.tab()
    for key in ("j", "g", "s"):  # samples 11 and 31
        other.keyboard.press(key)
    it.page.wait_for_function("() => document.getElementById('tally-skip').textContent === '1'")
    it.press("Shift+Z")
    assert it.texts("#status") == ["Nothing to redo"]
    it.press("z")
    assert it.texts("#status") == ["Undone: sample 1"], "the step before, since 11 is another's by now"
    it.press("z")
    assert it.texts("#status") == ["Nothing to undo"]
    assert it.page.locator("#undo").is_disabled()
    assert stored(it.page) == {"11": "keep", "31": "skip"}


def test_a_step_goes_back_but_for_what_another_tab_has_decided(visit):
    it = visit()
    it.page.select_option("#class-filter", "0")
    it.press("b")
    it.page.click("#bulk-confirm")
    made = stored(it.page)
    assert len(made) == 6
    store(it.page, made | {"41": "skip"})
    it.press("z")
    assert it.texts("#status") == ["Undone: 5 samples"]
    assert stored(it.page) == {"41": "skip"}
    it.press("Shift+Z")
    assert stored(it.page) == made | {"41": "skip"}


def test_nothing_unseen_is_written_over(visit):
    it = visit()
    it.press("a")
    store(it.page, {"1": "skip", "51": "keep"})
    it.press("g")  # sample 11
    assert stored(it.page) == {"1": "skip", "11": "keep", "51": "keep"}
    assert it.texts("#progress-text") == ["3 decided, 21 left"]


def test_what_could_not_be_stored_is_not_lost(visit):
    it = visit()
    it.press("a")
    refuse = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }"
    it.page.evaluate(f"() => {{ window.set = Storage.prototype.setItem; {refuse} }}")
    it.press("g", "Home", "Backspace")  # sample 11 is kept, the decision about 1 taken away
    assert "keeps no decisions" in it.texts("#notices")[0]
    it.page.evaluate("() => { Storage.prototype.setItem = window.set }")
    store(it.page, {"1": "accept", "51": "keep"})
    it.press("s")
    assert stored(it.page) == {"1": "skip", "11": "keep", "51": "keep"}


def test_a_tab_that_was_away_catches_up(visit):
    it = visit()
    events = (
        "document.dispatchEvent(new Event('visibilitychange'))",
        "window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))",
    )
    for count, event in enumerate(events, 1):
        store(it.page, {str(10 * row + 1): "skip" for row in range(count)})
        assert it.texts("#progress-text") == [f"{count - 1} decided, {25 - count} left"]
        it.page.evaluate(event)
        assert it.texts("#progress-text") == [f"{count} decided, {24 - count} left"]


def test_opened_from_a_blob(visit):
    it = visit("none")
    text = it.file.with_name("single.html").read_text(encoding="utf-8")
    it.page.evaluate(
        "text => { location.href = URL.createObjectURL(new Blob([text], {type: 'text/html'})) }", text
    )
    it.page.locator(".card").first.wait_for()
    assert it.page.url.startswith("blob:")
    it.press("ArrowRight", "ArrowLeft", "Enter")
    assert it.texts("#viewer-file") == ["train/cat/0000.png"]
    assert it.page.locator("#viewer-original").is_hidden()
    it.press("a")
    assert it.texts("#viewer-place") == ["2 of 24 · sample 11"]

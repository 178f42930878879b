"""Rows on the review page for which no change is suggested: to accept one is to keep its label."""

from __future__ import annotations

from review_data import HOSTILE

pytest_plugins = ["review_visits"]


def decisions(visit):
    """Decision and label by sample, as downloaded."""
    lines = visit.downloaded().splitlines()[1:]
    return {int(line.split(",")[0]): ",".join(line.rsplit(",", 2)[1:]) for line in lines}


def test_a_card_says_so_and_has_no_arrow(visit):
    it = visit("unchanged")
    card = it.page.locator(".card[data-id='1']")
    assert card.locator(".given").inner_text() == "cat"
    assert card.locator(".suggested").inner_text() == "no change suggested"
    assert card.get_attribute("aria-label") == (
        "Undecided: given cat, no change suggested, noise score 0.99, confidence 10 %, train/cat/0000.png, sample 1"
    )
    other = it.page.locator(".card[data-id='11'] .suggested")
    assert other.inner_text().split() == ["\N{RIGHTWARDS ARROW}", "frog"]


def test_the_large_view_says_so_and_accepting_keeps(visit):
    it = visit("unchanged", "#sample=1")
    assert it.texts("#viewer-verdict")[0].split("\n") == ["Given", "cat", "no change suggested"]
    it.press("ArrowRight")
    assert it.page.locator("#viewer-verdict .suggested").inner_text() == "frog"
    it.press("ArrowLeft")
    it.page.click("[data-action=accept]")
    it.press("k")
    assert it.texts("#viewer-decision") == ["Kept cat"]
    assert it.page.locator("[data-action=keep]").get_attribute("aria-pressed") == "true"
    it.press("Escape")
    assert decisions(it) == {1: "keep,cat"}


def test_keys(visit):
    it = visit("unchanged")
    it.press("a", "a", "3", "Home", "2")
    assert decisions(it) == {1: "keep,cat", 11: "accept,frog", 31: f"change,{HOSTILE}"}


def test_in_bulk(visit):
    it = visit("unchanged")
    it.press("b")
    assert it.texts("#bulk-confirm") == ["Accept 8 samples"]
    note = "5 labels would change, 3 would stay as given: no change is suggested."
    assert it.texts("#bulk-note") == [note]
    it.page.click("#bulk-confirm")
    assert it.texts("#status") == ["Accepted 8 samples, 3 of them kept as given"]
    kinds = {sample: decision.split(",")[0] for sample, decision in decisions(it).items()}
    assert kinds == {1: "keep", 41: "keep", 71: "keep"} | dict.fromkeys([11, 21, 31, 51, 61], "accept")
    it.press("z")
    assert it.texts("#progress-text") == ["0 decided, 8 left"]


def test_they_are_no_pair(visit):
    it = visit("unchanged")
    pairs = it.page.locator("#pair-filter option").all_inner_texts()
    assert len(pairs) == 1 + 5
    assert not [pair for pair in pairs if pair.startswith(("cat \N{RIGHTWARDS ARROW} cat", "no change"))]
    it.page.select_option("#sort", "confusion")
    order = it.page.locator(".card").evaluate_all("cards => cards.map(card => Number(card.dataset.id))")
    assert order[-3:] == [1, 41, 71]
    it.page.select_option("#class-filter", "0")
    assert it.texts("#count") == ["2 of 8 samples"]

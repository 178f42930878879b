"""Rows with several labels on the review page: each added and each removed label is accepted or refused on its own."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from browser import Visit
from review_data import HOSTILE, NAMES, multi, page_of, report

from labelfix.data.verified_labels import Known, read_verified

pytest_plugins = ["review_visits"]
ADDED, GONE, OTHER = "+ dog", "\N{MINUS SIGN} cat", f"\N{MINUS SIGN} {HOSTILE}"
HEADER = "sample_id,file_name,decision,label"


def states(visit, sample=1):
    """What became of each change on the card of a sample."""
    chips = visit.page.locator(f".card[data-id='{sample}'] button.chip")
    names = chips.evaluate_all("all => all.map(one => [one.innerText, one.className.split(' ').at(-1)])")
    return dict(map(tuple, names))


def tallies(visit):
    names = ("undecided", "decided", "accept", "keep", "change", "partly")
    return {name: int(visit.texts(f"#tally-{name}")[0]) for name in names}


def at(visit, sample):
    visit.page.locator(f".card[data-id='{sample}']").focus()


def test_a_key_accepts_refuses_and_leaves_open(visit):
    it = visit("multi")
    at(it, 1)
    assert states(it) == {ADDED: "open", GONE: "open", OTHER: "open"}
    it.press("1", "2", "2")
    assert states(it) == {ADDED: "accepted", GONE: "refused", OTHER: "open"}
    assert tallies(it) | {"undecided": 3, "decided": 0, "partly": 1} == tallies(it)
    assert it.texts("#status") == [f"{GONE} refused, sample 1. 3 left"]
    it.press("2", "1", "1")
    assert states(it) == {ADDED: "open", GONE: "open", OTHER: "open"}
    assert it.downloaded() == HEADER + "\n", "nothing is said of it any more"
    it.press("4", "9", "0")
    assert tallies(it)["partly"] == 0, "there is no fourth change"


def test_likely_classes_are_marked_as_given_or_suggested(visit):
    odds = visit("multi").page.locator(".card[data-id='1'] .odd")
    marked = dict(
        map(tuple, odds.evaluate_all("all => all.map(one => [one.title, one.className.split(' ').at(-1)])"))
    )

    assert marked.get("cat", "is-given") == "is-given"
    assert marked.get("dog", "is-suggested") == "is-suggested"
    assert set(marked.values()) & {"is-given", "is-suggested"}


def test_what_all_changes_come_to(visit):
    it = visit("multi")
    at(it, 1)
    it.press("1", "2", "2", "3", "3")
    assert it.downloaded().splitlines()[1:] == [f'1,b.png,change,"cat;dog;{HOSTILE}"']
    assert tallies(it) == {"undecided": 2, "decided": 1, "accept": 0, "keep": 0, "change": 1, "partly": 0}
    it.press("1")
    assert it.downloaded().splitlines()[1:] == [f'1,b.png,keep,"cat;{HOSTILE}"']
    it.press("1", "1", "2", "2", "3", "3")
    assert it.downloaded().splitlines()[1:] == ["1,b.png,accept,dog"]
    it.press(*"zzzz")
    assert states(it) == {ADDED: "accepted", GONE: "refused", OTHER: "refused"}


@pytest.mark.parametrize(
    ("key", "label", "kind"), [("a", ["dog", HOSTILE], "change"), ("g", ["cat", HOSTILE], "keep")]
)
def test_accepting_and_keeping_are_about_what_is_open(visit, key, label, kind):
    it = visit("multi")
    at(it, 1)
    it.press("3", "3", key)
    assert it.page.evaluate("document.activeElement.dataset.id") == "2", "and it goes on"
    assert it.downloaded().splitlines()[1:] == [f'1,b.png,{kind},"{";".join(label)}"']
    at(it, 1)
    it.press("a")
    assert it.downloaded().splitlines()[1:] == ["1,b.png,accept,dog"], "nothing is open: it is about all"


def test_a_partly_decided_row_is_still_to_do_and_goes_on_from_its_file(visit, tmp_path):
    it = visit("multi")
    at(it, 1)
    it.press("1", "2", "2", "n", "n")
    assert it.page.evaluate("document.activeElement.dataset.id") == "0"
    it.press("n")
    assert it.page.evaluate("document.activeElement.dataset.id") == "1", "it is among the undecided"
    text = it.downloaded()
    assert text.splitlines() == [
        f"{HEADER},undecided_labels",
        f'1,b.png,partly,"cat;dog",{HOSTILE}',
    ], "what is open is as suggested"
    before = states(it)
    it.press("Backspace")
    assert states(it) != before
    file = tmp_path / "decisions.csv"
    file.write_text(
        text + "0,a.png,keep,cat,\n2,c.png,change,frog;ship,\n9,x.png,accept,dog,\n", encoding="utf-8"
    )
    it.page.set_input_files("#csv-file", file)
    it.page.wait_for_function("() => document.querySelector('#status').textContent.includes('Opened')")
    assert it.texts("#status") == ["Opened 3 decisions. 1 row of it is not of this page: keep that file too"]
    assert states(it) == before
    assert it.downloaded().splitlines()[1:] == [
        "0,a.png,keep,cat,",
        f'1,b.png,partly,"cat;dog",{HOSTILE}',
        '2,c.png,change,"frog;ship",',
    ]
    it.page.reload()
    assert states(it) == before, "the browser keeps it"


def test_files_of_before_are_read(visit, tmp_path):
    it = visit("multi")
    file = tmp_path / "decisions.csv"
    rows = ['0,a.png,accept,"cat;dog"', f'1,b.png,keep,"cat;{HOSTILE}"', "2,c.png,change,no such class"]
    file.write_text("\n".join([HEADER, *rows, ""]), encoding="utf-8")
    it.page.set_input_files("#csv-file", file)
    it.page.wait_for_function("() => document.querySelector('#status').textContent.includes('Opened')")
    assert it.downloaded() == "\n".join([HEADER, *rows[:2], ""])


def test_the_row_stays_under_a_filter_until_the_reader_goes_on(visit):
    it = visit("multi")
    it.page.check("[name=state][value=undecided]")
    at(it, 0)
    it.press("1")
    assert states(it, 0) == {ADDED: "accepted"}
    it.press("1")
    assert states(it, 0) == {ADDED: "refused"}
    at(it, 1)
    it.press("s")
    shown = it.page.locator(".card").evaluate_all("all => all.map(one => one.dataset.id)")
    assert shown == ["2"]
    it.page.check("[name=state][value=partly]")
    assert it.page.locator("#empty").is_visible()


def test_by_click_on_the_card(visit):
    it = visit("multi")
    it.page.click(".card[data-id='1'] .chip:nth-child(2)")
    assert states(it) == {ADDED: "open", GONE: "accepted", OTHER: "open"}
    assert it.page.evaluate("document.activeElement.dataset.id") == "1", "the keys are the card's"
    it.page.click(".card[data-id='1'] .chip:nth-child(2)")
    it.press("3")
    assert states(it) == {ADDED: "open", GONE: "refused", OTHER: "accepted"}
    assert it.page.locator("#viewer").is_hidden()
    assert it.page.locator("img[src='x']").count() == 0


def test_in_the_large_view_by_click_and_by_tab_alone(visit):
    it = visit("multi", "#sample=1")
    names = it.page.locator(".changes .name").all_inner_texts()
    assert names == [ADDED, GONE, OTHER]
    it.page.click(f".changes [aria-label='Refuse {GONE}']")
    assert it.texts("#viewer-labels") == ["cat, dog"]
    assert it.texts("#viewer-decision") == ["Partly decided"]
    it.press("?")
    it.page.uncheck("#single-keys")
    it.press("Escape")
    it.page.locator(".changes button").first.focus()
    it.press("Enter", "Tab", "Tab", "Tab", "Tab", " ")
    assert it.page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Accept {OTHER}"
    pressed = it.page.locator(".changes [aria-pressed=true]")
    labels = [f"Accept {ADDED}", f"Refuse {GONE}", f"Accept {OTHER}"]
    assert pressed.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))") == labels
    assert it.texts("#viewer-decision") == ["Changed"]
    it.press(" ")
    assert it.texts("#viewer-decision") == ["Partly decided"], "the same button takes it back"


def test_other_labels_are_given_and_taken(visit):
    it = visit("multi", "#sample=1")
    it.press("c", *"ship", "Enter")
    assert it.texts("#viewer-decision") == ["Partly decided"]
    assert it.page.locator(".changes .name").all_inner_texts() == [ADDED, GONE, OTHER, "+ ship"]
    it.press("a")
    it.press("k")
    assert it.texts("#viewer-labels") == ["dog, ship"]
    it.page.click(".changes [aria-label='Take back + ship']")
    assert it.texts("#viewer-decision") == ["Accepted"]
    it.page.click("#viewer-likely [data-label='1']")
    assert it.texts("#viewer-labels") == ["no label"]
    assert it.page.locator("#viewer-likely [data-label='1']").get_attribute("aria-pressed") == "false"
    it.press("Escape")
    assert it.downloaded().splitlines()[1:] == ["1,b.png,change,"]


def test_in_bulk_what_is_decided_of_a_row_stays(visit):
    it = visit("multi")
    at(it, 1)
    it.press("2", "2", "b")
    assert it.texts("#bulk-view") == ["No filter is set: the view holds 3 samples, 0 of them decided."]
    assert it.texts("#bulk-confirm") == ["Accept 3 samples"]
    it.page.click("#bulk-confirm")
    assert it.downloaded().splitlines()[1:] == [
        '0,a.png,accept,"cat;dog"',
        '1,b.png,change,"cat;dog"',
        "2,c.png,accept,dog",
    ]
    it.page.click("#clear-all")
    assert it.texts("#clear-confirm") == ["Clear 3 decisions"]


def test_stored_decisions_that_fit_no_row_are_dropped(visit):
    it = visit("multi")
    stored = {"0": "change:+1", "1": f"partly:+1-{len(NAMES)}", "2": "partly:-1+3", "5": "change:+0"}
    key = "labelfix-review:run-multi-3"
    it.page.evaluate("([key, text]) => localStorage.setItem(key, text)", [key, json.dumps(stored)])
    it.page.reload()
    assert it.texts("#progress-text") == ["0 decided, 3 left"]
    assert tallies(it)["partly"] == 0
    it.page.evaluate("([key, text]) => localStorage.setItem(key, text)", [key, '{"1": "partly:+1-0"}'])
    it.page.reload()
    assert tallies(it)["partly"] == 0, "written in another order than ours"
    it.page.evaluate("([key, text]) => localStorage.setItem(key, text)", [key, '{"1": "partly:-0+1-10"}'])
    it.page.reload()
    assert tallies(it)["partly"] == 0, "nothing of it is open"
    it.page.evaluate("([key, text]) => localStorage.setItem(key, text)", [key, '{"1": "partly:-0-10"}'])
    it.page.reload()
    assert states(it) == {ADDED: "open", GONE: "accepted", OTHER: "accepted"}


def test_many_changes_have_a_few_chips_and_ten_keys(browser, tmp_path):
    data = multi()
    first = data["samples"][0]
    every = list(range(13))
    first |= {"given": [], "corrected": every, "suggested": every, "added": every, "removed": []}
    file = tmp_path / "many.html"
    file.write_text(page_of(data, report(shown=3, suspects=3)), encoding="utf-8")
    it = Visit(browser, file)
    assert it.texts(".card[data-id='0'] .chip")[-1] == "+10 more"
    heights = it.page.locator(".card").evaluate_all("all => all.map(one => one.offsetHeight)")
    assert len(set(heights)) == 1
    at(it, 0)
    it.press("0", "Enter")
    assert it.page.locator(".changes li").nth(9).get_attribute("class") == "added accepted"
    assert it.page.locator(".changes kbd:visible").all_inner_texts() == [*"1234567890"]
    it.close()


# Lists of these in a text could be torn apart, or mistaken for other lists, by a reader or a spreadsheet.
ODD = [
    "a;b", "a", "b", '["a"]', '["a', 'b"]', "[1]", "x,y", "two\nlines", 'say "hi"', "=1;+2", "it's; -3", "\ufeffmark",
    "tab\t=1", "back\\slash", "\u2028;", " blanks ;", HOSTILE,
]  # fmt: skip


@pytest.fixture
def odd_page(browser, tmp_path):
    """A visit to a page with classes called as in `ODD`, where every one and every two of them are to come."""
    places = range(len(ODD))
    lists = [[one] for one in places] + [[one, other] for one in places for other in places if one < other]
    data = multi()
    samples = [
        data["samples"][0]
        | {
            "id": row,
            "file": f"{row}.png",
            "given": [],
            "corrected": labels,
            "suggested": labels,
            "added": labels,
        }
        for row, labels in enumerate(lists)
    ]
    page = data | {"class_names": ODD, "samples": samples}
    file = tmp_path / "odd.html"
    file.write_text(page_of(page, report(shown=len(samples), suspects=len(samples))), encoding="utf-8")
    it = Visit(browser, file)
    yield it, lists
    it.close()


def decide_all(it):
    it.press("b")
    it.page.click("#bulk-confirm")


def opened(it, text, folder):
    """What the status says after a file with this text was opened."""
    file = folder / "decisions.csv"
    file.write_bytes(text.encode())
    it.page.evaluate("document.querySelector('#status').textContent = ''")
    it.page.set_input_files("#csv-file", file)
    it.page.wait_for_function("() => document.querySelector('#status').textContent.includes('Opened')")
    return it.texts("#status")[0]


def test_any_class_name_comes_back_from_the_file(odd_page, tmp_path):
    it, lists = odd_page
    decide_all(it)
    text = it.downloaded()
    (tmp_path / "decisions.csv").write_bytes(text.encode())
    names = pa.chunked_array([[f"{row}.png" for row in range(len(lists))]])
    known = Known("the run", tuple(ODD), names, str, separators=(";",))
    found = read_verified(tmp_path / "decisions.csv", known)
    assert [np.flatnonzero(states).tolist() for states in found.states] == lists
    it.page.click("#clear-all")
    it.page.click("#clear-confirm")
    assert opened(it, text, tmp_path) == f"Opened {len(lists)} decisions"
    assert tallies(it)["accept"] == len(lists)
    assert it.downloaded() == text


def test_a_list_is_json_only_where_it_has_to_be(odd_page):
    it, lists = odd_page
    decide_all(it)
    rows = list(csv.reader(io.StringIO(it.downloaded())))[1:]
    cells = {tuple(labels): row[3] for labels, row in zip(lists, rows, strict=True)}
    assert cells[(1, 2)] == "a;b"
    assert cells[(0,)] == '["a;b"]'
    assert cells[(6,)] == "[1]"
    assert json.loads(cells[(4, 5)]) == ['["a', 'b"]'], (
        "with a semicolon between them they would be one other text"
    )


def test_what_is_open_comes_back_too(odd_page, tmp_path):
    it, lists = odd_page
    last = len(ODD) + 10  # a;b and =1;+2
    assert [ODD[label] for label in lists[last - 1]] == ["a;b", "=1;+2"]
    it.page.evaluate(f"location.hash = 'sample={last - 1}'")
    it.page.wait_for_selector("#viewer[open]")
    it.press("1")
    it.press("Escape")
    it.page.wait_for_selector("#viewer[open]", state="detached")
    text = it.downloaded()
    assert text.splitlines()[0].endswith(",undecided_labels")
    before = states(it, last - 1)
    assert list(before.values()) == ["accepted", "open"]
    it.press("z")
    assert opened(it, text, tmp_path) == "Opened 1 decision"
    assert states(it, last - 1) == before


def test_lines_that_decide_nothing_are_left_out(visit, tmp_path):
    it = visit("multi")
    rows = ["0,a.png,,cat", "1,b.png,maybe,dog", ",a.png,change,dog", "2,c.png, Skip ,"]
    assert opened(it, "\n".join([HEADER, *rows, ""]), tmp_path).startswith("Opened 1 decision. 3 rows of it")
    assert it.downloaded().splitlines()[1:] == ["2,c.png,skip,"]
    text = f"{HEADER},undecided_labels\n1,b.png,partly,dog,no such class\n"
    assert opened(it, text, tmp_path).startswith("Opened 0 decisions")


@pytest.fixture
def weak_page(browser, tmp_path):
    """A visit to rows of which the method corrects nothing: 0 has two flagged classes, 1 none."""
    data = multi()
    row = data["samples"][0] | {"given": [0], "corrected": [0]}
    samples = [
        row | {"suggested": [1], "added": [1], "removed": [0]},
        row | {"id": 1, "file": "b.png", "suggested": [0], "added": [], "removed": [], "flagged": False},
        row | {"id": 2, "file": "c.png", "suggested": [0], "added": [], "removed": [], "flagged": False},
        row | {"id": 3, "file": "d.png", "suggested": [0, 1], "added": [1], "removed": []},
    ]
    file = tmp_path / "weak.html"
    file.write_text(page_of(data | {"samples": samples}, report(shown=4, suspects=4)), encoding="utf-8")
    it = Visit(browser, file)
    yield it
    it.close()


def test_what_is_open_has_the_label_of_the_method_not_the_suggested_one(weak_page):
    it = weak_page
    at(it, 0)
    assert states(it, 0) == {ADDED: "open", GONE: "open"}
    it.press("1")
    assert it.downloaded().splitlines()[1:] == ['0,a.png,partly,"cat;dog",cat']
    at(it, 0)
    it.press("1", "1", "2", "Enter")
    assert it.texts("#viewer-labels") == ["no label"]
    it.press("Escape")
    assert it.downloaded().splitlines()[1:] == ["0,a.png,partly,,dog"]
    it.press("z", "a")
    assert it.downloaded().splitlines()[1:] == ["0,a.png,accept,dog"]
    it.press("z", "g")
    assert it.downloaded().splitlines()[1:] == ["0,a.png,keep,cat"]


def test_to_accept_where_nothing_is_suggested_is_to_keep(weak_page):
    it = weak_page
    at(it, 1)
    it.press("a")
    assert it.downloaded().splitlines()[1:] == ["1,b.png,keep,cat"]
    it.press("z", "b")
    assert it.texts("#bulk-note") == ["2 labels would change, 2 would stay as given: no change is suggested."]
    it.page.click("#bulk-confirm")
    kept = [line.split(",")[2] for line in it.downloaded().splitlines()[1:]]
    assert kept == ["accept", "keep", "keep", "accept"]


def test_rows_without_a_change_come_last_among_the_mistakes(weak_page):
    it = weak_page
    it.page.select_option("#sort", "confusion")
    shown = it.page.locator(".card").evaluate_all("all => all.map(one => Number(one.dataset.id))")
    assert sorted(shown[:2]) == [0, 3]
    assert it.texts("#pair-filter option")[1:] == [f"{ADDED}, {GONE} (1)", f"{ADDED} (1)"]


@pytest.mark.parametrize("part", [".frame", "button.chip"])
def test_a_click_on_a_card_that_is_half_out_of_sight_counts(browser, tmp_path, part):
    data = multi()
    samples = [data["samples"][1] | {"id": row, "file": f"{row}.png"} for row in range(20)]
    file = tmp_path / "long.html"
    file.write_text(page_of(data | {"samples": samples}, report(shown=20, suspects=20)), encoding="utf-8")
    it = Visit(browser, file, viewport={"width": 1280, "height": 900})
    box = it.page.locator(f".card[data-id='6'] {part}").first.bounding_box()
    it.page.mouse.click(box["x"] + 9, box["y"] + 9)
    assert it.page.evaluate("scrollY") > 0, "it is brought into sight"
    if part == ".frame":
        assert it.texts("#viewer-file") == ["6.png"]
    else:
        assert states(it, 6) == {ADDED: "accepted", GONE: "open", OTHER: "open"}
    it.close()


def test_a_touched_chip_is_about_its_own_row(visit):
    it = visit("multi")
    at(it, 0)
    # As on telephones: a click that gives no focus.
    it.page.evaluate("document.querySelector('.card[data-id=\"1\"] .chip:nth-child(2)').click()")
    assert states(it, 1) == {ADDED: "open", GONE: "accepted", OTHER: "open"}
    assert states(it, 0) == {ADDED: "open"}
    assert it.downloaded().splitlines()[1:] == [f'1,b.png,partly,dog,"dog;{HOSTILE}"']


@pytest.mark.parametrize(("key", "label"), [("2", "dog"), ("a", "dog"), ("g", f"cat;dog;{HOSTILE}")])
def test_what_another_tab_has_marked_stays(visit, key, label):
    it = visit("multi")
    at(it, 1)
    stored = ["labelfix-review:run-multi-3", '{"1": "partly:+1"}']
    it.page.evaluate("([key, text]) => localStorage.setItem(key, text)", stored)
    it.press(key)
    assert states(it)[ADDED] == "accepted"
    assert next(csv.reader([it.downloaded().splitlines()[1]]))[3] == label

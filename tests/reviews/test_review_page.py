"""The review page, used as people use it: in a real browser, from a file, by keyboard."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest
import review_data
from review_data import HOSTILE, HOSTILE_FILE, NAMES, RUNS

from labelfix.data.readers import escape_cell, unescape_cell
from labelfix.reviews import page

pytest_plugins = ["review_visits"]
NO_STORAGE = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('off', 'SecurityError') }})"


def ids(visit):
    """Samples of a small page in its order; rows out of sight are made a moment later."""
    visit.page.wait_for_function("""() => {
      const shown = parseInt(document.getElementById('count').textContent);
      return document.querySelectorAll('#grid:not([hidden]) .card').length === shown;
    }""")
    cards = visit.page.locator(".card")
    return [int(one) for one in cards.evaluate_all("cards => cards.map(card => card.dataset.id)")]


def has_focus(visit, sample):
    """Whether the card of a sample gets the focus: a dialog that closes gives it back a moment later."""
    visit.page.wait_for_function("id => document.activeElement.dataset.id === id", arg=str(sample))
    return True


def test_it_opens_with_the_most_suspect_first(visit):
    it = visit()
    assert ids(it)[:4] == [1, 11, 31, 41]
    assert ids(it)[-1] == 21, "a row without a score comes last"
    assert it.texts("#count") == ["24 samples"]
    assert it.texts("#progress-text") == ["0 decided, 24 left"]
    card = it.page.locator(".card").first
    assert card.get_attribute("aria-label") == (
        "Undecided: given cat, suggested dog, noise score 0.99, confidence 70 %, train/cat/0000.png, sample 1"
    )
    assert card.locator(".odd .name").all_inner_texts() == ["dog", "cat", HOSTILE]
    image = card.locator("img")
    image.evaluate("image => image.decode()")
    assert image.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    assert it.page.locator('.card[data-id="31"] .no-image').is_visible()


def test_filters(visit):
    it = visit()
    for chosen in ("1", "0"):
        it.page.select_option("#class-filter", chosen)
        samples = review_data.single()["samples"]
        wanted = [s["id"] for s in samples if int(chosen) in (s["given"], s["suggested"])]
        assert sorted(ids(it)) == wanted
    pairs = it.page.locator("#pair-filter option").all_inner_texts()
    assert pairs == ["All pairs", "cat → dog (3)", "cat → frog (3)"], "the pairs of the chosen class only"
    it.page.select_option("#pair-filter", "0>2")
    assert it.texts("#count") == ["3 of 24 samples"]
    it.page.click("#reset-filters")
    it.page.fill("#search", "HORSE/")
    assert len(ids(it)) == 6
    it.page.click("#reset-filters")
    it.page.locator("#score-min").fill("0.9")
    assert ids(it) == [1, 11, 31]
    it.page.locator("#score-max").fill("0.95")
    assert ids(it) == [31], "0.93, 0.96 and 0.99 are within, sample 21 has no score"
    it.page.fill("#search", "nothing has this name")
    assert it.page.locator("#empty").is_visible()
    it.page.click("#empty-reset")
    assert len(ids(it)) == 24


def test_sorting(visit):
    it = visit()
    by_id = [sample["id"] for sample in review_data.single()["samples"]]
    it.page.select_option("#sort", "id")
    assert ids(it) == by_id
    it.page.select_option("#sort", "score-low")
    assert ids(it)[:2] == [231, 221]
    it.page.select_option("#sort", "class")
    assert ids(it)[:6] == [1, 41, 81, 121, 161, 201]
    it.page.select_option("#sort", "confusion")
    assert ids(it)[:3] == [1, 81, 161]


def state_of(visit):
    return visit.page.locator("[name=state]:checked").get_attribute("value")


@pytest.mark.parametrize("chosen", ["undecided", "all"])
def test_after_a_click_on_a_status_the_keys_are_for_the_samples(visit, chosen):
    it = visit()
    it.page.click(f".state-{chosen}")
    assert has_focus(it, 1)
    it.press("ArrowRight")
    assert has_focus(it, 11)
    assert state_of(it) == chosen
    it.press("Enter")
    assert it.page.locator("#viewer").is_visible()
    assert it.texts("#viewer-place") == ["2 of 24 \N{MIDDLE DOT} sample 11"]


def test_by_keyboard_a_status_keeps_the_keys(visit):
    it = visit()
    it.page.click(".state-all")
    assert has_focus(it, 1)
    it.page.focus("#search")
    it.press("Tab", "ArrowDown", "ArrowRight")
    assert state_of(it) == "decided"
    it.press("ArrowUp", " ")
    assert state_of(it) == "undecided"
    it.page.wait_for_timeout(100)  # longer than a click needs to give the keys back
    assert it.page.evaluate("document.activeElement.value") == "undecided"


def test_a_status_without_samples_can_be_left_again(visit):
    it = visit()
    it.page.click(".state-skip")
    assert it.page.locator("#empty").is_visible()
    it.page.click(".state-all")
    assert has_focus(it, 1)


@pytest.mark.parametrize("select", ["class-filter", "pair-filter", "sort"])
def test_a_list_opened_with_the_mouse_gives_the_keys_back(visit, select):
    it = visit()
    it.page.click(f"#{select}")
    it.page.select_option(f"#{select}", index=1)
    first = ids(it)[0]
    assert has_focus(it, first)
    it.page.focus(f"#{select}")
    it.press("ArrowDown")
    it.page.select_option(f"#{select}", index=2)  # as a list that was opened by key does
    it.page.wait_for_timeout(100)
    assert it.page.evaluate("document.activeElement.id") == select


def test_resetting_with_the_mouse_gives_the_keys_back(visit):
    it = visit()
    it.page.fill("#search", "horse/")
    it.page.click("#reset-filters")
    assert has_focus(it, 1)
    it.press("Enter")
    assert it.page.locator("#viewer").is_visible()


def test_a_tap_on_a_status_scrolls_nothing_away(visit):
    it = visit(viewport={"width": 360, "height": 500}, has_touch=True, is_mobile=True)
    it.page.tap("#filters-toggle")
    it.page.tap(".state-undecided")
    assert has_focus(it, 1)
    assert it.page.evaluate("window.scrollY") == 0


def test_review_by_keyboard_and_download(visit):
    it = visit()
    it.press("ArrowRight", "ArrowLeft", "a")  # sample 1: accepted
    assert has_focus(it, 11)
    it.press("g")  # sample 11: kept
    it.press("3")  # sample 31: the third likeliest class
    it.press("s")  # sample 41: skipped
    it.press("4")  # sample 51
    it.press("2")  # sample 61: choosing the given class keeps it
    it.press("c", *"a class", "Enter")  # sample 71: searched
    assert it.page.locator("#viewer").is_visible()
    it.press("Escape")
    assert has_focus(it, 81)
    assert it.texts("#progress-text") == ["7 decided, 17 left"]
    expected = [
        "sample_id,file_name,decision,label",
        "1,train/cat/0000.png,accept,dog",
        "11,train/dog/0001.png,keep,dog",
        f"31,train/horse/0003.png,change,{HOSTILE}",
        f"41,{HOSTILE_FILE},skip,",
        """51,"'@a,""b"".png",change,"'=cmd|""/c calc""!A1\"""",
        "61,train/frog/0006.png,keep,frog",
        f'71,train/horse/0007.png,change,"{NAMES[-1]}"',
        "",
    ]
    text = it.downloaded()
    assert text == "\n".join(expected)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert (unescape_cell(rows[4]["file_name"]), unescape_cell(rows[4]["label"])) == ('@a,"b".png', RUNS)
    it.page.reload()
    assert it.downloaded() == text
    it.page.check("[name=state][value=change]")
    assert ids(it) == [31, 51, 71]


def test_samples_are_removed_and_a_file_of_decisions_goes_on(visit, tmp_path):
    it = visit()
    it.press("x", "a", "3", "4", "x")
    text = it.downloaded()
    assert text.splitlines()[1] == "1,train/cat/0000.png,remove,"
    it.page.check("[name=state][value=remove]")
    assert len(ids(it)) == 2
    it.page.check("[name=state][value=all]")
    it.press(*"zzzzz")
    assert it.texts("#progress-text") == ["0 decided, 24 left"]
    file = tmp_path / "decisions.csv"
    file.write_text(text + "999,elsewhere.png,keep,dog\n", encoding="utf-8")
    it.page.set_input_files("#csv-file", file)
    it.page.wait_for_function(
        "() => document.querySelector('#status').textContent.includes('Opened 5 decisions')"
    )
    assert it.texts("#status") == ["Opened 5 decisions. 1 row of it is not of this page: keep that file too"]
    assert it.downloaded() == text
    it.press("z")
    assert it.texts("#progress-text") == ["0 decided, 24 left"]
    file.write_text("a,b\n1,2\n", encoding="utf-8")
    it.page.set_input_files("#csv-file", file)
    it.page.wait_for_function(
        "() => document.querySelector('#status').textContent.includes('no decisions.csv')"
    )
    it.press("b")
    it.page.check("[name=bulk][value=remove]")
    it.page.click("#bulk-confirm")
    assert it.texts("#progress-text") == ["24 decided, 0 left"]
    assert {line.split(",")[-2] for line in it.downloaded().splitlines()[1:]} == {"remove"}


def test_the_last_line_of_a_file_of_decisions_needs_no_line_break(visit, tmp_path):
    """A line that removes ends in a comma."""
    it = visit()
    it.press("a", "x")
    text = it.downloaded()
    assert text.endswith("remove,\n")
    it.press(*"zz")
    file = tmp_path / "decisions.csv"
    file.write_text(text.removesuffix("\n"), encoding="utf-8")
    it.page.set_input_files("#csv-file", file)
    it.page.wait_for_function("() => document.querySelector('#status').textContent.includes('Opened')")
    assert it.texts("#status") == ["Opened 2 decisions"]
    assert it.downloaded() == text


def test_an_unlabelled_sample_has_nothing_to_keep(visit):
    it = visit(fragment="#sample=21")
    assert it.page.locator("[data-action=keep]").is_disabled()
    it.press("g")
    assert it.texts("#viewer-status") == ["Sample 21 has no given label to keep"]
    it.press("a")
    it.press("Escape")
    assert it.downloaded().splitlines()[1:] == ["21,train/frog/0002.png,accept,horse"]


def test_undo_and_redo_without_limit(visit):
    it = visit()
    it.press(*"agsagsag")
    assert it.texts("#progress-text") == ["8 decided, 16 left"]
    it.press(*"zzzzzzzz")
    assert it.texts("#progress-text") == ["0 decided, 24 left"]
    assert has_focus(it, 1)
    assert it.page.locator("#undo").is_disabled()
    it.press("Shift+Z", "Control+Y", "Control+Shift+Z")
    assert it.texts("#progress-text") == ["3 decided, 21 left"]
    it.press("Control+z", "g")
    assert it.page.locator("#redo").is_disabled(), "a new decision ends what could be redone"
    assert it.texts("#tally-keep") == ["2"]


def test_bulk_names_its_number_and_is_undone_at_once(visit):
    it = visit()
    it.press("s")
    it.page.select_option("#class-filter", "0")
    it.page.locator(".card").first.focus()
    it.press("b")
    assert it.texts("#bulk-view") == ["The filters show 6 samples, 1 of them decided."]
    assert it.texts("#bulk-confirm") == ["Accept 5 samples"]
    it.page.check("#bulk-overwrite")
    it.page.check("[name=bulk][value=keep]")
    assert it.texts("#bulk-confirm") == ["Keep 6 samples"]
    it.page.click("#bulk-confirm")
    assert it.texts("#status") == ["Kept 6 samples"]
    assert it.texts("#tally-keep") == ["6"]
    it.press("z")
    assert it.texts("#tally-keep") == ["0"]
    assert it.texts("#tally-skip") == ["1"]


def test_clearing_asks_first_and_can_be_undone(visit):
    it = visit()
    it.press("a", "a")
    it.page.click("#clear-all")
    assert it.texts("#clear-confirm") == ["Clear 2 decisions"]
    it.page.click("#clear-confirm")
    assert it.texts("#progress-text") == ["0 decided, 24 left"]
    it.press("z")
    assert it.texts("#progress-text") == ["2 decided, 22 left"]


def test_large_view(visit):
    it = visit(fragment="#sample=61")
    assert it.texts("#viewer-file") == ["train/frog/0006.png"]
    assert it.page.locator("#viewer-original").get_attribute("href") == "../images/0006.png"
    it.press("ArrowRight")
    assert it.page.evaluate("location.hash") == "#sample=71"
    it.press("a")
    assert it.page.evaluate("location.hash") == "#sample=81", "on to the next undecided one"
    it.press("k")
    assert it.texts("#viewer-decision") == ["Accepted truck"]
    it.press("Backspace", "Escape")
    assert it.texts("#progress-text") == ["0 decided, 24 left"]
    assert has_focus(it, 71)
    it.press("Enter")
    assert it.page.locator("#viewer").is_visible()


def test_a_link_that_is_no_page_is_not_shown(visit):
    it = visit(fragment="#sample=31")
    assert it.page.locator("#viewer-no-image").is_visible()
    assert it.page.locator("#viewer-original").is_hidden()


def test_a_filtered_sample_is_reached_by_its_link(visit):
    it = visit()
    it.page.select_option("#class-filter", "0")
    it.page.evaluate("location.hash = '#sample=11'")
    it.page.locator("#viewer[open]").wait_for()
    assert it.texts("#viewer-file") == ["train/dog/0001.png"]
    assert it.page.locator("#class-filter").input_value() == ""


def test_names_are_text(visit):
    it = visit(fragment="#sample=41")
    assert it.texts("#viewer-file") == [HOSTILE_FILE]
    assert HOSTILE in it.texts("#viewer-likely")[0]
    it.press("Escape")
    it.page.click("#tab-summary")
    it.page.locator("#summary").wait_for()
    assert HOSTILE in it.texts("#summary")[0]
    assert it.page.locator("img[src='x']").count() == 0
    assert it.page.evaluate("[...document.scripts].filter(one => !one.type).length") == 2


def test_the_policy_holds(visit):
    it = visit()
    refused = """() => {
      const script = document.createElement('script');
      script.textContent = 'window.ran = true';
      document.body.append(script);
      const image = document.createElement('img');
      image.setAttribute('onerror', 'window.ran = true');
      image.src = 'https://example.org/x.png';
      document.body.append(image);
      return new Promise(done => setTimeout(() => done(window.ran === true), 200));
    }"""
    assert it.page.evaluate(refused) is False
    violations = [one for one in it.trouble if one.startswith("console")]
    assert len(violations) == 3, "the script, the handler and the image"
    assert all("Content Security Policy" in one for one in violations)
    it.trouble.clear()


def test_only_what_is_seen_is_made(visit):
    it = visit("many")
    it.page.locator(".row:nth-child(4)").wait_for(state="attached")
    assert it.page.locator(".card").count() < 80
    it.press("ArrowRight", "End")
    assert has_focus(it, 21)
    assert it.page.locator('.card[data-id="14991"] img').evaluate("image => image.naturalWidth") == 8
    assert it.page.locator(".card").count() < 100
    assert it.page.locator("#grid").get_attribute("aria-rowcount") == str(-(-1500 // 5))
    assert it.texts(".part") == ["of 5,000 suspects of the run"]
    assert HOSTILE in it.texts("#notices")[0]


def test_several_labels(visit):
    it = visit("multi")
    chips = ["+ dog", "\N{MINUS SIGN} cat", f"\N{MINUS SIGN} {HOSTILE}"]
    assert it.texts(".card[data-id='1'] .chip") == chips
    it.press("ArrowRight", "ArrowLeft", "a", "g", "a")
    rows = it.downloaded().splitlines()[1:]
    assert rows == ['0,a.png,accept,"cat;dog"', f'1,b.png,keep,"cat;{HOSTILE}"', "2,c.png,accept,dog"]
    it.page.click(".card[data-id='1'] .frame")
    assert it.page.locator("#picker-input").count() == 1


def test_a_run_without_suspects(visit):
    it = visit("none")
    assert it.texts("#empty-text") == ["This run has no suspects: there is nothing to review."]
    it.press("a", "Enter", "j", "b")
    assert it.downloaded() == "sample_id,file_name,decision,label\n"


def test_without_storage_it_says_so_and_works(visit):
    it = visit(script=NO_STORAGE)
    assert "keeps no decisions" in it.texts("#notices")[0]
    it.press("a")
    assert it.texts("#progress-text") == ["1 decided, 23 left"]
    assert it.downloaded().count("\n") == 2


def test_full_storage(visit):
    it = visit()
    it.page.evaluate("""() => {
      for (let size = 5e6; size >= 1; size = Math.floor(size / 2)) {
        try { for (let n = 0; ; n += 1) localStorage.setItem(`${size} ${n}`, 'x'.repeat(size)); } catch { }
      }
    }""")
    it.press("a")
    assert "keeps no decisions" in it.texts("#notices")[0]
    it.page.evaluate("localStorage.clear()")
    it.press("a")
    assert it.texts("#notices")[0].strip() == ""


def test_decisions_of_rows_that_are_not_shown_stay(visit):
    it = visit()
    stored = {"999": "keep", "1": "accept", "11": "change:99", "21": "keep"}
    key = "labelfix-review:run-single-24"
    it.page.evaluate("([key, text]) => localStorage.setItem(key, text)", [key, json.dumps(stored)])
    it.page.reload()
    assert "1 decision about samples of this run" in it.texts("#notices")[0]
    assert it.texts("#progress-text") == ["1 decided, 23 left"], "no such class; nothing to keep"
    it.press("s")
    kept = json.loads(it.page.evaluate("key => localStorage.getItem(key)", key))
    assert kept == {"999": "keep", "1": "skip"}


def test_cells_are_escaped_as_everywhere_else(visit):
    it = visit("none")
    draw = random.Random(0)
    cells = ["", "'", "-1.5e-3", "+.5", "1.", "-", "=1", "''=", "\t", "\r", "@x", "-1\n", "a;=cmd()", "a\t=1"]
    cells += ['a;"\uff1d1', "\u0663", "\N{MINUS SIGN}1"]
    cells += ["".join(draw.choices("'=+-@\t\r\n1.eEa,;\"\uff20", k=draw.randint(1, 6))) for _ in range(2_000)]
    script = page.asset("scripts/csv.js")
    found = it.page.evaluate(f"(() => {{ {script}; return {json.dumps(cells)}.map(escapeCell) }})()")
    assert found == [escape_cell(cell) for cell in cells]
    lines = it.page.evaluate(f"(() => {{ {script}; return {json.dumps(cells)}.map(quoteCell).join() }})()")
    assert next(csv.reader(io.StringIO(lines, newline=""))) == cells

"""Tables of any names and labels: what is exported is read back, by labelfix and by plain readers."""

from __future__ import annotations

import csv
import json
import os

import pyarrow.parquet as pq
from export_runs import finish
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from labelfix.data.manifest import Manifest
from labelfix.data.readers import unescape_cell
from labelfix.errors import InputError
from labelfix.exports import export

STARTS = ["", "=", "+", "-", "@", "\uff1d", "'", "''=", "\t=", "\r", "\n@", '"', ",", ";"]
BREAKS = ["\n", "\r\n", "\r", "\u2028", "\0"]
INSIDE = ['"', '""', ",", ";", "\t", "'", "\\", "=1", "/", " ", "é", "e\u0301", "\ufeff", "😀", *BREAKS]
# No lone surrogates, which are no text.
signs = st.one_of(st.sampled_from(INSIDE), st.characters(exclude_categories=["Cs"]))
cells = st.builds(
    lambda start, inside: start + "".join(inside), st.sampled_from(STARTS), st.lists(signs, max_size=5)
)
# The plain spelling of a path: "a//b" and "a/./b" are read as "a/b".
names = cells.map("{}.png".format).filter(lambda name: os.path.normpath(name) == name)
tables = st.lists(st.tuples(names, cells), min_size=2, max_size=8, unique_by=lambda pair: pair[0])


def plainly_read(path):
    """File names and labels as a reader that knows nothing of labelfix has them; apostrophes of csv taken off."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]
    else:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: unescape_cell(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    return [(row["file_name"], row["label"]) for row in rows]


def read_back(path):
    manifest = Manifest.read(path)
    labels = [manifest.label_of(row) for row in range(manifest.num_rows)]
    return list(zip(manifest.file_names().to_pylist(), labels, strict=True))


def one_line_or(function, /, *arguments, **options):
    """What the function gives; an example that it refuses in one line is none."""
    try:
        return function(*arguments, **options)
    except InputError as error:
        line = str(error)
    assert len(line.splitlines()) == 1
    return reject()


# Where most examples were refused, hypothesis would fail the test.
@settings(max_examples=60, deadline=None)
@given(tables)
@example([('=1,"a\r\nb.png', '-1\n,"x"'), ("'=é;\t.png", "+😀"), ("\ufeffa\u2028.png", "\n=1;@x")])
def test_names_and_labels_come_back_from_every_table(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("trip")
    names = [name for name, _ in pairs]
    # A letter at the end keeps a label from being blank, which would be none, and makes two classes.
    labels = [f"{label}{'ab'[row % 2]}" for row, (_, label) in enumerate(pairs)]
    run, _ = one_line_or(finish, folder / "run", {"file_name": names, "label": labels})
    expected = [(name, label.strip()) for name, label in zip(names, labels, strict=True)]
    for number, to in enumerate((None, "csv", "jsonl", "parquet")):
        path = folder / f"{number}.{to or 'csv'}"
        one_line_or(export, run, to=to, out=path)
        assert plainly_read(path) == expected
        assert read_back(path) == expected

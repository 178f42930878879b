"""The notebooks: executed from top to bottom, and what they promise is true; kept without outputs."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import labelfix

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ["01-review-in-pandas", "02-compare-methods", "03-train-on-the-corrected-labels"]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs a notebook in a temporary folder; returns its cells by id, and the values of some expressions at its end."""
    # Nothing of the user's own: settings, history, and above all kernels, among which python3 may be another Python.
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Short: the sockets of processes lie in it, whose paths may have about a hundred characters.
    work = tempfile.TemporaryDirectory()
    monkeypatch.setenv("TMPDIR", work.name)

    def run(name, **expressions):
        book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        asked = {"python": "sys.executable", "file": "labelfix.__file__", **expressions}
        listed = ", ".join(f"{key!r}: {expression}" for key, expression in asked.items())
        question = f"import json, sys\nprint(json.dumps({{{listed}}}, default=float))"
        book.cells.append(nbformat.v4.new_code_cell(question, id="question"))
        NotebookClient(book, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
        cells = {cell["id"]: cell for cell in book.cells}
        values = json.loads(cells["question"]["outputs"][0]["text"])
        assert (values.pop("python"), values.pop("file")) == (sys.executable, labelfix.__file__)
        return cells, values

    with work:
        yield run


def output(cell):
    """What a cell shows: its last output as HTML where there is some, else as text; and nothing on stderr."""
    assert not [each for each in cell["outputs"] if each.get("name") == "stderr"]
    last = cell["outputs"][-1]
    return last["text"] if "text" in last else last["data"].get("text/html", last["data"]["text/plain"])


def test_these_are_all():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_kept_without_outputs(name):
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    book = nbformat.reads(text, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        assert re.fullmatch("[a-z-]+", cell["id"])
        assert not cell["metadata"]
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is None
            assert cell["outputs"] == []
            assert len(cell["source"].splitlines()) <= 20
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert book.metadata["language_info"] == {"name": "python"}
    # As tools write it, so that saving a notebook changes nothing but what was changed.
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def test_review_in_pandas(execute):
    cells, found = execute(
        NAMES[0],
        right="list(right)",
        errors="int((df.given_label != df.true_label).sum())",
        found="found",
        promised="[promised.low, promised.expected_errors, promised.high]",
        decisions="len(decisions)",
        outside="str(work)",
    )
    given, corrected, reviewed = found["right"]
    assert (given, found["errors"]) == (0.8, 160)
    assert reviewed >= corrected > 0.9
    assert reviewed > 0.98
    assert found["found"] > 145
    low, expected, high = found["promised"]
    assert low <= expected <= high
    # The rate is that of 160 rows left out: it may be off by a fifth and more.
    assert abs(expected - found["found"]) < 50
    assert found["decisions"] == 160
    assert output(cells["suspects"]).count("<img ") == 18
    assert output(cells["per-class"]).count("<img ") == 20
    assert "the method's own estimates" in output(cells["rests-on"])
    assert all(output(cell) for cell in cells.values() if cell.get("outputs"))
    assert Path(found["outside"]).is_dir()
    assert not Path(found["outside"]).is_relative_to(FOLDER)


def test_compare_methods(execute):
    cells, found = execute(
        NAMES[1],
        precision="quality['average precision'].to_dict()",
        right="quality['labels right'].to_dict()",
        agreement="agreement.share_wrong.to_dict()",
        differing="len(differing)",
        known="bool((differing.flagged_by.between(1, 3)).all())",
    )
    right = found["right"]
    assert right["given labels"] == pytest.approx(0.7, abs=0.01)
    assert all(right[method] > right["given labels"] for method in ("joint", "pencil", "cross-entropy"))
    assert all(found["precision"][method] > 0.8 for method in ("joint", "pencil"))
    assert found["agreement"]["0"] < 0.1
    assert found["agreement"]["3"] > 0.9
    assert found["differing"] > 0
    assert found["known"]
    assert output(cells["look"]).count("<img ") == min(12, found["differing"])
    assert all(output(cell) for cell in cells.values() if cell.get("outputs"))


def test_train_on_the_corrected_labels(execute):
    cells, found = execute(NAMES[2], accuracy="accuracy.to_dict()", given="float((given == true).mean())")
    assert found["given"] == 0.6
    for accuracy in found["accuracy"].values():
        assert accuracy["given"] + 0.05 < accuracy["corrected"] <= accuracy["true"] + 0.01
        assert accuracy["given"] + 0.05 < accuracy["dropped"] <= accuracy["true"] + 0.01
        assert accuracy["given"] < accuracy["true"]
    assert "image/png" in cells["plot"]["outputs"][-1]["data"]
    assert all(output(cell) for cell in cells.values() if cell.get("outputs"))

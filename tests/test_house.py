"""The rules of the house that matter: who may import whom, fences, sizes, public names."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import labelfix

PACKAGE = Path(labelfix.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the top of the house to its foundations; imports run strictly downwards, inside one room they are free.
LAYERS = [
    {"__main__"},
    {"cli", "__init__"},
    {"demo", "benchmark"},
    {"corruption", "prediction"},
    {"pipeline", "exports", "reviews"},
    {"guards"},
    {"findings", "job"},
    {"cross_fitting"},
    {"resumable"},
    {"preparation"},
    {"summary", "model_card", "run_folder", "reporting"},
    {"frame"},
    {"config", "scoring"},
    {"trainer", "methods"},
    {
        "methods.bmm", "methods.pencil", "methods.joint", "methods.meta", "methods.nnaqc", "methods.cross_entropy",
    },
    {
        "methods.bmm_settings", "methods.pencil_settings", "methods.joint_settings", "methods.nnaqc_settings",
        "methods.meta_settings",
    },
    {"methods.moving_labels"},
    {"methods.two_readings"},
    {"methods.base", "checkpoint"},
    {"methods.settings"},
    {"decisions", "originals"},
    {"corrections", "classifier"},
    {"verdicts", "batches", "calibration", "devices", "onnx_file"},
    {"store", "noise", "trusted", "folds"},
    {"manifest", "pooling", "verified"},
    {"readings", "credibility"},
    {"sources", "views", "look_ahead", "losses", "mixture", "schedules", "networks"},
    {"cache", "child_processes", "distortions", "epoch_report", "evidence", "metrics", "parquet_file", "run_json"},
    {"output_paths", "transfer"},
    {"tables", "json_files"},
    {"errors"},
]  # fmt: skip
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}

FENCES = {
    "click": {"cli"},
    "rich": {"cli"},
    "pyarrow": {
        "sources", "manifest", "store", "verified", "corrections", "frame", "scoring", "summary", "tables", "exports",
        "corruption", "prediction", "benchmark", "decisions", "reviews", "guards", "parquet_file",
    },
    "PIL": {"store"},
    "torch.optim": {"trainer"},
}  # fmt: skip

WITHOUT_TORCH = [
    "labelfix", "labelfix.cli", "labelfix.cli.scan", "labelfix.cli.export", "labelfix.cli.evaluate",
    "labelfix.cli.corrupt", "labelfix.cli.bench", "labelfix.cli.demo", "labelfix.cli.methods",
    "labelfix.exports", "labelfix.scoring", "labelfix.corrections", "labelfix.corruption",
    "labelfix.cli.predict", "labelfix.store", "labelfix.manifest", "labelfix.sources", "labelfix.noise",
    "labelfix.verdicts", "labelfix.trusted", "labelfix.metrics", "labelfix.frame", "labelfix.reviews",
    "labelfix.cli.review",
]  # fmt: skip


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] == "methods" and parts[-1] != "__init__":
        return ".".join(parts)
    return parts[0]


def imports_of(path: Path) -> set[str]:
    """Full names of everything a file imports, outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rooms_imported(path: Path) -> set[str]:
    rooms = set()
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "labelfix" or len(parts) < 2:
            continue
        submodule = ".".join(parts[1:3])
        rooms.add(submodule if submodule in RANK else parts[1])
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    room = room_of(path)
    assert room in RANK, f"{room} has no place in the house: add it to LAYERS"
    for other in rooms_imported(path) - {room}:
        assert other in RANK, f"{path.name} imports {other}, which has no place in the house"
        assert RANK[other] > RANK[room], f"{room} may not import {other}: imports run downwards"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_fences_hold(path):
    room = room_of(path).split(".")[0]
    text = path.read_text(encoding="utf-8")
    for library, allowed in FENCES.items():
        used = any(name == library or name.startswith(library + ".") for name in imports_of(path))
        if library == "torch.optim":
            used = used or "torch.optim" in text
        assert not used or room in allowed, f"{room} uses {library}; only {sorted(allowed)} may"


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in FILES
        if room_of(p).split(".")[0]
        in {"losses", "mixture", "pooling", "credibility", "readings", "schedules", "methods"}
    ],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_methods_know_no_files(path):
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not calls & {"open", "print", "Path"}
    assert not {"logging", "pathlib"} & {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_terminal_prints(path):
    """There what steers a terminal is taken out of the data."""
    called = {
        ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    }
    prints = called & {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"}
    if path != PACKAGE / "cli" / "terminal.py":
        assert not prints
        assert not any(name.startswith("rich") for name in imports_of(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert code_lines(text) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - len(doc.splitlines())
            assert length <= 50, f"{path.name}:{node.name} is {length} lines long"


def code_lines(text: str) -> int:
    """Lines that hold code: no blanks, comments or docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            docstrings.update(range(node.lineno, node.end_lineno + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def test_public_names_are_complete_and_sorted():
    assert labelfix.__all__ == sorted(labelfix.__all__)
    assert set(labelfix.__all__) == {*labelfix._HOMES, "__version__"}
    for name in labelfix.__all__:
        assert getattr(labelfix, name) is not None


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = labelfix.nonsense


def test_quick_rooms_import_no_torch():
    code = f"import sys, importlib\nfor n in {WITHOUT_TORCH}: importlib.import_module(n)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_importing_labelfix_is_light():
    code = "import sys, labelfix\nprint(sorted({'torch', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

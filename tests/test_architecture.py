"""The rules of the packages: who may import whom, which library is used where, sizes, public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import labelfix

PACKAGE = Path(labelfix.__file__).parent


FILES = sorted(PACKAGE.rglob("*.py"))


# Families from the command line down to what stands on nothing; each imports only from those after it.
FAMILIES = [
    {"__main__"},
    {"cli", "__init__"},
    {"benchmark", "demo"},
    {"noise", "scoring"},
    {"pipeline", "prediction", "reviews", "exports"},
    {"scan_plan"},
    {"accessor", "evaluation", "pred_probs"},
    {"results"},
    {"training"},
    {"config"},
    {"devices", "methods"},
    {"estimation", "networks"},
    {"data"},
    {"output_paths"},
    {
        "atomic_files",
        "child_processes",
        "choices",
        "device_errors",
        "json_files",
        "main_memory",
        "random_state",
        "processes",
        "reporting",
        "threads",
    },
    {"errors"},
]


RANK = {family: rank for rank, families in enumerate(FAMILIES) for family in families}


FENCES = {
    "click": {"cli"},
    "rich": {"cli"},
    "pyarrow": {
        "data", "results", "accessor", "evaluation", "exports", "noise", "prediction", "benchmark", "reviews",
        "atomic_files",
    },
    "PIL": {"data.images"},
    "pydantic": {"methods", "config"},
    "torch.optim": {"training"},
}  # fmt: skip


WITHOUT_TORCH = [
    "labelfix", "labelfix.cli", "labelfix.cli.scan", "labelfix.cli.export", "labelfix.cli.evaluate",
    "labelfix.cli.corrupt", "labelfix.cli.bench", "labelfix.cli.demo", "labelfix.cli.methods", "labelfix.cli.predict",
    "labelfix.cli.review", "labelfix.exports", "labelfix.evaluation", "labelfix.results.corrections",
    "labelfix.noise.corruption", "labelfix.noise.planting", "labelfix.data.images.store", "labelfix.data.manifest",
    "labelfix.data.readers", "labelfix.data.verified_labels", "labelfix.accessor", "labelfix.reviews",
    "labelfix.scoring",
    *(f"labelfix.estimation.{path.stem}" for path in FILES if path.parent.name == "estimation"),
]  # fmt: skip


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


def family_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def families_imported(path: Path) -> set[str]:
    names = [name.split(".") for name in imports_of(path)]
    return {parts[1] for parts in names if parts[0] == "labelfix" and len(parts) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    family = family_of(path)
    assert family in RANK, f"{family} has no place in FAMILIES"
    for other in families_imported(path) - {family}:
        assert other in RANK, f"{path.name} imports {other}, which has no place in FAMILIES"
        assert RANK[other] > RANK[family], f"{family} may not import {other}: imports run downwards"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_fences_hold(path):
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    text = path.read_text(encoding="utf-8")
    for library, allowed in FENCES.items():
        used = any(name == library or name.startswith(library + ".") for name in imports_of(path))
        if library == "torch.optim":
            used = used or "torch.optim" in text
        inside = any(f"{module}.".startswith(f"{each}.") for each in allowed)
        assert not used or inside, f"{module} uses {library}; only {sorted(allowed)} may"


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if family_of(p) in {"methods", "estimation"}],
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


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if family_of(p) == "estimation"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_estimation_is_numpy_alone(path):
    """Also inside functions."""
    assert "torch" not in {name.split(".")[0] for name in imports_of(path)}


def test_quick_families_import_no_torch():
    imports = f"import sys, importlib\nfor n in {WITHOUT_TORCH}: importlib.import_module(n)"
    code = f"{imports}\nprint({{'torch', 'pydantic'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - len(doc.splitlines())
            assert length <= 50, f"{path.name}:{node.name} is {length} lines long"


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


def test_public_names_are_complete_and_sorted():
    assert labelfix.__all__ == sorted(labelfix.__all__)
    assert set(labelfix.__all__) == {*labelfix._HOMES, "__version__"}
    for name in labelfix.__all__:
        assert getattr(labelfix, name) is not None


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = labelfix.nonsense


def test_importing_labelfix_is_light():
    code = "import sys, labelfix\nprint(sorted({'torch', 'pandas', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_walk_in_the_contributors_guide_names_what_is_there():
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\| \d+ \| `([\w/]+\.py):([\w.]+)`", text, re.MULTILINE)
    assert 10 <= len(steps) <= 15
    for file, name in steps:
        scope = ast.parse((PACKAGE / file).read_text(encoding="utf-8")).body
        for part in name.split("."):
            found = [
                node
                for node in scope
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part
            ]
            assert found, f"{file} has no {name}"
            scope = found[0].body

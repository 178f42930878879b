"""Nothing is undocumented: commands, options, columns, methods, settings, formats, networks, functions."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest
from conftest import write_digits

import labelfix
from labelfix.accessor import FindingsAccessor
from labelfix.benchmark import agreement, rows
from labelfix.cli import COMMANDS, cli
from labelfix.config import resolve_settings
from labelfix.exports import TARGETS
from labelfix.methods import method_card, method_names
from labelfix.networks import check_backbone
from labelfix.noise.planting import parse_noise

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}


@pytest.fixture(scope="module")
def site():
    """Text of the pages, with what is generated from the program in its place."""
    spec = spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = module_from_spec(spec)
    spec.loader.exec_module(hooks)
    for place in hooks.GENERATED:
        assert sum(place in text for text in PAGES.values()) == 1, place
    return {name: hooks.expand(text) for name, text in PAGES.items()}


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help_and_a_place_in_the_reference(name, site):
    each = command(name)
    assert each.name == name
    assert each.help
    assert "Example:" in each.epilog
    assert f"| `labelfix {name}" in PAGES["reference.md"]
    section = site["reference.md"].split(f"## labelfix {name}\n")[1].split("\n## ")[0]
    assert "Example:" in section
    for parameter in each.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]}"
            assert parameter.opts[-1] in section, f"{name} {parameter.opts[-1]}"
            assert name != "scan" or f"`{parameter.opts[0]}" in PAGES["reference.md"], parameter.opts[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_parses(name):
    """Each example line names this command and only options that exist."""
    each = command(name)
    lines = [line.strip() for line in each.epilog.splitlines() if line.strip().startswith("labelfix ")]
    assert any(line.startswith(f"labelfix {name}") for line in lines)
    for line in lines:
        words = shlex.split(line)[1:]
        assert words[0] in COMMANDS
        known = {opt for p in command(words[0]).params for opt in p.opts}
        assert {word for word in words if word.startswith("--")} <= known


def explained(names, page):
    """Assert that each name is in a table of a page."""
    tables = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert not [name for name in names if f"`{name}`" not in tables]


def test_every_file_column_and_key_of_a_run_is_explained(tmp_path, site):
    write_digits(tmp_path / "images", 40, "symmetric-exclusive:0.2")
    run = labelfix.scan(tmp_path / "images", method="cross-entropy", epochs=2, out=tmp_path / "run")
    labelfix.predict(run.classifier, tmp_path / "images", out=tmp_path / "predictions.parquet")
    table = pq.read_schema(run.corrections)
    explained(table.names, README)
    explained(table.names, site["output.md"])
    files = [f"{path.name}/" if path.is_dir() else path.name for path in run.out.iterdir()]
    metadata = json.loads(table.metadata[b"labelfix"])
    explained([*files, *metadata, *run.summary, *run.summary["counts"]], PAGES["output.md"])
    epochs = [name for name in pq.read_schema(run.out / "epochs.parquet").names if "loss_" not in name]
    explained(epochs, PAGES["output.md"].split("## epochs.parquet")[1])
    explained(pq.read_schema(tmp_path / "predictions.parquet").names, PAGES["python.md"])


def test_every_column_of_a_bench_is_explained():
    explained([*rows.SCHEMA.names, *agreement.SCHEMA.names], PAGES["benchmarks.md"])


@pytest.mark.parametrize("name", method_names())
def test_every_method_is_listed_and_its_card_names_its_choices(name, site):
    card = method_card(name)
    assert f"| `{name}` | " in README
    for heading in ("What it is for:", "When it fails:", "Presets:"):
        assert heading in card["card"]
    section = site["methods.md"].split(f"## {name}\n")[1].split("\n## ")[0]
    for preset in card["presets"]:
        assert f"`{preset}`" in card["card"]
    for setting in card["settings"]:
        assert f"| `{setting['name']}` | " in section


def test_every_format_function_and_question_is_explained():
    explained(TARGETS, PAGES["export.md"])
    explained([f"labelfix.{name}" for name in labelfix.__all__], PAGES["python.md"])
    for name in vars(FindingsAccessor):
        assert name.startswith("_") or f"`{name}(" in PAGES["python.md"], name


def test_every_link_leads_somewhere():
    """Within the repository, as one reads it there; that of the site are checked by mkdocs."""
    links = 0
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!\w+:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
            links += 1
    assert links > 40
    for name in ("docs", "notebooks"):
        for path in (ROOT / name).iterdir():
            if path.suffix in (".md", ".ipynb") and path.name != "index.md":
                assert f"({name}/{path.name})" in README, path.name


def test_the_readme_has_the_two_set_up_commands():
    fences = re.findall(r"```(?:console|bash)\n(.*?)```", README, re.DOTALL)
    commands = [
        line.removeprefix("$ ") for fence in fences for line in fence.splitlines() if line.startswith("$ ")
    ]
    assert any("pip install" in line and "labelfix demo" in line for line in commands)
    assert any("[test]" in line and "pytest" in line for line in commands)


def test_the_security_policy_is_linked_and_shipped():
    assert "(SECURITY.md)" in README
    assert (ROOT / "SECURITY.md").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "SECURITY.md" in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


def test_contributors_run_bandit_and_every_exception_says_why():
    assert "bandit -q -r labelfix -c pyproject.toml" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = [path.read_text(encoding="utf-8") for path in (ROOT / "labelfix").rglob("*.py")]
    lines = [line for line in "\n".join(code).splitlines() if "nosec" in line]
    assert lines
    for line in lines:
        assert re.search(r"# nosec B\d{3} # \w+ \w+", line), line


def test_the_changelog_names_this_version():
    assert f"[{labelfix.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_command_of_the_papers_page_is_one_of_ours():
    """Its presets, settings and networks are there, and every paper preset that the page names."""
    page, found = PAGES["papers.md"], 0
    methods = [name for name in method_names() if f"--method {name} " in page]
    assert set(methods) >= {"bmm", "pencil", "joint", "meta", "nnaqc"}
    for line in page.splitlines():
        if not line.startswith("$ labelfix "):
            continue
        name, *words = shlex.split(line.removeprefix("$ labelfix "))
        chosen = command(name).make_context(name, words).params
        if name == "corrupt":
            parse_noise(chosen["noise"])
            continue
        changes = dict(change.split("=", 1) for change in chosen["changes"])
        settings = resolve_settings(chosen["method"], chosen["preset"], None, None, changes, chosen["task"])
        assert settings.epochs > 0
        check_backbone(chosen["backbone"])
        found += 1
    assert found >= 15
    cards = " ".join(preset for name in methods for preset in method_card(name)["presets"])
    for preset in set(re.findall(r"`(paper-[a-z0-9-]+)`", page)):
        assert preset in cards.split(), preset
    for row in re.findall(r"^\| M-.*`(--set .*)` *", page, re.MULTILINE):
        changes = dict(
            part.split("=", 1) for part in row.split("`")[0].removeprefix("--set ").split(" --set ")
        )
        resolve_settings("meta", "paper", None, None, changes)

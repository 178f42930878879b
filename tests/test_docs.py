"""Nothing is undocumented: commands, options, settings, columns, methods."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from labelfix.cli import COMMANDS, cli
from labelfix.methods import method_card, method_names
from labelfix.results import corrections

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_an_example_and_a_place_in_the_readme(name):
    each = command(name)
    assert each.name == name
    assert each.help
    assert "Example:" in each.epilog
    assert f"labelfix {name}" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name):
    for parameter in command(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]}"


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


def test_every_scan_option_is_in_the_readme():
    for parameter in command("scan").params:
        if isinstance(parameter, click.Option):
            assert f"`{parameter.opts[0]}" in README, parameter.opts[0]


def test_every_column_is_in_the_readme():
    text = (ROOT / "labelfix" / "results" / "corrections.py").read_text(encoding="utf-8")
    columns = re.findall(r'pa\.field\("(\w+)"', text)
    assert len(columns) == 14
    for column in columns:
        assert f"`{column}`" in README, column
    assert corrections.FILE_NAME in README


@pytest.mark.parametrize("name", method_names())
def test_every_method_is_in_the_readme_and_its_card_names_its_choices(name):
    card = method_card(name)
    assert f"`{name}`" in README
    for heading in ("What it is for:", "When it fails:", "Presets:"):
        assert heading in card["card"]
    for preset in card["presets"]:
        assert f"`{preset}`" in card["card"]


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
    lines = [
        line
        for path in (ROOT / "labelfix").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "nosec" in line
    ]
    assert lines
    for line in lines:
        assert re.search(r"# nosec B\d{3} # \w+ \w+", line), line


def test_the_changelog_names_this_version():
    import labelfix

    assert f"[{labelfix.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

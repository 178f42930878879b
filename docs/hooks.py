"""What mkdocs fills in at build time: the README, the commands from click, the methods from their cards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files, InclusionLevel

from labelfix import method_card, method_names
from labelfix.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")


def on_files(files: Files, config: Any) -> None:
    """Take over what the pages link to outside of docs/."""
    pages = [expand(file.content_string) for file in files.documentation_pages()]
    for path in sorted({link for page in pages for link in OUTSIDE.findall(page)}):
        if (ROOT / path).is_file():
            source = str(ROOT / path)
            files.append(
                File.generated(config, path, abs_src_path=source, inclusion=InclusionLevel.NOT_IN_NAV)
            )


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in a page, and let its links to files outside of docs/ find them in the site."""
    return OUTSIDE.sub(r"](\1", expand(markdown))


def expand(markdown: str) -> str:
    """Put the generated parts in their places."""
    for place, generate in GENERATED.items():
        if place in markdown:
            markdown = markdown.replace(place, generate())
    return markdown


def readme() -> str:
    """The README, with its links as from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\((?!\w+:|#)", "](../", text).replace("](../docs/", "](")


def columns() -> str:
    """The table of columns of the README."""
    return re.search(r"(^\| column \|.*\n)(^\|.*\n)+", readme(), re.MULTILINE)[0]  # type: ignore[index]


def commands() -> str:
    """The help of every command, in the order of the work."""
    parts = []
    parent = click.Context(cli, info_name="labelfix", **cli.context_settings)
    for name in COMMANDS:
        command = cli.get_command(parent, name)
        assert command is not None
        context = click.Context(command, parent=parent, info_name=name, terminal_width=80)
        parts.append(f"## labelfix {name}\n\n```text\n{command.get_help(context)}\n```\n")
        for inner, each in command.commands.items() if isinstance(command, click.Group) else ():
            inside = click.Context(each, parent=context, info_name=inner, terminal_width=80)
            parts.append(f"```text\n{each.get_help(inside)}\n```\n")
    return "\n".join(parts)


def cards() -> str:
    """The card and the settings of every method; one card once."""
    parts: list[str] = []
    heads: dict[str, str] = {}
    for name in method_names():
        card = method_card(name)
        same = heads.setdefault(card["card"], name)
        # A paragraph begins with what it is about.
        text = re.sub(r"(^|\n\n)(\w[\w ]+:) ", r"\1**\2** ", plain(card["card"]))
        text = text if same == name else f"Its card is that of [{same}](#{same})."
        rows = "\n".join(map(row, card["settings"]))
        parts.append(
            f"## {name}\n\n{text}\n\n| setting | default | meaning | source |\n| --- | --- | --- | --- |\n{rows}\n"
        )
    return "\n".join(parts)


def row(setting: dict[str, Any]) -> str:
    """A row of a table of settings."""
    choices = f" (one of {', '.join(f'`{choice}`' for choice in setting['choices'])})"
    meaning = plain(setting["meaning"]) + (choices if setting["choices"] else "")
    value = setting["default"]
    default = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"| `{setting['name']}` | {f'`{default}`' if default else 'none'} | {meaning} | {plain(setting['source'])} |"


def plain(text: str) -> str:
    """Text in which only what stands in backticks is markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[|])", r"\\\1", part) for part in parts)


# What the pages say where they are read as they are, such as on GitHub, and what takes its place in the site.
GENERATED = {
    "The first page of the documentation is the [README](../README.md).\n": readme,
    "The columns are explained in the [README](../README.md#what-comes-out).\n": columns,
    "<!-- method cards -->\n": cards,
    "<!-- commands -->\n": commands,
}

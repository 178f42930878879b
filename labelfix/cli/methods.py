"""labelfix methods."""

from __future__ import annotations

from typing import Any

import click

from labelfix.cli import options
from labelfix.cli.terminal import say


@click.command("methods", epilog="\b\nExample:\n  labelfix methods bmm")
@click.argument("name", required=False)
@options.as_json
def command(name: str | None, as_json: bool) -> None:
    """Show what all methods are for, or the card, settings and presets of one."""
    from labelfix.cli.terminal import print_json
    from labelfix.methods import method_card, method_names

    cards = [method_card(each) for each in ([name] if name else method_names())]
    if as_json:
        print_json(cards[0] if name else {"methods": cards})
    elif name:
        _print_card(cards[0])
    else:
        width = max(len(card["name"]) for card in cards) + 2
        for card in cards:
            say(f"{card['name']:<{width}}{card['purpose']}")


def _print_card(card: dict[str, Any]) -> None:
    say(*card["card"].splitlines(), "", f"Presets: {', '.join(card['presets'])}", "")
    say("Settings (--set NAME=VALUE):")
    for setting in card["settings"]:
        choices = f" ({'|'.join(setting['choices'])})" if setting["choices"] else ""
        default = ",".join(map(str, d)) if isinstance(d := setting["default"], tuple) else d
        say(f"  {setting['name']} = {default}{choices}")
        say(f"      {setting['meaning']}; source: {setting['source']}")

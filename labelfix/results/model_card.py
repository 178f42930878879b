"""The model card beside a classifier: Markdown with YAML front matter, as the Hugging Face hub reads it.

Nothing in it depends on the time, the machine or a path: the same scan has the same card, byte for byte. Names of
sources and classes are text of strangers: every expression of the template is escaped unless a filter made it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from labelfix.atomic_files import atomic_path
from labelfix.config import ScanConfig
from labelfix.methods import method_card, method_class
from labelfix.networks.encoders import ONNX, encoder_facts, is_encoder
from labelfix.results.markdown import Ready, markdown

_MOST_CLASSES = 20


def write(
    path: Path, config: ScanConfig, summary: Mapping[str, Any], *, source: str, test: str | None
) -> None:
    """Write the card of a scan's classifier atomically.

    Args:
        path: of the Markdown file.
        config: of the scan.
        summary: what summary.json holds.
        source: name of the source, no path.
        test: name of the --test source; None without one.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(_card(config, summary, source, test), encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=markdown,
        autoescape=False,  # noqa: S701  # nosec B701 # this is no HTML; `finalize` escapes it
    )
    environment.filters.update(percent=_percent, yaml=_yaml)
    return environment.from_string(
        (files("labelfix.results") / "model_card.md.jinja").read_text(encoding="utf-8")
    )


def _card(config: ScanConfig, summary: Mapping[str, Any], source: str, test: str | None) -> str:
    card, choice = method_card(config.method), summary.get("method_choice")
    paper = re.search(r'^Source: (.+?"[^"]+")', card["card"], re.MULTILINE | re.DOTALL)
    rates = summary["noise_rate_by_class"].items()
    noisiest = sorted(rates, key=lambda item: -1.0 if item[1] is None else item[1], reverse=True)
    return _template().render(
        config=config,
        summary=summary,
        source=source,
        test=test,
        version=Ready(version("labelfix")),
        names=summary["class_names"],
        counts=summary["counts"],
        classes=noisiest[:_MOST_CLASSES],
        verified=summary["diagnostics"].get("trusted"),
        summary_line=Ready(card["summary"]),
        paper=paper and Ready(" ".join(paper[1].split())),
        network=_network(config),
        is_encoder=is_encoder(config.backbone),
        is_onnx=config.backbone == ONNX,
        weights=_weights(config),
        licence=_licence(config),
        changed=_changed(config),
        is_probed=_is_probed(summary["diagnostics"]),
        believed=choice and ", ".join(choice["taken"]),
        compared=choice and ", ".join(choice["log_likelihood"]),
    )


def _is_probed(diagnostics: Mapping[str, Any]) -> bool:
    """Whether a linear probe is believed: of anything, where every class is judged for itself."""
    found = (diagnostics, *diagnostics.get("by_class", {}).values())
    return any("probe" in each["networks"]["taken"] for each in found if "networks" in each)


def _network(config: ScanConfig) -> str:
    """The network by its name, without the path of a file."""
    if not is_encoder(config.backbone):
        return f"the network {config.backbone}"
    name = "an ONNX encoder" if config.backbone == ONNX else f"the encoder {config.backbone}"
    head = "an attention head" if config.network_head else "a linear head"
    return f"{name}, {'frozen' if config.is_frozen else 'fine-tuned'}, with {head}"


def _licence(config: ScanConfig) -> str:
    """Of the published weights of an encoder; empty where it is not known."""
    if not is_encoder(config.backbone) or config.weights != "none":
        return ""
    return encoder_facts(config.backbone).licence


def _weights(config: ScanConfig) -> str:
    """Where training began, without the path of a file."""
    if config.weights_sha256:
        return f"a file with the SHA-256 {config.weights_sha256}"
    if is_encoder(config.backbone):
        return "the encoder's published ones"
    return "random" if config.weights == "none" else "torchvision's, trained on ImageNet"


def _changed(config: ScanConfig) -> list[tuple[str, str, str]]:
    """Settings that differ from the preset: name, value here, value there."""
    preset = method_class(config.method, config.task).presets()[config.preset].model_dump()
    pairs = [(name, here, preset[name]) for name, here in config.settings.model_dump().items()]
    return [(name, _as_text(here), _as_text(there)) for name, here, there in pairs if here != there]


def _as_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _percent(share: float | None) -> Ready:
    return Ready("unknown" if share is None else f"{100 * share:.1f} %")


def _yaml(text: str) -> Ready:
    """A double-quoted YAML scalar on one line."""
    parts = (
        char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in str(text)
    )
    return Ready(f'"{"".join(parts)}"')

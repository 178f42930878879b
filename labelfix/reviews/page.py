"""The page of a review: one HTML file with everything inside, held to it by its own Content-Security-Policy.

The file comes in the order in which a browser needs it: styles and the empty page, which it paints; the samples in
words; the script, which runs there and then; the thumbnails last, in blocks that the script reads when one of their
images comes into view. So a page of 2,000 images can be used before the file is read to its end.

What a run says (names, labels, errors) is text of unknown origin. Templates escape it, JSON holds no character that
ends a script element, and the script makes text nodes only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

# In the order in which they are joined; each file is one idea.
STYLES = (
    "tokens", "controls", "frame", "results", "filters", "score_range", "grid", "card", "findings", "viewer", "choices",
    "changes", "dialogs", "summary",
)  # fmt: skip
SCRIPTS = (
    "elements", "samples", "findings", "changes", "decisions", "view", "csv", "opening", "storage", "shared", "wording",
    "thumbs", "card", "quick", "grid", "score_range", "filters", "picker", "marks", "viewer", "dialogs", "notices",
    "counters", "keys", "app",
)  # fmt: skip
THUMBS_IN_A_BLOCK = 16
# Stands in the head of every page, behind the policy, which has some 500 bytes.
_MARK = b'<meta name="generator" content="labelfix '
_HEAD_BYTES = 4096
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def chunks(data: dict[str, Any], report: dict[str, Any]) -> Iterator[str]:
    """The page, piece by piece: with 2,000 images it is some 10 MB.

    Args:
        data: what the script works on: `run` (id, source, method, task), `class_names` and `samples`, each with id,
            file, given, corrected, suggested, score, confidence, flagged, likely, added, removed, group, two_labels,
            leak, outlier, odd, issue, columns, href, thumb.
        report: what the summary shows: title, source, method, labelfix_version, noise_rate, fit_ok, fit_reason,
            counts, shown, suspects, by_class, pairs, charts (SVG as Markup), invalid, invalid_total, settings.

    Yields:
        Text of an HTML document whose policy forbids all but its own scripts, its own style and data: images.
    """
    early, script, style = asset("early.js"), main_script(), main_style()
    thumbs = [sample["thumb"] for sample in data["samples"]]
    starts = range(0, len(thumbs), THUMBS_IN_A_BLOCK)
    yield from (
        _environment()
        .get_template("page.html.jinja")
        .generate(
            policy=_policy(scripts=[early, script], styles=[style]),
            early_script=early,
            script=script,
            style=style,
            data=_json({**data, "samples": [_in_words(sample) for sample in data["samples"]]}),
            thumbs_in_a_block=THUMBS_IN_A_BLOCK,
            thumb_blocks=(_json(thumbs[start : start + THUMBS_IN_A_BLOCK]) for start in starts),
            report=report,
            multi=data["run"]["task"] == "multi",
        )
    )


def is_page(path: Path) -> bool:
    """Whether a file is a page of a review, by this version or an earlier one.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _MARK in file.read(_HEAD_BYTES)


def main_script() -> str:
    """All scripts but the early one, in one function so that no name of theirs is seen outside."""
    parts = "\n".join(asset(f"scripts/{name}.js") for name in SCRIPTS)
    return f"(() => {{\n'use strict';\n{parts}\n}})();\n"


def main_style() -> str:
    """All style sheets, joined."""
    return "\n".join(asset(f"styles/{name}.css") for name in STYLES)


def asset(path: str) -> str:
    """The text of one of the files that a page is made of, by its path under `assets`."""
    # read_text makes every line end a plain newline, as the browser's parser would before it hashes.
    return (files("labelfix.reviews") / "assets" / path).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {' '.join(map(_hash, styles))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that may stand in a script element: ASCII, without `<`, `>` and `&`; NaN is an error."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _in_words(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample without its image, its probabilities as short as anybody reads them."""
    description = {name: value for name, value in sample.items() if name != "thumb"}
    description["likely"] = [[label, round(share, 4)] for label, share in sample["likely"]]
    for name in ("score", "confidence"):
        description[name] = None if sample[name] is None else round(sample[name], 6)
    return description


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: asset(f"templates/{name}")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["percent"] = lambda share: "\N{EN DASH}" if share is None else f"{100 * share:.1f} %"
    return environment

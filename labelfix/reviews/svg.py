"""SVG for a page with a strict policy: what matplotlib draws, without styles, scripts or anything that changes.

Charts are drawn in the five colours of `COLOURS`, which become the page's own (CSS variables), so that they follow it
into dark mode. What matplotlib writes as style attributes becomes presentation attributes, which such a policy lets
through.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree  # nosec B405 # reads only what matplotlib wrote

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that nobody would choose, by what the page calls those that it puts in their place.
COLOURS = {
    "ink": "#000001",
    "muted": "#000002",
    "line": "#000003",
    "accent": "#000004",
    "accent-2": "#000005",
}
_VARIABLES = {value: f"var(--{name})" for name, value in COLOURS.items()}
_LOOK = {
    "svg.fonttype": "none",
    "svg.hashsalt": "labelfix",
    "text.parse_math": False,  # the texts are the user's
    "text.color": COLOURS["ink"],
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Chart:
    """A drawing before it is drawn.

    Attributes:
        name: of the chart, in ids; letters and hyphens.
        title: a few words.
        caption: what there is to see, in a sentence or two.
        description: what it shows, in words, for people who do not see it.
        size: width and height in inches of 72 px.
        draw: draws on the figure that it is given.
    """

    name: str
    title: str
    caption: str
    description: str
    size: tuple[float, float]
    draw: Callable[[Figure], None]


def drawn(chart: Chart) -> dict[str, str | Markup]:
    """The chart as the page takes it: title, caption and svg; the same bytes for the same chart."""
    # A figure of its own: pyplot would keep it in a list of the whole process.
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    sink = io.StringIO()
    with matplotlib.style.context(["default", _LOOK]), warnings.catch_warnings():
        # Text stays text, so no font here has to have its letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=chart.size)
        chart.draw(figure)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(sink, metadata=nothing)
    drawn = sink.getvalue()
    root = ElementTree.fromstring(drawn)  # noqa: S314  # nosec B314 # written by matplotlib a line ago
    return {"title": chart.title, "caption": chart.caption, "svg": _cleaned(root, chart)}


def _cleaned(root: ElementTree.Element, chart: Chart) -> Markup:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}style" or not str(child.tag).startswith(_SVG):
                parent.remove(child)  # its one rule is written below; the others are about who made it
            elif child.tag == f"{_SVG}metadata":
                parent.remove(child)
    used = _references(root)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = _attributes(element.attrib, used, chart.name)
    box = root.attrib["viewBox"]
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": box,
        "role": "img",
        "aria-labelledby": f"{chart.name}-title {chart.name}-desc",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    for place, (tag, text) in enumerate((("title", chart.title), ("desc", chart.description))):
        element = ElementTree.Element(tag, {"id": f"{chart.name}-{tag}"})
        element.text = text
        root.insert(place, element)
    text = ElementTree.tostring(root, encoding="unicode")
    return Markup(text)  # noqa: S704  # nosec B704 # escaped by the XML library


def _references(root: ElementTree.Element) -> set[str]:
    """The ids that something in the drawing points to."""
    values = [value for element in root.iter() for value in element.attrib.values()]
    return {
        value.removeprefix("url(").removesuffix(")")[1:]
        for value in values
        if value.startswith(("#", "url(#"))
    }


def _attributes(attributes: dict[str, str], used: set[str], name: str) -> dict[str, str]:
    """Presentation attributes only, colours of the page, and ids that no other chart has."""
    kept: dict[str, str] = {}
    for key, value in attributes.items():
        if key == "style":
            kept |= _presentation(value)
        elif key == "id":
            if value in used:
                kept["id"] = f"{name}-{value}"
        elif key == _LINK:
            kept["href"] = f"#{name}-{value[1:]}"
        elif value.startswith("url(#"):
            kept[key] = f"url(#{name}-{value[5:]}"
        else:
            kept[key] = value
    return {key: _VARIABLES.get(value, value) for key, value in kept.items()}


def _presentation(style: str) -> dict[str, str]:
    """The declarations of a style attribute, one attribute each; of a font only its size, the page has its own."""
    pairs = (part.partition(":") for part in style.split(";") if part.strip())
    declared = {name.strip(): value.strip() for name, _, value in pairs}
    font = declared.pop("font", "")
    sizes = [word for word in font.split() if word.endswith("px")]
    return {**declared, **({"font-size": sizes[0]} if sizes else {})}

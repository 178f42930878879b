"""The review page at 2,000 images of 100 px: its size, its first paint, and how fast it answers.

    python tests/benchmarks/review_page.py [--samples 2000] [--classes 10] [--page FILE]

The images are smooth noise as JPEG. Times are taken inside the page, from the event to the frame that shows its effect;
median and longest of 20. Let nothing else run.
"""

from __future__ import annotations

import argparse
import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import Visit, open_browser
from review_data import UNNOTICED, report

from labelfix.data.images.decoding import encode
from labelfix.reviews import page

# A frame begins after the callback of requestAnimationFrame; the message comes when that frame is out.
TIMED = """async ([act, argument]) => {
  const started = performance.now();
  new Function('argument', act)(argument);
  await new Promise(done => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  }));
  return performance.now() - started;
}"""
KEY = """const event = new KeyboardEvent('keydown', {key: argument, bubbles: true, cancelable: true});
document.activeElement.dispatchEvent(event);"""
FIELD = """const field = document.getElementById(argument[0]);
field.value = argument[1];
field.dispatchEvent(new Event(argument[2], {bubbles: true}));"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--page", type=Path, help="where the page is left")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = args.page or Path(folder) / "review.html"
        data = data_of(args.samples, args.classes)
        started = time.perf_counter()
        with file.open("w", encoding="utf-8") as sink:
            sink.writelines(page.chunks(data, report(shown=args.samples, suspects=args.samples)))
        print(f"written in {time.perf_counter() - started:.2f} s, {file.stat().st_size / 1e6:.1f} MB")
        with open_browser() as browser:
            measure(Visit(browser, file.resolve()))


def data_of(count: int, classes: int) -> dict[str, Any]:
    """Samples with images of their own."""
    rng = np.random.default_rng(0)
    samples = []
    for row in range(count):
        probs = np.sort(rng.dirichlet(np.full(classes, 0.3)))[::-1]
        labels = rng.permutation(classes)
        sample = {
            "id": row, "file": f"train/images/of/class-{labels[1]}/{row:06d}.jpg", "given": int(labels[1]),
            "corrected": int(labels[0]), "suggested": int(labels[0]), "score": float(rng.random()),
            "confidence": float(probs[0]), "flagged": True, "added": [], "removed": [], **UNNOTICED,
            "likely": [[int(k), float(p)] for k, p in zip(labels[:9], probs, strict=False)],
            "href": f"../train/images/of/class-{labels[1]}/{row:06d}.jpg", "thumb": picture(rng),
        }  # fmt: skip
        samples.append(sample)
    run = {"id": f"benchmark-{count}", "source": "images", "method": "bmm", "task": "single"}
    return {"run": run, "class_names": [f"class {k}" for k in range(classes)], "samples": samples}


def picture(rng: np.random.Generator) -> str:
    """100 px of smooth noise as a data URI."""
    coarse = rng.integers(0, 256, (3, 26, 26)).astype(np.float64)
    smooth = np.stack([np.kron(plane, np.ones((4, 4))) for plane in coarse])[:, :101, :101]
    smooth = (smooth[:, 1:, 1:] + smooth[:, :-1, 1:] + smooth[:, 1:, :-1] + smooth[:, :-1, :-1]) / 4
    return "data:image/jpeg;base64," + base64.b64encode(encode(smooth.astype(np.uint8), "JPEG")).decode()


def measure(visit: Visit) -> None:
    visit.page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    paint = visit.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    ready = visit.page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    print(f"first contentful paint {paint:.0f} ms, whole file read {ready:.0f} ms")
    visit.press("ArrowRight")
    classes = [["class-filter", str(k % 5), "change"] for k in range(19)] + [["class-filter", "", "change"]]
    scores = [["score-min", str(k / 40), "input"] for k in range(19)] + [["score-min", "0", "input"]]
    actions = {
        "key a (decide)": (KEY, ["a"] * 20),
        "key j (move)": (KEY, ["j"] * 20),
        "key End, Home": (KEY, ["End", "Home"] * 10),
        "key z (undo)": (KEY, ["z"] * 20),
        "large view open, close": (KEY, ["Enter"] * 20),
        "filter by class": (FIELD, classes),
        "filter by text": (FIELD, [["search", text, "input"] for text in ["1", "12", "1", ""] * 5]),
        "filter by score": (FIELD, scores),
        "sort": (FIELD, [["sort", order, "change"] for order in ["confusion", "class", "id", "score"] * 5]),
        "scroll a screen": ("window.scrollBy(0, argument)", [700] * 20),
    }
    for name, (act, arguments) in actions.items():
        times = [visit.page.evaluate(TIMED, [act, argument]) for argument in arguments]
        print(f"{name:24} median {statistics.median(times):5.0f} ms   longest {max(times):5.0f} ms")
    visit.close()


if __name__ == "__main__":
    main()

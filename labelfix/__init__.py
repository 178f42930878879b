"""labelfix finds and corrects wrong labels in image datasets by training networks that survive them.

The map of the house, from the path of an image to its row in corrections.parquet:

    manifest, sources/    the rows: file name and given label; trusted: which labels a person has verified
    parquet_file          what opens every Parquet file, and looks at what it unpacks to
    cache, store          every image decoded once
    batches, views, distortions    rows as batches of augmented views
    networks/             what is trained
    methods/, losses, look_ahead, mixture, readings, schedules    the papers
    trainer, checkpoint   the only loop, and how it survives a kill
    evidence, pooling, credibility, calibration    what a method says, and how far it can be believed
    verdicts              the one rule that turns it into flags and corrections
    corrections, classifier, onnx_file, summary, model_card, run_folder    what comes out
    job, cross_fitting, findings, pipeline    scan(): all of the above in one page
    prediction            predict(): a trained classifier on other images
    frame/                findings in pandas: read_corrections(), and df.labelfix
    reviews/              review(): a page in which people look at the suspects and decide
    guards, outputs, exports/, scoring, metrics, corruption, noise, demo    what people do before and after
    benchmark/            bench(): methods side by side where the truth is known
    cli/                  the command line: one command, one function

Names are loaded when they are first used, so that importing labelfix is quick and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelfix.benchmark import bench
    from labelfix.classifier import Classifier, load_classifier
    from labelfix.corruption import corrupt
    from labelfix.errors import InputError, Interrupted, LabelfixError
    from labelfix.exports import export
    from labelfix.frame import read_corrections
    from labelfix.methods import method_card, method_names
    from labelfix.pipeline import Run, plan, scan
    from labelfix.prediction import predict
    from labelfix.reviews import review
    from labelfix.scoring import evaluate

__version__ = version("labelfix")

_HOMES = {
    "Classifier": "classifier",
    "InputError": "errors",
    "Interrupted": "errors",
    "LabelfixError": "errors",
    "Run": "pipeline",
    "bench": "benchmark",
    "corrupt": "corruption",
    "evaluate": "scoring",
    "export": "exports",
    "load_classifier": "classifier",
    "method_card": "methods",
    "method_names": "methods",
    "plan": "pipeline",
    "predict": "prediction",
    "read_corrections": "frame",
    "review": "reviews",
    "scan": "pipeline",
}

__all__ = [
    "Classifier",
    "InputError",
    "Interrupted",
    "LabelfixError",
    "Run",
    "__version__",
    "bench",
    "corrupt",
    "evaluate",
    "export",
    "load_classifier",
    "method_card",
    "method_names",
    "plan",
    "predict",
    "read_corrections",
    "review",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'labelfix' has no attribute {name!r}")
    value = getattr(import_module(f"labelfix.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

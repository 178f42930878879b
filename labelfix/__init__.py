"""labelfix finds and corrects wrong labels in image datasets by training networks that survive them.

The map of the code, from the path of an image to its row in corrections.parquet. A family imports only from families
above it here:

    output_paths    what may be written, for every command; beside it the leaves: atomic_files, json_files, choices ...
    data/           manifest: the rows of a source; readers/: one kind of source a file (delimited: csv and tsv);
                    images/: store, decoding, thumbnails; verified_labels; cache
    networks/       what is trained, a network a file; encoders: pretrained ones by name; heads: what stands on them
    estimation/     from predictions to flags: in_sample (what training remembers), held_out (evidence), judgement over
                    noise_model, noise_levels, controls; verdicts: the rule of the flags; mixture: bmm's; calibration
    methods/        one paper a file, with settings and loss, over base; shared: losses, schedules, look_ahead,
                    trusted_stream
    config          the options of a scan, resolved; devices: what `auto` means here
    training/       trainer: the only loop; batches, augmentation, features (frozen encoders), folds, checkpoint, resume
    results/        what a run leaves: corrections, summary, model_card, classifier, decisions, run_folder
    accessor/       read_corrections(), and df.labelfix
    scan_plan       a scan before its first step, and plan()
    pipeline        scan(): all of the above in one page
    scoring         score_labels(): findings from predictions that somebody else's model made, without a scan
    prediction      predict(): a trained classifier on other images
    evaluation      evaluate(): a run against the truth
    reviews/        review(): a page in which people look at the suspects and decide
    exports/        export(): one format a file, its name in choices.EXPORTS
    noise/          corrupt(): noise of known truth
    demo/           demo(): the whole way on digits
    benchmark/      bench(): methods side by side where the truth is known
    cli/            the command line: one command a file (scan: labelfix scan)

Names are loaded when they are first used, so that importing labelfix is quick and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelfix.accessor import read_corrections
    from labelfix.benchmark import bench
    from labelfix.errors import InputError, Interrupted, LabelfixError
    from labelfix.evaluation import evaluate
    from labelfix.exports import export
    from labelfix.methods import method_card, method_names
    from labelfix.noise.corruption import corrupt
    from labelfix.pipeline import Run, scan
    from labelfix.prediction import predict
    from labelfix.results.classifier import Classifier, load_classifier
    from labelfix.reviews import review
    from labelfix.scan_plan import plan
    from labelfix.scoring import score_labels

__version__ = version("labelfix")

_HOMES = {
    "Classifier": "results.classifier",
    "InputError": "errors",
    "Interrupted": "errors",
    "LabelfixError": "errors",
    "Run": "pipeline",
    "bench": "benchmark",
    "corrupt": "noise.corruption",
    "evaluate": "evaluation",
    "export": "exports",
    "load_classifier": "results.classifier",
    "method_card": "methods",
    "method_names": "methods",
    "plan": "scan_plan",
    "predict": "prediction",
    "read_corrections": "accessor",
    "review": "reviews",
    "scan": "pipeline",
    "score_labels": "scoring",
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
    "score_labels",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'labelfix' has no attribute {name!r}")
    value = getattr(import_module(f"labelfix.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

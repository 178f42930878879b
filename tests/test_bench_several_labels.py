"""bench() where a row may have several labels: real scans of mosaics of digits, every number against the truth."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import refusals
from click.testing import CliRunner
from mosaics import NAMES, write_mosaics
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.benchmark.grid import make_grid
from labelfix.cli import cli
from labelfix.data.manifest import Manifest

ROWS, TESTED = 120, 40
PENCIL, FOLDS = "pencil:epochs=3", "cross-entropy:epochs=4:folds=2:head=pool"
PLANTED = "dropped:0.2,added:0.05"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished bench: its source, its folder and what it returned."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        source = write_mosaics(folder / "source", ROWS)
        test = write_mosaics(folder / "test", TESTED, "dropped:0", seed=5, has_truth=False)
        result = labelfix.bench(
            source, methods=[PENCIL, FOLDS], noise=f"given,{PLANTED}", truth_column="true_label", test=test,
            out=folder / "out", batch_size=40, device="cpu",
        )  # fmt: skip
    return source, folder / "out", result


def row_of(result: dict, noise: str, method: str) -> dict:
    return next(row for row in result["rows"] if (row["noise"], row["method"]) == (noise, method))


def run_of(out: Path, noise: str, method: str) -> Path:
    return out / "runs" / f"{noise}-seed0-{method}".replace(":", "-").replace(",", "-")


def states(lists) -> np.ndarray:
    return np.array([[name in labels for name in NAMES] for labels in lists])


def test_kinds_that_go_together_are_one_noise():
    text = "clean,dropped:0.2,added:0.05,dropped:0.4,added:0.1,given,added:0.3"
    cells = make_grid("pencil", text, "0", {})
    expected = ["clean", "dropped:0.2,added:0.05", "dropped:0.4,added:0.1", "given", "added:0.3"]
    assert [cell.noise for cell in cells] == expected


def test_settings_are_those_for_several_labels():
    cells = make_grid("pencil:head=pool:kl_weight=0", "given", "0", {})
    assert cells[0].method.settings == {"head": "pool", "kl_weight": "0"}
    bad = partial(refusals.refuses, make_grid, seeds="0", shared={})
    bad(
        "pencil:compat=reference",
        "compat",
        "no such setting",
        methods="pencil:compat=reference",
        noise=PLANTED,
    )
    bad("bmm", "pencil or cross-entropy", methods="bmm", noise=PLANTED)
    bad("dropped:2", "from 0 to 1", methods="pencil", noise="dropped:2")


def test_the_numbers_are_those_of_evaluate(made):
    _, out, result = made
    assert [(row["noise"], row["method"]) for row in result["rows"]] == [
        (noise, method) for noise in ("given", PLANTED) for method in (PENCIL, FOLDS)
    ]
    for row in result["rows"]:
        truth = out / (
            "truth.parquet" if row["noise"] == "given" else "noisy/dropped-0.2-added-0.05-seed0.parquet"
        )
        found = labelfix.evaluate(run_of(out, row["noise"], row["method"]), truth=truth)
        for name in (
            "average_precision",
            "f1",
            "label_accuracy_given",
            "label_accuracy_corrected",
            "rows_evaluated",
        ):
            assert row[name] == found[name], name
        assert 0 < row["test_map"] <= 1
        assert row["test_accuracy"] is None


def test_given_labels_and_planted_ones_against_the_truth_by_hand(made):
    source, out, result = made
    table = pd.read_json(source, lines=True)
    right = (states(table["label"]) == states(table["true_label"])).mean()
    assert row_of(result, "given", PENCIL)["label_accuracy_given"] == pytest.approx(right)
    planted = pq.read_table(out / "noisy/dropped-0.2-added-0.05-seed0.parquet").to_pandas()
    true, noisy = states(planted["true_label"]), states(planted["label"])
    assert (true == states(table["true_label"])).all()
    assert (true & ~noisy).sum() == round(0.2 * true.sum())
    assert (noisy & ~true).sum() == round(0.05 * (~true).sum())


def test_cleanlab_by_hand_on_out_of_sample_predictions_alone(made):
    pytest.importorskip("cleanlab")
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    _, out, result = made
    row = row_of(result, PLANTED, FOLDS)
    table = pq.read_table(run_of(out, PLANTED, FOLDS) / "corrections.parquet").to_pandas()
    table = table[table["duplicate_group"].isna()] if "duplicate_group" in table else table
    truth = pq.read_table(out / "noisy/dropped-0.2-added-0.05-seed0.parquet").to_pandas().loc[table.index]
    given, true = states(table["given_label"]), states(truth["true_label"])
    lists, probs = [np.flatnonzero(each).tolist() for each in given], np.stack(table["predicted_probs"])
    quality = get_label_quality_scores_per_class(lists, probs.astype(np.float64))
    wrong = (given != true).ravel()
    expected = average_precision_score(wrong, -quality.ravel())
    assert row["cleanlab_average_precision"] == pytest.approx(expected)
    issues = find_multilabel_issues_per_class(lists, probs.astype(np.float64), n_jobs=1)
    assert row["cleanlab_label_accuracy"] == pytest.approx(((given ^ issues) == true).mean())
    assert row["cleanlab_precision"] == pytest.approx(wrong[issues.ravel()].mean())
    assert row_of(result, PLANTED, PENCIL)["cleanlab_average_precision"] is None


def test_methods_agree_about_states(made):
    _, _, result = made
    agreement = next(each for each in result["agreement"] if each["noise"] == PLANTED)
    row = row_of(result, PLANTED, PENCIL)
    assert agreement["rows_evaluated"] == sum(agreement["rows"]) == row["rows_evaluated"] * len(NAMES)
    best = max(row["average_precision"] for row in result["rows"] if row["noise"] == PLANTED)
    assert agreement["best_average_precision"] == best


def test_the_command_shows_the_map_and_goes_on(made):
    source, out, _ = made
    arguments = [
        "bench", str(source), "--methods", f"{PENCIL},{FOLDS}", "--noise", f"given,{PLANTED}", "--truth-column",
        "true_label", "--test", str(source.parents[1] / "test" / "list.jsonl"), "--out", str(out), "--batch-size", "40",
        "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    head = next(line for line in done.output.splitlines() if line.startswith("noise"))
    assert "cleanlab AP" in head
    assert "test mAP" in head


def test_lists_in_texts_and_soft_columns(tmp_path):
    source = write_mosaics(tmp_path / "source", 60)
    table = pd.read_json(source, lines=True)
    texts = table.assign(label=[";".join(labels) or ";" for labels in table["label"]]).drop(
        columns="true_label"
    )
    texts.to_csv(source.parent / "texts.csv", index=False)
    options = {"methods": "cross-entropy:epochs=1", "batch_size": 30, "device": "cpu"}
    one = labelfix.bench(
        source.parent / "texts.csv", noise="clean", label_separator=";", out=tmp_path / "one", **options
    )
    assert one["rows"][0]["label_accuracy_given"] == 1
    soft = table.assign(
        **{name: np.where(states(table["label"])[:, k], 0.8, 0.1) for k, name in enumerate(NAMES)}
    )
    soft.drop(columns=["label"]).to_parquet(source.parent / "soft.parquet")
    other = labelfix.bench(
        source.parent / "soft.parquet", noise="given,softened:0.3", truth_column="true_label",
        label_columns=",".join(NAMES), out=tmp_path / "two", **options,
    )  # fmt: skip
    right = (states(table["label"]) == states(table["true_label"])).mean()
    given, softened = other["rows"]
    assert given["label_accuracy_given"] == pytest.approx(right)
    assert softened["label_accuracy_given"] == 1
    planted = Manifest.read(
        tmp_path / "two/noisy/softened-0.3-seed0.parquet", task="multi", label_columns=NAMES
    )
    assert 0.2 < np.mean((planted.targets > 0) & (planted.targets < 1)) < 0.4


class TestRefused:
    """Before anything is trained; the source is a small one of its own."""

    @pytest.fixture
    def refuses(self, tmp_path):
        source = write_mosaics(tmp_path / "source", 20)
        options = {"source": source, "methods": "pencil", "noise": "clean", "out": tmp_path / "out"}
        return lambda *words, **changes: refusals.refuses(labelfix.bench, *words, **{**options, **changes})

    def test_methods_for_one_label(self, refuses, tmp_path):
        refuses("bmm", "pencil or cross-entropy", methods="bmm")
        assert not (tmp_path / "out").exists()

    def test_noise_for_another_number_of_labels(self, refuses, digits):
        refuses("--noise symmetric:0.4", "several labels", "dropped:0.2", noise="symmetric:0.4")
        refuses("--noise added:0.1", "one label", "symmetric:0.4", source=digits[0], noise="added:0.1")

    def test_plots_of_losses(self, refuses):
        refuses("--plots", "one label", plots=True)


def test_confidences_of_the_source_are_trained_on_under_planted_noise_too(tmp_path):
    write_mosaics(tmp_path, 40)
    rows = [[f"{row:04d}.png", *((0.95, 0.05) if row % 2 else (0.05, 0.95))] for row in range(40)]
    frame = pd.DataFrame(rows, columns=["file_name", "a", "b"])
    frame.to_csv(tmp_path / "columns.csv", index=False)
    frame[:20].to_csv(tmp_path / "test.csv", index=False)
    result = labelfix.bench(
        tmp_path / "columns.csv", methods="cross-entropy:epochs=1:head=pool", noise="clean,dropped:0.2,added:0.1",
        label_columns="a,b", test=tmp_path / "test.csv", out=tmp_path / "out", device="cpu",
    )  # fmt: skip
    clean, planted = result["rows"]
    assert min(clean["test_map"], planted["test_map"]) > 0
    assert clean["label_accuracy_given"] == 1
    # 8 of the 40 labels dropped and 4 of the 40 classes that rows lack added.
    assert planted["label_accuracy_given"] == pytest.approx(1 - 12 / 80)
    read = Manifest.read(next((tmp_path / "out/noisy").glob("*.parquet")), task="multi", label_columns="ab")
    given = Manifest.read(tmp_path / "columns.csv", task="multi", label_columns="ab")
    assert (read.targets != given.targets).sum() == 12


def test_columns_are_named_with_blanks_too(tmp_path):
    write_mosaics(tmp_path, 20)
    rows = [[f"{row:04d}.png", row % 2, 1 - row % 2] for row in range(20)]
    pd.DataFrame(rows, columns=["file_name", "a", "b"]).to_csv(tmp_path / "columns.csv", index=False)
    # What is refused is refused of the classes, after they are read.
    refusals.refuses(
        labelfix.bench, "--plots", "several", source=tmp_path / "columns.csv", methods="pencil", noise="dropped:0.2",
        label_columns="a, b", plots=True, out=tmp_path / "out",
    )  # fmt: skip

"""bench --table: the published tables as files say them, their rows as methods, and our figures beside them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import refusals
from click.testing import CliRunner
from conftest import write_digits
from scipy.stats import rankdata

import labelfix
from labelfix.benchmark import loss_plots
from labelfix.benchmark.paper_table import PaperTable, table_names
from labelfix.benchmark.rows import best_accuracy
from labelfix.cli import cli
from labelfix.estimation.mixture import NoiseModel

ROWS = 120
TABLE, NOISE = "paper:bmm-5", "symmetric-exclusive:0.4"


def write_source(folder: Path) -> Path:
    """A manifest of 120 digits, a sixth of them test images and another one for validation."""
    label = write_digits(folder / "images", ROWS)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    split = np.array(["train", "test", "Validation", "train", "train", "train"])[np.arange(ROWS) % 6]
    pd.DataFrame({"file_name": names, "label": label, "split": split}).to_csv(folder / "all.csv", index=False)
    return folder / "all.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A column of a table, run: its source, its folder and what bench returned."""
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        source = write_source(folder)
        options = {"epochs": 3, "batch_size": 64, "device": "cpu", "plots": True}
        result = labelfix.bench(source, table=TABLE, noise=NOISE, out=folder / "out", **options)
    return source, folder / "out", result


@pytest.mark.parametrize("name", table_names())
def test_every_row_of_every_table_is_a_method_that_bench_takes(name):
    table = PaperTable.of(name)
    cells = table.cells("0", {})
    assert len(cells) == len(table.rows) * len(table.columns)
    for row in table.rows:
        assert row.published
        assert row.published.keys() <= {"best", "last"}
        for figures in row.published.values():
            assert len(figures) == len(row.methods) == len(table.columns)
            assert all(figure is None or 0 < figure < 100 for figure in figures)
    assert table.source
    assert table.settings


def test_the_rows_run_what_their_names_say():
    table = PaperTable.of("paper:pencil-3", "symmetric:0.7,symmetric:0.1")
    assert table.columns == ("symmetric:0.7", "symmetric:0.1")
    pencil = table.rows[-1]
    assert pencil.methods == ("pencil:preset=paper-cifar10-sym70", "pencil:preset=paper-cifar10-sym10")
    assert pencil.published == {"best": (87.10, 93.26), "last": (87.18, 93.28)}
    assert PaperTable.of("paper:pencil-2-symmetric").rows[-1].published["last"][-1] is None  # it failed


def test_figures_are_means_over_seeds_and_errors_where_the_paper_has_errors():
    def rows(name: str, noise: str, *accuracies: float | None) -> list[dict]:
        method = PaperTable.of(name).rows[-1].methods[0]
        common = {"noise": noise, "method": method, "test_accuracy_best": None}
        return [{**common, "test_accuracy": accuracy} for accuracy in accuracies]

    right = PaperTable.of("paper:bmm-1").beside(rows("paper:bmm-1", "symmetric:0.8", 0.5, 0.75, None))
    found = [figure for figure in right["figures"] if figure["ours"] is not None]
    (figure,) = found
    assert (figure["row"], figure["noise"], figure["measure"]) == ("DY-H", "symmetric:0.8", "last")
    assert (figure["published"], figure["ours"], figure["seeds"]) == (64.2, 62.5, 2)
    wrong = PaperTable.of("paper:nnaqc-5").beside(rows("paper:nnaqc-5", "simplex:0.5", 0.75))
    assert [figure["ours"] for figure in wrong["figures"] if figure["seeds"]] == [25.0]


def test_the_best_epoch_is_chosen_on_validation_rows_else_on_the_test_images(tmp_path):
    path = tmp_path / "epochs.parquet"
    columns = {
        "fold": pa.array([0, None, None, None], pa.int64()),
        "test_accuracy": pa.array([0.99, 0.5, 0.9, 0.7]),
        "validation_accuracy": pa.array([0.99, 0.6, 0.7, 0.8]),
    }
    pq.write_table(pa.table(columns), path)
    assert best_accuracy(path) == 0.7
    pq.write_table(pa.table(columns).drop_columns("validation_accuracy"), path)
    assert best_accuracy(path) == 0.9
    pq.write_table(pa.table(columns).select(["fold"]), path)
    assert best_accuracy(path) is None


def test_a_column_of_a_table_is_run_and_compared(made):
    _, out, result = made
    rows, paper = result["rows"], result["paper"]
    assert [row["method"] for row in rows] == ["bmm:preset=paper", "bmm:preset=paper-cifar10-md-dyr-sh"]
    assert [figure["ours"] for figure in paper["figures"]] == pytest.approx(
        [round(100 * row["test_accuracy_best"], 2) for row in rows]
    )
    assert [figure["published"] for figure in paper["figures"]] == [92.8, 92.3]
    for run in (path for path in (out / "runs").iterdir() if path.is_dir()):
        config = json.loads((run / "config.json").read_text())["config"]
        assert config["holdout"] == 0  # the rows of a paper train on all of their images
        epochs = pd.read_parquet(run / "epochs.parquet")
        # 20 images each, seen as what they are marked.
        assert set(np.round(epochs["validation_accuracy"] * 20, 6) % 1) == {0}
        assert len(pq.read_table(out / "test.parquet")) == 20
    json.dumps(result, allow_nan=False)


def test_the_command_prints_the_table_and_trains_nothing_twice(made, monkeypatch):
    source, out, result = made
    monkeypatch.setenv("LABELFIX_CACHE", str(source.parent / "cache"))
    command = (
        f"bench {source} --table {TABLE} --noise {NOISE} --epochs 3 --batch-size 64 --device cpu --out {out}"
    )
    found = CliRunner().invoke(cli, command.split())
    assert found.exit_code == 0, found.stderr
    assert "Arazo et al. 2019, 4.5, table 5" in found.stdout
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("MD-DYR-SH")]
    ours = 100 * result["rows"][1]["test_accuracy_best"]
    assert line.split() == ["MD-DYR-SH", "best", "92.3", f"{ours:.1f}"]
    assert "run 1 of" not in found.stderr


def test_the_losses_of_every_run_are_drawn(made):
    _, out, result = made
    assert [plot["method"] for plot in result["loss_plots"]] == [row["method"] for row in result["rows"]]
    for plot in result["loss_plots"]:
        path = Path(plot["path"])
        assert path.parent == out / "plots"
        assert path.read_bytes()[:4] == b"\x89PNG"
        assert 0 < plot["beta"] < 1
    assert not {path.name for path in (out / "plots").iterdir()} - {
        Path(plot["path"]).name for plot in result["loss_plots"]
    }


class TestLossPlot:
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Of 4,000 rows, a quarter of them wrong ones with larger losses."""
        rng = np.random.default_rng(0)
        is_wrong = np.arange(4_000) % 4 == 0
        return np.where(is_wrong, rng.gamma(9, 0.3, 4_000), rng.gamma(1.5, 0.4, 4_000)), is_wrong

    @pytest.mark.parametrize("mixture", ["beta", "gaussian"])
    def test_posteriors_are_those_of_their_densities(self, mixture):
        losses, _ = self.losses()
        model = NoiseModel.fit(losses, mixture)
        x = model.scale.normalise(losses)
        clean, noisy = loss_plots.densities(model.mixture, x)
        assert loss_plots.printed_posterior(model, losses) == pytest.approx(noisy / (clean + noisy), abs=1e-9)
        # Each component with its weight: both together are a density.
        points = np.linspace(0, 1, 20_001)[1:-1]
        assert loss_plots.densities(model.mixture, points).sum() / 20_000 == pytest.approx(1, abs=0.12)

    def test_areas_are_those_of_the_posteriors(self, tmp_path):
        losses, is_wrong = self.losses()
        own = np.exp(-losses)
        probs, given = np.stack([own, 1 - own], axis=1), np.zeros(4_000, np.int64)
        areas = loss_plots.write_loss_plot(tmp_path / "x.png", probs, given, is_wrong)
        for name, area in areas.items():
            score = loss_plots.printed_posterior(NoiseModel.fit(losses, name), losses)
            ranks = rankdata(score)[is_wrong].sum()
            assert area == pytest.approx((ranks - 1_000 * 1_001 / 2) / (1_000 * 3_000))
        assert areas["beta"] > 0.9

    def test_nothing_is_drawn_where_there_is_nothing_to_tell(self, tmp_path):
        probs, given = np.full((50, 2), 0.5), np.zeros(50, np.int64)
        for is_wrong in (np.zeros(50, bool), np.ones(50, bool), np.arange(50) < 9):
            assert loss_plots.write_loss_plot(tmp_path / "x.png", probs, given, is_wrong) is None
        assert loss_plots.write_loss_plot(tmp_path / "x.png", probs[:0], given[:0], np.zeros(0, bool)) is None
        assert not (tmp_path / "x.png").exists()


refuses = partial(refusals.refuses, labelfix.bench)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"table": "paper:bmm-9"}, ["--table paper:bmm-9", "paper:bmm-1", "paper:nnaqc-5"]),
        ({"table": "bmm-1"}, ["--table bmm-1", "choose one of paper:bmm-1"]),
        ({"table": "paper:bmm-1", "methods": "bmm"}, ["--table paper:bmm-1", "leave out --methods"]),
        ({"table": "paper:bmm-1", "noise": "pair:0.3"}, ["no column pair:0.3", "symmetric:0.8"]),
        ({"table": "paper:meta-9"}, ["needs labels to trust", "--trusted"]),
        ({"methods": "bmm"}, ["--methods and --noise", "--table"]),
    ],
)
def test_refused(tmp_path, options, parts):
    refuses(*parts, source=tmp_path, out=tmp_path / "out", **options)


def test_a_table_needs_test_images(tmp_path):
    write_digits(tmp_path / "images", 40)
    refuses(
        "--table paper:bmm-1", "--test", source=tmp_path / "images", out=tmp_path / "out", table="paper:bmm-1"
    )

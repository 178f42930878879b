"""Semantic noise: real trainings on a few digits; the wrong labels are those of a network, and nothing else moves."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from conftest import write_digits
from refusals import refuses
from scipy import stats

import labelfix
from labelfix.benchmark.grid import make_grid
from labelfix.benchmark.materials import gather, plant_noise
from labelfix.cli import cli
from labelfix.errors import InputError, LabelfixError
from labelfix.methods.cross_entropy import CrossEntropy
from labelfix.noise import semantic
from labelfix.noise.corruption import corrupt
from labelfix.noise.planting import realised_transition, share_of_classes
from labelfix.noise.semantic import LEAST_STEPS

ROWS, SHARE = 400, 0.08
MISSING, UNLABELLED = 7, 11


def write_source(folder):
    """A manifest of 400 digits, every tenth in a test split; one image is missing, one row has no label."""
    true = write_digits(folder / "images", ROWS)
    names = sorted(path.relative_to(folder).as_posix() for path in (folder / "images").rglob("*.png"))
    table = pd.DataFrame({"file_name": names, "label": pd.Series(true, dtype="string")})
    table["split"] = np.where(np.arange(ROWS) % 10 == 3, "test", "train")
    table.loc[UNLABELLED, "label"] = pd.NA
    table.loc[MISSING, "file_name"] = "images/nowhere.png"
    table.to_csv(folder / "digits.csv", index=False)
    return folder / "digits.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a source and of its semantic noise: seed 0 in `0.parquet`, 1 in `1.parquet`; what was returned."""
    folder = tmp_path_factory.mktemp("semantic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELFIX_CACHE", str(folder / "cache"))
        source = write_source(folder)
        results = [
            corrupt(source, noise=f"semantic:{SHARE}", seed=seed, out=folder / f"{seed}.parquet")
            for seed in (0, 1)
        ]
    return folder, results


def read(path):
    """Given and true labels (N,) of a file, -1 for none."""
    table = pd.read_parquet(path)
    return (pd.to_numeric(table[name]).fillna(-1).to_numpy(np.int64) for name in ("label", "true_label"))


def trained_rows(true, seed):
    usable = np.where(np.arange(ROWS) % 10 == 3, -1, true)
    usable[MISSING] = -1
    return share_of_classes(usable, SHARE, 10, seed)


class TestLabels:
    def test_what_is_reported_is_what_is_written(self, made):
        folder, results = made
        for seed, result in enumerate(results):
            noisy, true = read(folder / f"{seed}.parquet")
            assert result["corrupted"] == (noisy != true).sum()
            assert (result["rows"], result["labelled"]) == (ROWS, ROWS - 1)
            assert (result["kind"], result["rate"], result["open_set"]) == ("semantic", SHARE, None)
            trained = np.arange(ROWS) % 10 != 3
            moved = realised_transition(true[trained], noisy[trained], 10)
            np.testing.assert_allclose(result["transition_matrix"], moved)
            assert result["test_rows"] == ROWS // 10
            assert result["realised_rate"] == (noisy != true).sum() / (ROWS - 1 - ROWS // 10)
            marks = pd.read_parquet(folder / f"{seed}.parquet")["is_corrupted"]
            assert marks.tolist() == (noisy != true).tolist()
            json.dumps(result, allow_nan=False)

    def test_the_network_is_better_than_chance_and_not_perfect(self, made):
        for result in made[1]:
            assert 0.03 < result["realised_rate"] < 0.4

    def test_what_it_trained_on_stays_and_so_does_what_it_cannot_see(self, made):
        folder, results = made
        for seed, result in enumerate(results):
            noisy, true = read(folder / f"{seed}.parquet")
            rows = trained_rows(true, seed)
            assert result["network"]["trained_rows"] == len(rows)
            assert set(true[rows]) == set(range(10))
            assert (noisy[rows] == true[rows]).all()
            assert noisy[MISSING] == true[MISSING] >= 0
            assert noisy[UNLABELLED] == -1

    def test_rows_of_the_test_split_keep_their_labels(self, made):
        for seed in (0, 1):
            noisy, true = read(made[0] / f"{seed}.parquet")
            assert (noisy == true)[3::10].all()

    def test_few_rows_make_enough_steps(self, made):
        for result in made[1]:
            network = result["network"]
            steps = -(-network["trained_rows"] // 32)
            assert LEAST_STEPS <= network["epochs"] * steps < LEAST_STEPS + steps
            assert (network["backbone"], network["image_size"]) == ("small", 8)

    def test_wrong_labels_concentrate(self, made):
        """Uniform noise would fill the wrong labels of a class evenly."""
        both = [np.stack([*read(made[0] / f"{seed}.parquet")]) for seed in (0, 1)]
        noisy, true = np.concatenate(both, axis=1)
        counts = np.array([np.bincount(noisy[true == label], minlength=10) for label in range(10)])
        wrong = counts[~np.eye(10, dtype=bool)].reshape(10, 9)
        expected = np.repeat(wrong.sum(axis=1, keepdims=True) / 9, 9, axis=1)
        seen = expected > 0
        assert stats.chisquare(wrong[seen], expected[seen], ddof=9).pvalue < 1e-6

    def test_the_command_line_gives_the_same_bytes_and_leaves_the_random_state(self, made):
        folder, results = made
        # Beside the first: paths in the file are relative to it.
        source, out = folder / "digits.csv", folder / "again.parquet"
        before = torch.get_rng_state()
        arguments = ["corrupt", str(source), "--noise", f"semantic:{SHARE}", "--out", str(out), "--json"]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        assert torch.equal(torch.get_rng_state(), before)
        assert json.loads(done.stdout) == {**results[0], "path": str(out)}
        assert "1 of 400 images cannot be used" in done.stderr
        assert out.read_bytes() == (folder / "0.parquet").read_bytes()
        assert (folder / "1.parquet").read_bytes() != out.read_bytes()


def test_a_network_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(semantic, "LEAST_STEPS", 1)
    write_digits(tmp_path / "images", 40)
    result = corrupt(tmp_path / "images", noise="semantic:0.3:cifar-net", out=tmp_path / "noisy.parquet")
    assert (result["noise"], result["rate"]) == ("semantic:0.3:cifar-net", 0.3)
    assert result["network"]["backbone"] == "cifar-net"
    options = {"noise": "semantic:0.3:nonet", "out": tmp_path / "other.parquet"}
    refuses(corrupt, "--noise semantic:0.3:nonet", "unknown", source=tmp_path / "images", **options)


class TestRefused:
    def test_nothing_is_left_to_relabel(self, tmp_path):
        write_digits(tmp_path / "images", 20)
        with pytest.raises(InputError, match="semantic:0.99.*none is left to relabel; take a smaller share"):
            corrupt(tmp_path / "images", noise="semantic:0.99", out=tmp_path / "noisy.parquet")
        assert not (tmp_path / "noisy.parquet").exists()

    def test_a_training_that_diverges(self, tmp_path, monkeypatch):
        wild = CrossEntropy.presets()["fast"].changed({"learning_rate": 1e30})
        monkeypatch.setattr(CrossEntropy, "presets", classmethod(lambda _: {"fast": wild}))
        write_digits(tmp_path / "images", 60)
        with pytest.raises(LabelfixError, match=r"semantic:0.5: the training diverged.*another seed"):
            corrupt(tmp_path / "images", noise="semantic:0.5", out=tmp_path / "noisy.parquet")
        assert not (tmp_path / "noisy.parquet").exists()

    def test_a_column_of_ours_before_the_training(self, tmp_path):
        write_digits(tmp_path / "images", 20)
        names = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "images").rglob("*.png"))
        table = {"file_name": names, "label": [name.split("/")[1] for name in names], "true_label": "x"}
        pd.DataFrame(table).to_csv(tmp_path / "digits.csv", index=False)
        options = {"noise": "semantic:0.5", "out": tmp_path / "noisy.parquet", "reporter": Stopping()}
        with pytest.raises(InputError, match="'true_label'"):
            corrupt(tmp_path / "digits.csv", **options)


class Stopping:
    """A reporter that interrupts the first training it hears of."""

    def progress(self, stage, done, total):
        if stage == "train":
            raise KeyboardInterrupt

    def message(self, text):
        pass


class TestBench:
    def options(self):
        read_options = {"rows": None, "root": None, "image_column": None}
        lists = {"label_columns": None, "label_separator": None}
        columns = {"truth_column": None, "label_column": None, "lists": lists}
        return {**columns, "trusted": None, "test": None, **read_options}

    def test_a_run_on_semantic_noise(self, tmp_path):
        write_digits(tmp_path / "images", 120)
        options = {"methods": "cross-entropy:epochs=1", "noise": "semantic:0.1", "device": "cpu"}
        result = labelfix.bench(tmp_path / "images", out=tmp_path / "bench", **options)
        facts = json.loads((tmp_path / "bench" / "noisy" / "semantic-0.1-seed0.json").read_text())
        assert result["rows"][0]["noise_rate_true"] == pytest.approx(facts["realised_rate"])
        assert facts["realised_rate"] > 0

    def test_one_training_for_all_methods_and_nothing_is_left_of_an_interrupted_one(self, tmp_path):
        """A source with a column that is called as one of ours; two methods share what is planted."""
        source = write_source(tmp_path).rename(tmp_path / "all.csv")
        pd.read_csv(source, dtype="string").assign(is_corrupted="1", true_label="x").to_csv(
            source, index=False
        )
        cells = make_grid("bmm,cross-entropy", f"semantic:{SHARE}", "0", {})
        materials = gather(source, tmp_path / "bench", cells=cells, **self.options())
        with pytest.raises(KeyboardInterrupt):
            plant_noise(materials, cells, Stopping())
        assert not (tmp_path / "bench" / "noisy").exists()
        counting = Counting()
        plant_noise(materials, cells, counting)
        assert counting.trainings == 1
        assert len(list((tmp_path / "bench" / "noisy").iterdir())) == 2
        plant_noise(materials, cells, Stopping())  # there is nothing left to train


class Counting(Stopping):
    """A reporter that counts the trainings that end."""

    trainings = 0

    def progress(self, stage, done, total):
        self.trainings += stage == "train" and done == total

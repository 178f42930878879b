"""Several processes make one scan: in step, each with its own rows, and what they find is what one finds."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from conftest import write_digits
from shared_scans import ended, start_nodes, start_together, together
from sklearn.metrics import average_precision_score

import labelfix
from labelfix import processes
from labelfix.errors import InputError
from labelfix.methods import method_class, method_names, multi_label_methods
from labelfix.methods.batch import Labels
from labelfix.networks import NetworkSpec, build
from labelfix.training.setup import shared_settings
from labelfix.training.shards import deal

_WORKER = Path(__file__).parent / "shared_training.py"
_TRAININGS = [
    "cross-entropy",
    "bmm",
    "bmm:variant=m-dyr-h,weights_from=epoch",
    "pencil",
    "pencil:when_weak=wait",
    "joint",
    "joint:when_weak=wait",
    "meta",
    "nnaqc",
    "forward-correction",
    "generalised-cross-entropy:truncate_from=2",
    "bootstrapping",
    "mixup",
    "early-learning",
    "mixmatch",
]


def _trained(count: int, trainings: list[str], folder: Path) -> dict[str, dict]:
    for code, _, err in together(count, _WORKER, folder, *trainings, cwd=folder):
        assert code == 0, err[-2000:]
    return {name: json.loads((folder / f"{k}.json").read_text()) for k, name in enumerate(trainings)}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    return _trained(2, _TRAININGS, tmp_path_factory.mktemp("by-two"))


@pytest.fixture(scope="module")
def by_three(tmp_path_factory):
    return _trained(3, ["bmm", "nnaqc"], tmp_path_factory.mktemp("by-three"))


def _assert_in_step(found: dict, count: int) -> None:
    assert found["steps"] >= 20
    assert found["parameters_alike"] == found["shared_state_alike"] == found["reports_alike"] == 1
    assert found["row_state_alike"] == 0  # each has other rows
    assert found["losses_finite"]
    assert max(found["own_rows"]) - min(found["own_rows"]) <= 1
    assert len(found["own_rows"]) == count


@pytest.mark.parametrize("name", _TRAININGS)
def test_after_20_steps_on_other_rows_the_parameters_are_bit_equal(by_two, name):
    _assert_in_step(by_two[name], 2)


@pytest.mark.parametrize("name", _TRAININGS)
def test_the_state_of_all_rows_comes_together_and_apart_again(by_two, name):
    found = by_two[name]
    assert sum(found["own_rows"]) == 250
    assert all(250 in shape for shape in found["whole"].values())
    assert found["restored_alike"] == 1


@pytest.mark.parametrize("name", ["bmm", "nnaqc"])
def test_three_processes_with_unequal_shares_keep_in_step(by_three, name):
    _assert_in_step(by_three[name], 3)
    assert min(by_three[name]["own_rows"]) < max(by_three[name]["own_rows"])


def test_three_processes_fit_one_mixture(by_three):
    found = by_three["bmm"]
    assert found["last"]["clean_mean"] < found["last"]["noisy_mean"]


def test_a_process_keeps_of_the_rows_what_its_share_of_them_is(by_two, by_three):
    """By two processes half, in the state that a method itself keeps."""
    for count, found in ((2, by_two["bmm"]), (3, by_three["bmm"])):
        kept, whole = found["kept_bytes"], found["whole_bytes"]
        assert max(kept) <= whole / count * 1.02
        assert sum(kept) == whole


def _scan(images: Path, out: str, *more: str) -> list[str]:
    return ["-m", "labelfix", "scan", str(images), "--out", out, "--quiet", "--encoder", "none", *more]


_QUICK = ("--method", "bmm", "--epochs", "12", "--rows", "400")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "images"
    write_digits(folder, 600, "symmetric-exclusive:0.2")
    return folder


def _wrong(corrections: pd.DataFrame) -> np.ndarray:
    """Rows whose given label is no digit's own; by the names of the files."""
    from sklearn.datasets import load_digits

    rows = corrections.file_name.str.extract(r"(\d{4})\.png")[0].astype(int)
    return load_digits().target[rows].astype(str) != corrections.given_label.astype(str).to_numpy()


def test_a_scan_by_two_finds_what_one_finds_and_only_the_first_speaks(images, tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "cache"))
    (code, said, err), (other_code, nothing, no_error) = together(
        2, *_scan(images, "by-two", *_QUICK, "--json"), cwd=tmp_path
    )
    assert (code, other_code) == (0, 0), err + no_error
    assert (nothing, no_error) == ("", "")
    summary = json.loads(said)
    alone = labelfix.scan(images, out=tmp_path / "alone", method="bmm", epochs=12, rows=400, encoder="none")
    assert summary["counts"]["judged"] == alone.summary["counts"]["judged"] == 400
    assert summary["forward_units_per_row"] == alone.summary["forward_units_per_row"]
    shared, own = (pd.read_parquet(tmp_path / name / "corrections.parquet") for name in ("by-two", "alone"))
    wrong = _wrong(own)
    precision = [average_precision_score(wrong, found.noise_score) for found in (shared, own)]
    assert precision[0] == pytest.approx(precision[1], abs=0.02)
    assert (shared.is_label_issue == own.is_label_issue).mean() >= 0.95
    assert labelfix.load_classifier(tmp_path / "by-two" / "classifier")


def test_the_launchers_of_two_machines_make_one_scan(images, tmp_path, monkeypatch):
    """With the line of the documentation, over the loopback."""
    monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "cache"))
    command = _scan(images, "run", "--method", "bmm", "--epochs", "4", "--rows", "200", "--json")
    (code, said, err), (other, nothing, error) = ended(start_nodes(2, 1, *command, cwd=tmp_path))
    assert (code, other, nothing) == (0, 0, ""), err + error
    assert json.loads(said)["counts"]["judged"] == 200
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["environment"]["processes"] == 2


def test_a_killed_process_ends_the_scan_which_goes_on_with_another_number(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "cache"))
    images = tmp_path / "images"
    write_digits(images, 80)
    command = _scan(images, "run", "--method", "bmm", "--epochs", "60")
    running = start_together(2, *command, cwd=tmp_path)
    until = time.monotonic() + 300
    while not list((tmp_path / "run").glob("checkpoint/*.json")):
        assert time.monotonic() < until
        assert running[0].poll() is None
        time.sleep(0.01)
    running[1].send_signal(signal.SIGKILL)
    (code, _, err), _ = ended(running)
    assert code == 1
    assert "another of the 2 processes of this scan has ended" in err
    assert "give the same command to go on" in err
    assert len(err.splitlines()) == 1
    run = labelfix.scan(images, out=tmp_path / "run", encoder="none", method="bmm", epochs=60)
    metadata = json.loads(pq.read_schema(run.corrections).metadata[b"labelfix"])
    assert metadata["resumed_elsewhere"] is True
    assert list(pd.read_parquet(run.out / "epochs.parquet").epoch) == list(range(1, 61))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_folds_over_an_encoder_are_shared_and_its_features_are_those_of_one(
    images, tmp_path, monkeypatch, one_thread
):
    # More rows than a block of the encoding has, so that both encode.
    # The methods are compared, which rests on folds.
    options = {"method": "auto", "encoder": "lite0", "image_size": "32", "epochs": 3, "folds": 2}
    command = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "cache-two"))
    for code, _, err in together(2, "-m", "labelfix", "scan", images, *command, "--out=two", cwd=tmp_path):
        assert code == 0, err
    monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "cache-one"))
    labelfix.scan(images, out=tmp_path / "one", **options)
    both = [list((tmp_path / f"cache-{count}" / "features").glob("*.npy")) for count in ("one", "two")]
    (one,), (two,) = both
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())
    own, shared = (pd.read_parquet(tmp_path / name / "corrections.parquet") for name in ("one", "two"))
    assert np.isfinite(shared.noise_score).all()
    precision = [average_precision_score(_wrong(own), found.noise_score) for found in (own, shared)]
    assert precision[1] == pytest.approx(precision[0], abs=0.05)


def _shapes(name: str, task: str, rows: int) -> dict[str, tuple[int, ...]]:
    chosen = method_class(name, task)
    targets = np.zeros((rows, 3), np.float32) if task == "multi" else None
    labels = Labels.of(np.arange(rows) % 3, 3, torch.device("cpu"), np.arange(rows) % 3, targets)
    settings = next(iter(chosen.presets().values()))
    state = chosen(build(NetworkSpec("small", 3, 8)), labels, settings).state_dict()
    return {part: tuple(value.shape) for part, value in state.items()}


@pytest.mark.parametrize(
    ("name", "task"),
    [*((name, "single") for name in method_names()), *((name, "multi") for name in multi_label_methods())],
)
def test_a_method_names_all_of_its_state_that_has_an_axis_of_rows(name, task):
    few, many = (_shapes(name, task, rows) for rows in (20, 30))
    with_rows = {part: axis for part in few for axis, n in enumerate(few[part]) if n != many[part][axis]}
    assert with_rows == dict(method_class(name, task).row_axes)


_WITH_AN_OPTIMIZER = """
import torch
from pathlib import Path
from labelfix import processes
with processes.joined():
    processes.add_up(torch.ones(3))
    torch.optim.SGD([torch.ones(1, requires_grad=True)], 0.1)
print(*{(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()})
"""


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="the threads of a process are not listed here"
)
def test_no_thread_of_the_group_outlives_it(tmp_path):
    # Such a thread may abort a process that has done all its work.
    for code, threads, err in together(2, "-c", _WITH_AN_OPTIMIZER, cwd=tmp_path):
        assert code == 0, err
        assert "gloo" not in threads


def test_too_few_rows_for_the_processes_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "_count", 4)
    labels = np.array([0, 1, 0, 1, 0, 1, 0, -1])
    with pytest.raises(InputError, match="7 valid labelled images are too few for 4 processes"):
        deal(labels, labels < -1, seed=0)


def test_every_class_is_dealt_to_every_process_alike(monkeypatch):
    monkeypatch.setattr(processes, "_count", 3)
    labels = np.repeat([-1, 0, 1, 2], [5, 30, 31, 7])
    everywhere = np.arange(len(labels)) == 0
    dealt = []
    for rank in range(3):
        monkeypatch.setattr(processes, "_rank", rank)
        dealt.append(deal(labels, everywhere, seed=1))
    owned = np.concatenate([shard.rows[shard.owned] for shard in dealt])
    assert sorted(owned) == list(range(len(labels)))
    assert all(0 in shard.rows for shard in dealt)
    counts = [np.bincount(labels[shard.rows[shard.owned]] + 1, minlength=4) for shard in dealt]
    assert np.ptp(counts, axis=0).max() <= 1


def test_other_commands_are_refused_in_one_line_that_only_the_first_says(tmp_path):
    (code, _, err), (other, _, nothing) = together(2, "-m", "labelfix", "methods", cwd=tmp_path)
    assert (code, other, nothing) == (2, 2, "")
    assert "only scan runs in several processes; give this command without torchrun" in err


def test_predictions_of_the_users_own_need_no_other_process(monkeypatch):
    monkeypatch.setattr(processes, "_count", 2)
    with pytest.raises(InputError, match="one process is enough: scan without torchrun"):
        labelfix.scan("list.csv", no_images=True, pred_probs="p.npy")


def test_a_step_of_too_few_rows_for_the_processes_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "_count", 2)
    with pytest.raises(InputError, match="--batch-size 3 is too small for 2 processes.*give at least 4"):
        shared_settings(method_class("bmm").presets()["fast"].changed({"batch_size": "3"}))
    assert shared_settings(method_class("bmm").presets()["fast"]).batch_size == 16

"""scan() from end to end on real digits: what it writes, and what survives a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import write_digits
from pictures import png_header
from processes import arguments, kill, start
from processes import labelfix as program
from refusals import refuses
from runs import COLUMNS, QUICK, Messages, StopAt, result_bytes
from safetensors.torch import save_file

import labelfix
from labelfix.config import environment
from labelfix.estimation.judgement import Thresholds
from labelfix.reporting import Silent
from labelfix.scan_plan import ScanPlan


@pytest.fixture
def run(digits, tmp_path):
    return labelfix.scan(digits[0], method="bmm", out=tmp_path / "run", **QUICK)


class TestFindings:
    def test_the_run_folder_holds_what_the_contract_names(self, run):
        assert sorted(path.name for path in run.out.iterdir()) == [
            "classifier", "config.json", "corrections.parquet", "epochs.parquet", "summary.json",
        ]  # fmt: skip

    def test_columns_and_types(self, run):
        schema = pq.read_schema(run.corrections)
        assert schema.names == COLUMNS
        label, probs = pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.float32(), 10)
        types = [
            pa.int64(), pa.string(), label, pa.float32(), pa.float32(), pa.bool_(), label, pa.float32(), probs,
            label, probs, pa.bool_(), pa.bool_(), pa.string(), pa.int64(), pa.float32(), label,
        ]  # fmt: skip
        assert schema.types == types

    def test_metadata(self, run):
        metadata = json.loads(pq.read_schema(run.corrections).metadata[b"labelfix"])
        assert metadata["schema_version"] == 1
        assert metadata["labelfix_version"] == labelfix.__version__
        assert metadata["method"] == "bmm"
        assert metadata["class_names"] == [str(k) for k in range(10)]
        assert (metadata["task"], metadata["seed"]) == ("single", 0)
        assert metadata["out_of_sample"] is metadata["resumed_elsewhere"] is False
        assert metadata["fit_ok"] in (True, False)
        assert metadata["flag_rule"].startswith("flagged: noise_score > ")
        assert len(metadata["source_fingerprint"]) == 64
        assert 0 <= metadata["noise_rate"] <= 1

    def test_values_keep_the_contract(self, run):
        df = labelfix.read_corrections(run.out)
        assert df.sample_id.tolist() == list(range(300))
        assert df.noise_score.between(0, 1).all()
        np.testing.assert_allclose(df.label_score, 1 - df.noise_score, atol=1e-6)
        for column in ("label_distribution", "predicted_probs"):
            values = np.stack(df[column])
            assert (values >= 0).all()
            np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)
        best = np.stack(df.predicted_probs).argmax(axis=1)
        assert df.predicted_label.astype(str).tolist() == [str(k) for k in best]
        chosen = df.corrected_label.astype(str).astype(int)
        confidence = np.stack(df.label_distribution)[np.arange(300), chosen]
        np.testing.assert_allclose(df.corrected_confidence, confidence, atol=1e-6)
        changed = df.corrected_label.astype(str) != df.given_label.astype(str)
        assert df.is_label_issue[changed].all()
        own = np.stack(df.label_distribution)[np.arange(300), df.given_label.astype(str).astype(int)]
        assert (df.corrected_confidence[changed] >= own[changed]).all()
        assert df.is_valid.all()
        assert not df.is_trusted.any()

    def test_opens_in_pandas_polars_and_duckdb(self, run):
        path = str(run.corrections)
        flagged = int(pd.read_parquet(path).is_label_issue.sum())
        assert polars.read_parquet(path)["is_label_issue"].sum() == flagged
        assert duckdb.sql(f"select count(*) from '{path}' where is_label_issue").fetchall() == [(flagged,)]

    def test_summary_counts_what_the_table_holds(self, run):
        df, summary = labelfix.read_corrections(run.out), json.loads((run.out / "summary.json").read_text())
        assert summary == run.summary
        counts = summary["counts"]
        assert counts["rows"] == counts["judged"] == 300
        assert counts["flagged"] == df.is_label_issue.sum()
        assert counts["corrected"] == (df.corrected_label.astype(str) != df.given_label.astype(str)).sum()
        assert summary["noise_rate"] == pytest.approx(df.noise_score.mean(), abs=1e-5)
        by_class = df.groupby("given_label", observed=True).noise_score.mean()
        assert summary["noise_rate_by_class"]["3"] == pytest.approx(by_class["3"], abs=1e-5)
        soft = np.stack(df.label_distribution).astype(float)
        for given in range(10):
            column = soft[df.given_label == str(given)].sum(axis=0) / soft.sum(axis=0)
            np.testing.assert_allclose(np.array(summary["transition_matrix"])[:, given], column, atol=1e-4)

    def test_epochs_tell_the_story(self, run, digits, tmp_path):
        epochs = pd.read_parquet(run.out / "epochs.parquet")
        assert epochs.epoch.tolist() == [1, 2, 3]
        phases = labelfix.plan(digits[0], out=tmp_path / "plan", **QUICK)["phases"]
        assert len(phases) == 2
        assert epochs.phase.tolist() == [name for name, count in phases.items() for _ in range(count)]
        assert epochs.learning_rate.gt(0).all()
        assert epochs.flagged_share.dropna().between(0, 1).all()
        assert epochs.flagged_share.notna().any()

    def test_config_is_enough_to_run_it_again(self, run, tmp_path):
        saved = json.loads((run.out / "config.json").read_text())
        assert saved["source"]["source"] == str((tmp_path / "images").resolve())
        config = saved["config"]
        settings = labelfix.config.resolve_settings("bmm", "fast", None, None, config["settings"])
        thresholds = Thresholds(**config["thresholds"])
        made = labelfix.config.ScanConfig(**{**config, "settings": settings, "thresholds": thresholds})
        assert json.loads(json.dumps(made.to_json())) == config
        assert saved["environment"]["packages"]["torch"]

    def test_nothing_is_written_into_the_source(self, digits, tmp_path):
        before = sorted((p, p.stat().st_mtime_ns) for p in digits[0].rglob("*"))
        labelfix.scan(digits[0], out=tmp_path / "run", **QUICK)
        assert sorted((p, p.stat().st_mtime_ns) for p in digits[0].rglob("*")) == before

    def test_the_callers_random_state_is_left_alone(self, digits, tmp_path):
        import torch

        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        labelfix.scan(digits[0], out=tmp_path / "run", **QUICK)
        assert torch.equal(torch.rand(3), expected)

    def test_no_generator_of_another_device_is_seeded(self, digits, tmp_path, monkeypatch):
        import torch

        def seeds_every_device(_seed):
            raise AssertionError("torch.manual_seed seeds the caller's GPUs too")

        monkeypatch.setattr(torch, "manual_seed", seeds_every_device)
        labelfix.scan(digits[0], out=tmp_path / "run", **QUICK)

    def test_too_little_memory_is_said_as_that_and_not_of_the_backbone(self, digits, tmp_path, monkeypatch):
        import torch

        from labelfix.networks.small import SmallNetwork

        def full(_network, _images):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 26.00 MiB.")

        monkeypatch.setattr(SmallNetwork, "forward", full)
        said = "--device cpu has too little memory for 26.00 MiB more; use a smaller --batch-size or --image-size"
        refuses(labelfix.scan, said, source=digits[0], out=tmp_path / "run", **QUICK)

    def test_a_missing_classifier_is_named(self, run, tmp_path):
        refuses(labelfix.load_classifier, "no classifier here (classifier.json is missing)", folder=tmp_path)
        (run.out / "classifier" / "model.safetensors").unlink()
        missing = "no classifier here (model.safetensors is missing)"
        refuses(labelfix.load_classifier, missing, folder=run.out / "classifier")

    def test_passed_columns_come_out_unchanged(self, digits, tmp_path):
        names = sorted(str(p.relative_to(digits[0])) for p in digits[0].rglob("*.png"))
        frame = pd.DataFrame(
            {"file_name": names, "label": [n[0] for n in names], "camera": [f"00{n[0]}" for n in names]}
        )
        frame.to_csv(tmp_path / "list.csv", index=False)
        run = labelfix.scan(tmp_path / "list.csv", root=digits[0], out=tmp_path / "run", **QUICK)
        df = labelfix.read_corrections(run.out)
        assert list(df.columns) == [*COLUMNS, "camera"]
        assert df.camera.tolist() == frame.camera.tolist()


class TestHardRows:
    def test_broken_files_of_eight_kinds_cost_only_their_rows(self, digits, tmp_path):
        folder = digits[0] / "7"
        good = next(folder.iterdir()).read_bytes()
        (folder / "a-missing.png").symlink_to(tmp_path / "nowhere.png")
        (folder / "b-empty.png").write_bytes(b"")
        (folder / "c-truncated.png").write_bytes(good[: len(good) // 2])
        (folder / "d-text.png").write_text("no image")
        os.mkfifo(folder / "e-fifo.png")
        (folder / "f-folder.png").mkdir()
        (folder / "g-bomb.png").write_bytes(png_header(60_000, 60_000))
        (folder / "h-corrupt.png").write_bytes(good[:50] + bytes(len(good) - 50))
        run = labelfix.scan(digits[0], out=tmp_path / "run", **QUICK)
        df = labelfix.read_corrections(run.out)
        broken = df[~df.is_valid]
        assert [name[2] for name in broken.file_name] == list("abcdefgh")
        assert broken.error.notna().all()
        assert len(df) == 308
        assert df[df.is_valid].noise_score.notna().all()

    def test_diverged_training_is_a_failed_fit_and_no_crash(self, digits, tmp_path):
        settings = {"learning_rate": "1e30"}
        run = labelfix.scan(digits[0], out=tmp_path / "run", settings=settings, **QUICK)
        df = labelfix.read_corrections(run.out)
        assert not run.summary["fit_ok"]
        assert "diverged" in run.summary["fit_reason"]
        assert df.noise_score.isna().all()
        assert not df.is_label_issue.any()
        assert (df.corrected_label.astype(str) == df.given_label.astype(str)).all()

    @pytest.mark.parametrize("count", [2, 3, 6])
    @pytest.mark.parametrize(
        ("method", "settings"), [("bmm", {}), ("bmm", {"score_from": "method"}), ("cross-entropy", {})]
    )
    def test_a_handful_of_images_is_no_crash(self, tmp_path, method, count, settings):
        write_digits(tmp_path / "few", count)
        options = {"method": method, "settings": settings, "epochs": 3}
        run = labelfix.scan(tmp_path / "few", out=tmp_path / "run", **options)
        df = labelfix.read_corrections(run.out)
        assert len(df) == count
        assert (df.corrected_label.astype(str) == df.given_label.astype(str)).all()


class TestRepeats:
    def test_same_seed_same_bytes_other_seed_other_bytes(self, digits, tmp_path):
        first, again, other = (
            labelfix.scan(digits[0], out=tmp_path / name, seed=seed, **QUICK).out
            for name, seed in (("first", 0), ("again", 0), ("other", 1))
        )
        assert result_bytes(first) == result_bytes(again)
        changed = result_bytes(other)
        assert all(
            changed[name] != value for name, value in result_bytes(first).items() if "json" not in name
        )

    def test_a_finished_run_is_overwritten_when_asked(self, run, digits):
        again = labelfix.scan(digits[0], out=run.out, overwrite=True, seed=4, **QUICK)
        assert json.loads((again.out / "config.json").read_text())["config"]["seed"] == 4


COMMAND = ("scan", "images", "--out", "run", "--epochs", "3", "--batch-size", "64")


class TestKills:
    @pytest.fixture
    def expected(self, digits, tmp_path):
        return result_bytes(labelfix.scan(digits[0], out=tmp_path / "expected", **QUICK).out, with_card=True)

    @pytest.mark.parametrize(
        ("moment", "count"),
        [
            ("decode", 2),
            ("before config.json", 1),
            ("train", 1),
            ("before 000000001.json", 1),  # tensors that do not count yet
            ("train", 6),  # between epochs
            ("train", 12),
            ("before model.safetensors", 1),
            ("before corrections.parquet", 1),
            ("after corrections.parquet", 1),
            ("before summary.json", 1),
            ("before .checkpoint-done", 1),
        ],
    )
    def test_killed_and_repeated_gives_the_bytes_of_an_uninterrupted_run(
        self, expected, digits, cache, tmp_path, moment, count
    ):
        if moment == "decode":
            shutil.rmtree(cache / "images")  # so that there is something to decode
        kill(moment, count, *COMMAND, cwd=tmp_path)
        is_half_written = moment.startswith("before") and not moment.endswith("-done")
        assert any((tmp_path / "run").rglob("*.tmp")) == is_half_written
        labelfix.scan(digits[0], out=tmp_path / "run", **QUICK)
        assert result_bytes(tmp_path / "run", with_card=True) == expected
        assert not any((tmp_path / "run").rglob("*.tmp"))
        assert not (tmp_path / "run" / "checkpoint").exists()

    def test_killed_while_finishing_is_finished(self, expected, digits, tmp_path):
        kill("after .checkpoint-done", 1, *COMMAND, cwd=tmp_path)
        assert result_bytes(tmp_path / "run", with_card=True) == expected
        assert not (tmp_path / "run" / "checkpoint").exists()
        assert any((tmp_path / "run" / ".checkpoint-done").iterdir())
        refuses(labelfix.scan, "holds a finished run", source=digits[0], out=tmp_path / "run", **QUICK)

    def test_killed_again_and_again(self, expected, digits, tmp_path):
        checkpoints = ["before 000000001.json", "after 000000002.json", "before 000000003.json"]
        results = ["before classifier.json", "before epochs.parquet", "before README.md"]
        for moment in checkpoints + results:
            kill(moment, 1, *COMMAND, cwd=tmp_path)
        labelfix.scan(digits[0], out=tmp_path / "run", **QUICK)
        assert result_bytes(tmp_path / "run", with_card=True) == expected

    def test_ctrl_c_saves_and_exits_130(self, expected, tmp_path):
        stopped = start("train", 12, signal.SIGINT, *COMMAND, cwd=tmp_path)
        assert stopped.returncode == 130, stopped.stderr
        assert "give the same command to go on" in stopped.stderr
        again = program(*COMMAND, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert result_bytes(tmp_path / "run", with_card=True) == expected

    def test_a_moment_after_a_moment_with_folds(self, digits, tmp_path):
        """As `tests/stress/kills.py` does for hours: somewhere between two moments that a program knows of."""
        options = {**QUICK, "folds": 2, "method": "cross-entropy"}
        expected = result_bytes(labelfix.scan(digits[0], out=tmp_path / "expected", **options).out)
        command = (*COMMAND, "--folds", "2", "--method", "cross-entropy")
        killed = start("fold 2 of 2", 6, signal.SIGKILL, *command, cwd=tmp_path, delay=0.013)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        labelfix.scan(digits[0], out=tmp_path / "run", **options)
        assert result_bytes(tmp_path / "run") == expected

    @pytest.mark.parametrize("damage", ["cut", "flipped", "both"])
    def test_a_damaged_checkpoint_costs_what_came_after_the_one_before_it(
        self, expected, digits, tmp_path, monkeypatch, damage
    ):
        monkeypatch.setattr("labelfix.training.resume._CHECKPOINT_SHARE", float("inf"))
        with pytest.raises(KeyboardInterrupt):
            labelfix.scan(digits[0], out=tmp_path / "run", reporter=StopAt(11), **QUICK)
        tensors = sorted((tmp_path / "run" / "checkpoint").glob("*.safetensors"))
        assert len(tensors) == 2
        for path in tensors if damage == "both" else tensors[-1:]:
            data = path.read_bytes()
            flipped = data[:-9] + bytes([data[-9] ^ 16]) + data[-8:]
            path.write_bytes(flipped if damage == "flipped" else data[: len(data) // 2])
        reporter = Messages()
        labelfix.scan(digits[0], out=tmp_path / "run", reporter=reporter, **QUICK)
        assert result_bytes(tmp_path / "run", with_card=True) == expected
        said = [line for line in reporter.lines if "is damaged; the training is done again" in line]
        assert len(said) == 1
        assert ("from its start" in said[0]) == (damage == "both")

    @pytest.fixture
    def unfinished(self, digits, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            labelfix.scan(digits[0], out=tmp_path / "run", reporter=StopAt(11), **QUICK)
        assert (tmp_path / "run" / "checkpoint").is_dir()

    def test_an_unfinished_run_resumes_only_with_the_same_options(self, unfinished, digits, tmp_path):
        def refused(name, **changes):
            options = {"source": digits[0], "out": tmp_path / "run", **QUICK, **changes}
            for call in (labelfix.scan, labelfix.plan):
                refuses(call, f"unfinished run with another {name}", **options)

        refused("seed", seed=1)
        refused("learning_rate", settings={"learning_rate": "0.2"})
        refused("precision", precision="bf16")
        refused("image_size", image_size=16)
        next((digits[0] / "3").iterdir()).unlink()
        refused("set of images or labels")
        anew = labelfix.scan(digits[0], out=tmp_path / "run", seed=1, overwrite=True, **QUICK)
        assert json.loads((anew.out / "config.json").read_text())["config"]["seed"] == 1

    def test_auto_means_the_same_again_only_where_a_run_is_resumed(self, unfinished, digits, tmp_path):
        path = tmp_path / "run" / "config.json"
        saved = json.loads(path.read_text())
        saved["config"]["image_size"] = 16  # as if `auto` had meant this on another machine
        path.write_text(json.dumps(saved))
        options = {**QUICK, "image_size": "auto", "out": tmp_path / "run"}
        for asked, overwrite, size in (("auto", False, 16), ("auto", True, 8), ("16", False, 8)):
            path.write_text(json.dumps({**saved, "asked": {"image_size": asked}}))
            asked_now = {"overwrite": overwrite, **options}
            assert ScanPlan.of(digits[0], asked_now, Silent()).config.image_size == size

    def test_resuming_with_another_thread_count_is_noted(self, unfinished, digits, tmp_path):
        path = tmp_path / "run" / "config.json"
        saved = json.loads(path.read_text())
        saved["environment"]["threads"] += 7
        path.write_text(json.dumps(saved))
        run = labelfix.scan(digits[0], out=tmp_path / "run", **QUICK)
        assert json.loads(pq.read_schema(run.corrections).metadata[b"labelfix"])["resumed_elsewhere"]

    def test_only_the_method_that_uses_cleanlab_cares_for_its_version(self):
        """So an unfinished run of another method resumes to the same bytes where it was installed meanwhile."""
        packages = {
            name: environment(name)["packages"] for name in ("confident-learning", "cross-entropy", "bmm")
        }
        assert packages["confident-learning"] == {**packages["bmm"], "cleanlab": version("cleanlab")}
        assert packages["cross-entropy"] == packages["bmm"]


class TestOut:
    @pytest.mark.parametrize("content", ["{}", "[1]", "no json", '{"config": 3}'])
    def test_never_into_the_folder_of_another_tool(self, digits, tmp_path, content):
        """It may have a config.json, a checkpoint/ and a classifier/ of its own."""
        folder = tmp_path / "theirs"
        theirs = {"config.json": content, "checkpoint/00010.pt": "x", "classifier/weights.bin": "y"}
        for name, text in theirs.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for overwrite in (False, True):
            options = {"source": digits[0], "out": folder, "overwrite": overwrite, **QUICK}
            refuses(labelfix.scan, "holds files that are no run", **options)
        found = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
        assert found == theirs

    def test_overwriting_with_options_that_do_not_work_keeps_the_old_run(self, digits, run):
        before = result_bytes(run.out)
        options = {"source": digits[0], "out": run.out, "overwrite": True, **QUICK}
        refuses(labelfix.scan, "does not take images", backbone="alexnet", **options)
        assert result_bytes(run.out) == before
        assert not (run.out / "checkpoint").exists()

    def test_options_that_did_not_work_leave_nothing_that_blocks_the_right_ones(self, digits, tmp_path):
        options = {"source": digits[0], "out": tmp_path / "run", **QUICK}
        refuses(labelfix.scan, "does not take images", backbone="alexnet", **options)
        assert not (tmp_path / "run").exists()
        assert labelfix.scan(**options).corrections.is_file()

    def test_a_disk_that_is_full_is_named_and_nothing_is_lost(self, digits, tmp_path):
        """As far as a program can tell: no file may be larger than a checkpoint is."""
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
        code = f"{limit}; import labelfix.cli; labelfix.cli.main()"
        full = subprocess.run(
            [sys.executable, "-c", code, *arguments(COMMAND)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert full.returncode == 1
        assert "000000001.safetensors cannot be written (File too large)" in full.stderr
        assert "give the same command to go on" in full.stderr
        assert not any((tmp_path / "run").rglob("*.tmp"))
        found = labelfix.scan(digits[0], out=tmp_path / "run", **QUICK)
        assert result_bytes(found.out) == result_bytes(
            labelfix.scan(digits[0], out=tmp_path / "x", **QUICK).out
        )

    def test_a_place_where_no_folder_can_be_made(self, digits):
        refuses(labelfix.scan, "--out /proc/run cannot be made", source=digits[0], out="/proc/run", **QUICK)

    def test_a_scan_that_is_still_dying_is_waited_for(self, digits, tmp_path):
        import fcntl

        (tmp_path / "run").mkdir()
        other = os.open(tmp_path / "run", os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.5, os.close, [other]).start()
        assert labelfix.scan(digits[0], out=tmp_path / "run", **QUICK).corrections.is_file()

    def test_two_scans_never_write_the_same_folder(self, digits, tmp_path, monkeypatch):
        import fcntl

        monkeypatch.setattr("labelfix.results.run_folder.WAIT_SECONDS", 0.2)

        (tmp_path / "run").mkdir()
        other = os.open(tmp_path / "run", os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_EX)
        options = {"source": digits[0], "out": tmp_path / "run", **QUICK}
        refuses(labelfix.scan, "another scan is writing here", **options)
        os.close(other)
        assert labelfix.scan(**options).corrections.is_file()


class TestOptions:
    @pytest.mark.parametrize("option", [{"weights": "wrong.safetensors"}, {"backbone": "alexnet"}])
    def test_what_does_not_fit_the_network_is_refused_before_anything_is_decoded(
        self, digits, tmp_path, monkeypatch, option
    ):
        monkeypatch.chdir(tmp_path)
        save_file({"a.weight": torch.zeros(3, 3), "b.weight": torch.zeros(3, 3)}, "wrong.safetensors")
        monkeypatch.setattr("labelfix.pipeline.decoded", lambda *_args, **_named: pytest.fail("decoded"))
        options = {"source": digits[0], "out": tmp_path / "run", **QUICK, **option}
        for call in (labelfix.plan, labelfix.scan):
            refuses(call, *map(str, option.values()), **options)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"method": "magic"}, "--method magic: unknown; choose one of auto, bmm, pencil, "),
            ({"seed": -1}, "--seed -1: must be 0 or more"),
            ({"seed": "one"}, "--seed one: must be 0 or more"),
            ({"epochs": "many"}, "--epochs many: Input should be a valid integer"),
            ({"precision": "fp8"}, "--precision fp8: use auto, fp32 or bf16"),
            ({"rows": 0}, "--rows 0: must be at least 1"),
            ({"batch_size": -3}, "--batch-size -3: must be at least 1"),
            ({"speed": 3}, "scan has no option speed; there are method, out"),
        ],
    )
    def test_what_the_command_line_keeps_out_is_refused_in_python_too(
        self, digits, tmp_path, options, message
    ):
        refuses(labelfix.scan, message, source=digits[0], out=tmp_path / "run", **{**QUICK, **options})
        assert not (tmp_path / "run").exists()

    def test_a_plan_writes_nothing_and_shows_what_a_scan_would_do(self, digits, tmp_path):
        settings = {"variant": "m-dyr-h", "average_from": "1"}
        planned = labelfix.plan(digits[0], out=tmp_path / "run", settings=settings, holdout=0, **QUICK)
        assert not (tmp_path / "run").exists()
        assert (planned["rows"], planned["classes"], planned["image_size"]) == (300, 10, 8)
        assert planned["phases"] == {"mixup": 2, "bootstrap": 1}
        assert planned["forward_units_per_row"] == 2 * 3 + 1 + 5  # one warm-up epoch is tracked
        assert planned["estimated_training_seconds"] >= 0

    def test_a_plan_counts_verified_rows_without_a_given_label_as_a_scan_does(self, digits, tmp_path):
        images, truth = digits
        names = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
        given = [Path(name).parent.name if row % 3 else "" for row, name in enumerate(names)]
        source, trusted = tmp_path / "images.csv", tmp_path / "trusted.csv"
        pd.DataFrame({"file_name": names, "label": given}).to_csv(source, index=False)
        pd.DataFrame({"file_name": names, "label": truth})[::3].to_csv(trusted, index=False)
        options = {"method": "cross-entropy", "epochs": 1, "folds": 2, "trusted": trusted, "root": images}
        planned = labelfix.plan(source, out=tmp_path / "run", **options)
        summary = labelfix.scan(source, out=tmp_path / "run", **options).summary
        # Each fold trains on the 100 verified rows and half of the 200 others.
        assert planned["forward_units_per_row"] == summary["forward_units_per_row"] == 3 * 2 * 2 / 3

    def test_bf16_and_another_backbone_run_on_a_cpu(self, digits, tmp_path):
        run = labelfix.scan(
            digits[0], out=tmp_path / "run", precision="bf16", backbone="preact-resnet18", rows=60, epochs=2
        )
        assert labelfix.read_corrections(run.out).noise_score.notna().all()

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_the_classifier_predicts_what_the_table_holds_whatever_it_was_trained_in(
        self, digits, tmp_path, precision
    ):
        options = {"method": "cross-entropy", "rows": 100, "epochs": 2, "settings": {"average_from": "0"}}
        run = labelfix.scan(digits[0], out=tmp_path / "run", precision=precision, **options)
        table = labelfix.read_corrections(run.out)
        (digits[0] / "broken.png").write_text("no image")
        files = [digits[0] / name for name in [*table.file_name, "broken.png"]]
        found = labelfix.load_classifier(run.classifier).predict(files)
        assert found.error[100]
        assert found.predicted_label.isna()[100]
        found = found[:100]
        assert found.predicted_label.tolist() == table.predicted_label.astype(str).tolist()
        probs = np.stack(found.predicted_probs)
        np.testing.assert_allclose(probs, np.stack(table.predicted_probs), atol=1e-5)

    def test_the_trained_network_starts_from_a_weights_file(self, digits, run, tmp_path):
        weights = run.out / "classifier" / "model.safetensors"
        again = labelfix.scan(digits[0], out=tmp_path / "again", weights=str(weights), **QUICK)
        assert json.loads((again.out / "config.json").read_text())["config"]["weights_sha256"]
        assert result_bytes(again.out) != result_bytes(run.out)

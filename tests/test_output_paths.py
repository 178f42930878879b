"""What no command writes into or over, however the place is spelled: the source, its images, parts of a run."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest
from conftest import write_digits
from refusals import refuses

import labelfix
from labelfix.output_paths import RUN_PARTS, check_output, holding, source_places
from labelfix.results.run_folder import RunFolder, check_out

QUICK = {"epochs": 1, "method": "cross-entropy"}


def tree(folder):
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_digits(folder / "images", 40)
    return labelfix.scan(folder / "images", out=folder / "run", **QUICK)


@pytest.fixture
def manifest(tmp_path):
    """`lists/labels.csv` beside `pictures/<class>/*.png`, the classes 3 to 9 behind a link to another disk."""
    write_digits(tmp_path / "elsewhere", 40)
    for label in "012":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for image in (tmp_path / "elsewhere" / label).iterdir():
            image.rename(tmp_path / "pictures" / label / image.name)
    (tmp_path / "pictures" / "other").symlink_to(tmp_path / "elsewhere")
    images = [
        path for where in ("[0-9]", "other/*") for path in sorted(tmp_path.glob(f"pictures/{where}/*.png"))
    ]
    names = [os.path.relpath(path, tmp_path) for path in images]
    labels = [path.parent.name for path in images]
    pd.DataFrame({"file_name": names, "label": labels}).to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path / "labels.csv"


class TestTheSource:
    @pytest.mark.parametrize("place", ["pictures", "pictures/0", "pictures/new", "elsewhere/3"])
    def test_of_a_manifest_for_every_command(self, manifest, trained, tmp_path, place, monkeypatch):
        before = tree(tmp_path)
        out = tmp_path / place
        table = out / "new.parquet"
        for function in (labelfix.scan, labelfix.plan):
            refuses(function, "lies in the source", source=manifest, out=out / "run", **QUICK)
        refuses(labelfix.predict, "lies in the source", classifier=trained.out, source=manifest, out=table)
        refuses(labelfix.corrupt, "lies in the source", source=manifest, noise="pair:0.2", out=table)
        bench = {"methods": "bmm", "noise": "clean", "out": out / "bench"}
        refuses(labelfix.bench, "lies in the source", source=manifest, **bench)
        monkeypatch.setenv("LABELFIX_CACHE", str(out / "cache"))
        refuses(labelfix.scan, "cache folder", "lies in the source", source=manifest, out=tmp_path / "run")
        refuses(labelfix.predict, "cache folder", classifier=trained.out, source=manifest, out=tmp_path / "p")
        assert tree(tmp_path) == before

    @pytest.mark.parametrize("place", ["images/new", "link/new", "real/new", "dogs/new"])
    def test_of_class_folders_behind_links(self, trained, tmp_path, place, monkeypatch):
        write_digits(tmp_path / "real", 40)
        (tmp_path / "real" / "3").rename(tmp_path / "dogs")
        (tmp_path / "real" / "3").symlink_to(tmp_path / "dogs")
        (tmp_path / "images").symlink_to(tmp_path / "real")
        (tmp_path / "link").symlink_to(tmp_path / "images")
        before = tree(tmp_path)
        source, out = tmp_path / "images", tmp_path / place
        table = out / "new.parquet"
        refuses(labelfix.scan, "lies in the source", source=source, out=out, **QUICK)
        refuses(labelfix.scan, "lies in --test", source=trained.out.parent / "images", test=source, out=out)
        refuses(labelfix.predict, "lies in the source", classifier=trained.out, source=source, out=table)
        refuses(labelfix.corrupt, "lies in the source", source=source, noise="pair:0.2", out=table)
        monkeypatch.setenv("LABELFIX_CACHE", str(out / "cache"))
        refuses(labelfix.scan, "cache folder", source=source, out=tmp_path / "run")
        assert tree(tmp_path) == before

    def test_the_current_folder_stays_open(self, manifest, tmp_path, monkeypatch):
        monkeypatch.setenv("LABELFIX_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        out = labelfix.scan("labels.csv", **QUICK).out
        assert out.resolve() == tmp_path / "runs" / "labels-cross-entropy"
        # Also where images lie beside their list.
        for image in sorted((tmp_path / "pictures").glob("[0-2]/*.png")):
            image.rename(tmp_path / f"{image.parent.name}-{image.name}")
        flat = pd.DataFrame({"file_name": sorted(path.name for path in tmp_path.glob("*.png"))})
        flat.assign(label=flat.file_name.str[0]).to_csv("flat.csv", index=False)
        assert labelfix.scan("flat.csv", out="flat", rows=10, **QUICK).corrections.is_file()

    def test_a_path_that_no_file_can_have_is_a_row_with_an_error(self, tmp_path):
        write_digits(tmp_path / "images", 20)
        names = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.glob("images/*/*.png"))]
        rows = [{"file_name": name, "label": name[7]} for name in names]
        rows.append({"file_name": "a\0b/1.png", "label": "1"})
        (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run = labelfix.scan(tmp_path / "s.jsonl", out=tmp_path / "run", **QUICK)
        table = pd.read_parquet(run.corrections)
        assert table.is_valid.tolist() == [True] * 20 + [False]

    def test_a_root_that_is_named_belongs_to_it(self, tmp_path):
        root, lists = tmp_path / "data", tmp_path / "lists" / "a.csv"
        (root / "a").mkdir(parents=True)
        lists.parent.mkdir()
        lists.touch()
        assert root in source_places(lists, root, ["a"], is_root_given=True)
        assert root not in source_places(lists, root, ["a"])
        assert tmp_path not in source_places(lists, tmp_path, ["data/a"], is_root_given=True)

    def test_folders_with_nothing_in_common_close_nothing_above_them(self, tmp_path, monkeypatch):
        """Absolute paths in two corners of a home: neither the home is closed, nor the cache in it."""
        monkeypatch.setenv("HOME", str(tmp_path / "me"))
        lists = tmp_path / "work" / "a.csv"
        lists.parent.mkdir()
        lists.touch()
        home = tmp_path / "me"
        spread = source_places(lists, lists.parent, [f"{home}/Pictures/cat", f"{home}/Downloads/dog"])
        assert set(spread) == {lists, home / "Pictures/cat", home / "Downloads/dog"}
        assert home not in source_places(lists, lists.parent, [f"{home}/cat", f"{home}/dog"])
        pool = f"{home}/pool"
        assert home / "pool" in source_places(lists, lists.parent, [f"{pool}/cat", f"{pool}/dog"])
        assert source_places(lists, lists.parent, ["/a", "/b"]) == [lists, *map(type(lists), ("/a", "/b"))]

    def test_the_same_place_under_another_name(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "a")
        for out in ("a/b/c", "link/b", "a/../link/b/x/y", "a/b"):
            assert holding(tmp_path / out, [tmp_path / "a" / "b"]) == tmp_path / "a" / "b"
        for out in ("a", "a/bb", "b"):
            assert holding(tmp_path / out, [tmp_path / "a" / "b"]) is None


class TestRuns:
    def test_every_part_is_known(self, trained):
        run = RunFolder(trained.out)
        parts = (run.config, run.corrections, run.summary, run.epochs, run.classifier, run.checkpoint)
        assert {part.name for part in parts} == set(RUN_PARTS) - {".checkpoint-done"}
        assert {path.name for path in trained.out.iterdir()} <= set(RUN_PARTS)

    @pytest.mark.parametrize(
        "name", ["checkpoint", "Checkpoint", ".checkpoint-done", "classifier/new", "epochs.parquet"]
    )
    def test_nothing_takes_the_place_of_a_part(self, trained, tmp_path, name):
        """Neither of the run that is exported nor of another, and whether or not the part is there now."""
        (tmp_path / "link").symlink_to(trained.out)
        before = tree(trained.out)
        for folder in (trained.out, tmp_path / "link"):
            to = "parquet" if name.endswith("parquet") else "cleanlab"
            refuses(labelfix.export, "of the run", corrections=trained.out, to=to, out=folder / name)
            refuses(check_output, "of the run", out=folder / name)
        assert tree(trained.out) == before

    def test_a_table_of_a_run_is_no_place_for_predictions(self, trained, tmp_path):
        images = trained.out.parent / "images"
        for name in ("corrections.parquet", "epochs.parquet"):
            out = trained.out / name
            before = out.read_bytes()
            options = {"source": images, "out": out, "overwrite": True}
            refuses(labelfix.predict, "of the run", classifier=trained.out, **options)
            refuses(labelfix.corrupt, "of the run", noise="pair:0.2", **options)
            assert out.read_bytes() == before

    @pytest.mark.parametrize("name", ["checkpoint", "classifier", ".checkpoint-done", "summary.json"])
    def test_a_part_that_is_a_link(self, tmp_path, name):
        """A run folder that somebody sent may lead anywhere: what a link leads to is neither emptied nor replaced."""
        write_digits(tmp_path / "images", 40)
        run = labelfix.scan(tmp_path / "images", out=tmp_path / "run", **QUICK)
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        for kept in ("000000001.json", "000000001.safetensors", "model.safetensors", "classifier.json"):
            (theirs / kept).write_text("theirs")
        if (run.out / name).exists():
            (run.out / name).rename(tmp_path / "ours")
        (run.out / name).symlink_to(theirs)
        before = tree(theirs)
        for overwrite in (False, True):
            options = {"source": tmp_path / "images", "out": run.out, "overwrite": overwrite}
            refuses(labelfix.scan, f"{name} is a link", "choose another --out", **options, **QUICK)
        assert tree(theirs) == before

    @pytest.mark.parametrize("folder", ["checkpoint", "checkpoint/fold-0", ".checkpoint-done"])
    @pytest.mark.parametrize("foreign", ["thesis.tex", "000000001.pt", "link", "mine/thesis.tex", "fold-1/x"])
    def test_what_lies_among_the_checkpoints(self, tmp_path, folder, foreign):
        write_digits(tmp_path / "images", 40)
        run = labelfix.scan(tmp_path / "images", out=tmp_path / "run", **QUICK)
        place = run.out / folder / foreign
        place.parent.mkdir(parents=True)
        if foreign == "link":
            (tmp_path / "theirs").mkdir()
            (tmp_path / "theirs" / "000000001.json").write_text("theirs")
            place.symlink_to(tmp_path / "theirs")
        else:
            place.write_text("years of work")
        before = tree(tmp_path)
        options = {"source": tmp_path / "images", "out": run.out, "overwrite": True}
        named = foreign.split("/")[0] if foreign.startswith("mine") else place.name
        refuses(labelfix.scan, named, "move it", **options, **QUICK)
        assert tree(tmp_path) == before

    @pytest.mark.parametrize(
        ("name", "is_folder"),
        [
            ("summary.json", True),
            ("corrections.parquet", True),
            ("classifier/model.safetensors", True),
            (".corrections.parquet.x.tmp", True),
            ("checkpoint", False),
            (".checkpoint-done", False),
            ("classifier", False),
        ],
    )
    def test_a_part_of_another_kind(self, tmp_path, name, is_folder):
        """It is refused before the training, not met after it; a folder that only looks like a leftover stays."""
        folder = RunFolder(tmp_path / "run")
        folder.path.mkdir()
        facts = {"device": "cpu", "precision": "fp32", "backbone": "small", "image_size": 8}
        config = {"config": {**facts, "settings": {}, "folds": 0}, "source": {}, "environment": {}}
        folder.config.write_text(json.dumps(config))
        part = folder.path / name
        part.parent.mkdir(exist_ok=True)
        part.mkdir() if is_folder else part.write_text("x")
        if name.endswith(".tmp"):
            folder.sweep()
            assert part.is_dir()
        else:
            refuses(check_out, name.split("/")[-1], "move it", folder=folder, overwrite=True)

    def test_folds_lie_one_deep(self, tmp_path):
        (tmp_path / "run" / "checkpoint" / "fold-0" / "fold-1").mkdir(parents=True)
        refuses(RunFolder(tmp_path / "run").check_checkpoints, "fold-1", "no checkpoint")

    def test_only_checkpoints_are_removed(self, tmp_path):
        folder = RunFolder(tmp_path / "run")
        (folder.checkpoint / "fold-0").mkdir(parents=True)
        ours = ("000000001.json", "fold-0/000000002.safetensors", ".000000002.json.abc.tmp")
        for name in (*ours, "notes.txt"):
            (folder.checkpoint / name).write_text("x")
        folder.corrections.write_text("x")
        folder.finish()  # somebody put notes there while the scan went on
        assert folder.is_finished
        left = [path.relative_to(folder.path) for path in folder.path.rglob("*") if path.is_file()]
        assert sorted(map(str, left)) == [".checkpoint-done/notes.txt", "corrections.parquet"]

    def test_a_bench_whose_parts_are_links(self, trained, tmp_path):
        out, theirs = tmp_path / "bench", tmp_path / "theirs"
        grid = {"methods": "cross-entropy", "noise": "clean", "epochs": 1, "rows": 20}
        source = trained.out.parent / "images"
        labelfix.bench(source, out=out, **grid)
        (out / "rows").rename(theirs)
        (out / "rows").symlink_to(theirs)
        refuses(labelfix.bench, "rows is a link", source=source, out=out, **grid)

    def test_a_folder_with_a_config_of_another_tool_is_no_run(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"config": 1}))
        check_output(tmp_path / "checkpoint")

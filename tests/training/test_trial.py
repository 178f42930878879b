"""The trial of `--encoder auto`: who wants the pretrained encoder, and what a scan makes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from refusals import refuses
from runs import Messages, StopAt
from sklearn.datasets import load_sample_images

import labelfix
from labelfix.data.images.decoding import encode
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError
from labelfix.noise.planting import parse_noise, plant
from labelfix.training import trial as trial_module
from labelfix.training.trial import Trial, try_encoder

pytestmark = pytest.mark.trial
SIDE = 48


def write_textures(folder, rows, seed=0):
    """Grey crops of two photographs, all equally bright and equally rich in contrast: a temple or a flower."""
    rng = np.random.default_rng(seed)
    for name, photograph in zip(("temple", "flower"), load_sample_images().images, strict=True):
        grey = photograph.mean(axis=2)
        (folder / name).mkdir(parents=True)
        done = 0
        while done < rows // 2:
            top, left = (rng.integers(0, side - SIDE) for side in grey.shape)
            crop = grey[top : top + SIDE, left : left + SIDE]
            if crop.std() < 20:
                continue  # sky
            crop = np.rot90((crop - crop.mean()) / crop.std() * 50 + 128, rng.integers(4))
            (folder / name / f"{done:03d}.png").write_bytes(encode(crop.clip(0, 255).astype(np.uint8)))
            done += 1
    return folder


def tried(source, seed=0, **changes):
    return try_encoder(Manifest.read(source, **changes), None, "cpu", seed, lambda *_: None)


def test_glyphs_want_a_network_of_their_own(digits):
    trial = tried(digits[0])
    assert (trial.encoder, trial.rows) == ("none", 300)
    assert trial.from_pixels > 2 * trial.commonest
    assert "--encoder lite0" in trial.reason


def test_textures_in_photographs_want_the_encoder(tmp_path):
    trial = tried(write_textures(tmp_path / "photos", 80))
    assert trial.encoder == "lite0"
    assert trial.from_encoder > 0.85 > trial.from_pixels
    assert tried(tmp_path / "photos") == trial


def write_lists(source, labels_of):
    """A row for each image, with what `labels_of` makes of its folder's name as its list of labels."""
    names = sorted(source.parent.rglob("*.png"))
    rows = [{"file_name": str(name), "label": labels_of(name.parent.name)} for name in names]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return source


def test_of_rows_with_several_labels_pairs_are_told_apart(tmp_path):
    write_textures(tmp_path / "photos", 80)
    told = write_lists(tmp_path / "list.jsonl", lambda name: ["grey", name] if name == "flower" else [])
    trial = tried(told, task="auto")
    assert (trial.encoder, trial.is_of_pairs, trial.rows, trial.commonest) == ("lite0", True, 80, 0.5)
    assert trial.from_encoder > 0.85 > trial.from_pixels
    assert "pairs of 80 images, one with a label, " in trial.reason
    assert tried(told, task="auto") == trial


def test_a_label_of_too_few_rows_makes_no_pairs(tmp_path):
    write_textures(tmp_path / "photos", 80)
    rare = iter([["rare"]] * 4 + [[]] * 76)
    assert tried(write_lists(tmp_path / "rare.jsonl", lambda _: next(rare)), task="auto") is None


def test_a_scan_of_several_labels_takes_what_the_trial_says(tmp_path):
    write_textures(tmp_path / "photos", 60)
    lists = write_lists(tmp_path / "list.jsonl", lambda name: ["grey", name])
    planned = labelfix.plan(lists, method="pencil")
    assert (planned["backbone"], planned["tune"], planned["encoder_trial"]["is_of_pairs"]) == (
        "lite0",
        "none",
        True,
    )
    run = labelfix.scan(lists, method="pencil", epochs=2, folds=2, out=tmp_path / "run")
    assert run.summary["encoder_trial"] == planned["encoder_trial"]


def test_where_nothing_is_told_of_labels_chance_decides_nothing(tmp_path):
    write_textures(tmp_path / "photos", 80)
    rng, names = np.random.default_rng(1), sorted((tmp_path / "photos").rglob("*.png"))
    lines = "".join(f"{name},{rng.integers(2)}\n" for name in names)
    (tmp_path / "list.csv").write_text("file_name,label\n" + lines)
    trial = tried(tmp_path / "list.csv")
    assert trial.encoder == "none"
    assert abs(trial.from_encoder - 0.5) < 0.2


@pytest.mark.parametrize(
    ("pixels", "encoder", "is_chance", "chosen"),
    [
        (0.5, 0.9, False, "lite0"),
        (0.8, 0.9, False, "none"),
        (0.1, 0.12, True, "none"),
        (0.9, 0.8, True, "none"),
    ],
)
def test_pixels_that_tell_nearly_as_much_speak_against_the_encoder(pixels, encoder, is_chance, chosen):
    assert Trial(500, 0.1, pixels, encoder, is_chance).encoder == chosen


def test_images_of_a_group_are_never_on_both_sides(tmp_path):
    """Copies of images under random labels: told by who has seen a copy, and by nobody else."""
    write_textures(tmp_path / "photos", 24)
    rng, lines = np.random.default_rng(0), []
    for number, name in enumerate(sorted((tmp_path / "photos").rglob("*.png"))):
        label = rng.integers(2)
        for copy in range(4):
            (tmp_path / f"{number}-{copy}.png").write_bytes(name.read_bytes())
            lines.append(f"{number}-{copy}.png,{label},{number}\n")
    rng.shuffle(lines)
    (tmp_path / "list.csv").write_text("file_name,label,group\n" + "".join(lines))
    (tmp_path / "loose.csv").write_text("file_name,label,other\n" + "".join(lines))
    assert tried(tmp_path / "loose.csv").from_pixels > 0.9
    assert tried(tmp_path / "list.csv").from_pixels < 0.75


def write_groups(source, group_of):
    """A row for each image with its folder's name as its label, and the group that `group_of` makes of it."""
    names = sorted(source.parent.rglob("*.png"))
    rows = [f"{name},{name.parent.name},{group_of(place, name)}\n" for place, name in enumerate(names)]
    source.write_text("file_name,label,group\n" + "".join(rows))
    return source


def test_of_fewer_groups_than_folds_each_is_one(tmp_path):
    write_textures(tmp_path / "photos", 80)
    assert tried(write_groups(tmp_path / "list.csv", lambda place, _: place % 3)).rows == 80


@pytest.mark.parametrize(
    "group_of", [lambda *_: "all", lambda place, name: "one" if name.parent.name == "temple" else place]
)
def test_a_label_of_one_group_only_is_not_asked(tmp_path, group_of):
    """A machine that was shown none of the group would know the other label only."""
    write_textures(tmp_path / "photos", 80)
    assert tried(write_groups(tmp_path / "list.csv", group_of)) is None


def test_of_several_labels_those_of_one_group_are_left_out(tmp_path):
    write_textures(tmp_path / "photos", 80)
    lists = write_lists(tmp_path / "list.jsonl", lambda name: [name, "odd"])
    rows = [json.loads(line) for line in lists.read_text().splitlines()]
    for place, row in enumerate(rows):
        row["group"] = place // 8
        row["label"] = row["label"][: 2 if place < 8 else 1]
    lists.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tried(lists, task="auto").is_of_pairs


def test_a_class_needs_a_row_for_each_fold(tmp_path):
    assert tried(write_textures(tmp_path / "photos", 8)) is None


def test_a_scan_takes_what_the_trial_says_and_keeps_it(tmp_path, monkeypatch):
    """In config.json, summary.json, the model card and a dry run; a resumed run does not try again."""
    photos, out = write_textures(tmp_path / "photos", 60), tmp_path / "run"
    options = {"method": "cross-entropy", "epochs": 3, "folds": 2}
    planned = labelfix.plan(photos, **options)
    assert (planned["backbone"], planned["encoder_trial"]["encoder"]) == ("lite0", "lite0")
    with pytest.raises(KeyboardInterrupt):
        labelfix.scan(photos, out=out, reporter=StopAt(1), **options)
    saved = json.loads((out / "config.json").read_text())
    assert saved["asked"]["encoder"] == "auto"
    assert saved["encoder_trial"] == planned["encoder_trial"]
    with monkeypatch.context() as patch:
        patch.setattr("labelfix.scan_plan.try_encoder", lambda *_: pytest.fail("tried again"))
        run = labelfix.scan(photos, out=out, **options)
    assert run.summary["encoder_trial"] == saved["encoder_trial"]
    assert "lite0" in (out / "classifier" / "README.md").read_text()
    refuses(labelfix.scan, "finished run", "--overwrite", source=photos, out=out, **options)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--holdout 0.2: with 5 folds", {"holdout": 0.2, "folds": 5}),
        ("--holdout 0.2: with 5 folds", {"holdout": 0.2, "method": "confident-learning"}),
        ("--set nonsense", {"settings": {"nonsense": "1"}}),
        ("--set score_from=zzz", {"settings": {"score_from": "zzz"}, "method": "bmm"}),
        ("--epochs 1", {"epochs": 1}),
        ("--folds 500: there are only 300 rows", {"folds": 500}),
    ],
)
def test_options_that_fit_neither_answer_are_refused_before_the_trial(
    digits, tmp_path, monkeypatch, words, options
):
    monkeypatch.setattr("labelfix.scan_plan.try_encoder", lambda *_: pytest.fail("tried"))
    for call in (labelfix.plan, labelfix.scan):
        refuses(call, words, source=digits[0], out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_scan_goes_on_without_an_encoder_where_the_cache_has_no_room_for_a_trial(
    digits, tmp_path, monkeypatch
):
    def full(*_args, **_named):
        raise InputError("the cache has no room")

    monkeypatch.setattr("labelfix.training.trial.open_features", full)
    reporter = Messages()
    options = {"method": "cross-entropy", "epochs": 2, "image_size": 8, "reporter": reporter}
    run = labelfix.scan(digits[0], out=tmp_path / "run", **options)
    assert "warning: --encoder auto: no trial, and no encoder: the cache has no room" in reporter.lines
    assert run.summary["encoder_trial"] is None
    assert json.loads((run.out / "config.json").read_text())["config"]["backbone"] == "small"


@pytest.mark.parametrize(
    "named", [{"encoder": "none"}, {"backbone": "small"}, {"preset": "paper"}, {"tune": "all"}]
)
def test_what_names_the_network_needs_no_trial(digits, named):
    planned = labelfix.plan(digits[0], method="cross-entropy", **named)
    assert planned["encoder_trial"] is None
    assert planned["tune"] == "all"


def test_a_frozen_encoder_that_is_not_named_is_the_embedded_one(digits):
    planned = labelfix.plan(digits[0], method="cross-entropy", tune="none")
    assert (planned["backbone"], planned["encoder_trial"]) == ("lite0", None)


def test_all_of_an_encoder_that_is_not_named_is_all_of_the_embedded_one(digits):
    planned = labelfix.plan(digits[0], method="cross-entropy", tune="all")
    assert (planned["backbone"], planned["tune"], planned["encoder_trial"]) == ("lite0", "all", None)
    for named in ({"backbone": "small"}, {"encoder": "none"}, {"preset": "paper", "backbone": "small"}):
        assert labelfix.plan(digits[0], method="bmm", tune="all", **named)["backbone"] == "small"


def test_rows_left_out_take_the_place_of_folds(digits):
    planned = labelfix.plan(digits[0], method="cross-entropy", encoder="lite0", holdout=0.1)
    assert (planned["folds"], planned["holdout"]) == (0, 0.1)


def test_the_rows_that_are_tried_are_not_those_that_the_same_seed_put_wrong():
    true = np.arange(4000) % 10
    given = plant(true, [str(label) for label in range(10)], parse_noise("symmetric:0.3:exact"), seed=3)
    rows = trial_module._sample(given, np.zeros(4000, dtype=bool), seed=3)
    wrong = (given != true).mean()
    assert len(rows) == 500
    assert abs((given != true)[rows].mean() - wrong) < 0.08


def test_the_encoder_that_a_trial_does_not_take_is_a_linear_probe_beside_the_network(digits, tmp_path):
    plan = labelfix.plan(digits[0], method="bmm")
    assert (plan["backbone"], plan["probe"]["backbone"], plan["probe"]["folds"]) == ("small", "lite0", 5)
    assert "probe" not in labelfix.plan(digits[0], method="bmm", encoder="none")
    run = labelfix.scan(digits[0], out=tmp_path / "run", method="bmm", epochs=6)
    assert run.summary["encoder_trial"]["encoder"] == "none"
    assert set(run.summary["diagnostics"]["networks"]["log_likelihood"]) == {"network", "probe"}

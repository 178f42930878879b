"""Bad input as a person gives it: the program says one line that names the culprit and the way out, and ends with 2.

Bad manifests and class folders stand in data/test_readers.py, where the same is checked of each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from memory_data import digit_arrays
from onnx_files import onnx_file

import labelfix
from labelfix import cli
from labelfix.data.findings_schema import MULTI_COLUMNS, RESERVED_COLUMNS
from labelfix.data.images.decoding import encode
from labelfix.data.manifest import Manifest

NAMES = [f"{label}/{row}.png" for label in ("cat", "dog") for row in range(4)]
LIST = "file_name,label\n" + "".join(f"{name},{name[:3]}\n" for name in NAMES)
TEXTS = {
    "images/list.csv": LIST,
    "images.txt": "x",
    "broken/list.csv": LIST,
    "bad.onnx": "no model",
    "bad.safetensors": "no weights",
    "broken/cat/0.png": "no image",
    "broken/cat/1.png": "no image",
    "one/cat/0.png": "no image",
    "unreadable.csv": "file_name,label\nbroken/cat/0.png,cat\nbroken/cat/1.png,dog\n",
    "elsewhere.csv": "file_name,label\nnowhere/cat/0.png,cat\nnowhere/cat/1.png,dog\n",
    "mine/thesis.tex": "years of work",
    "lists.jsonl": '{"path": "1.png", "label": "cat"}\n{"path": "2.png", "label": ["cat", "dog"]}\n',
    "t-class.csv": "sample_id,label\n1,cat\n2,horse\n",
    "t-label.csv": "sample_id,class\n1,cat\n",
    "t-key.csv": "name,label\ncat/0.png,cat\n",
    "t-name.csv": "file_name,label\ncat/0.png,cat\nnowhere.png,cat\n",
    "t-id.csv": "sample_id,label\n1,cat\n8,cat\n",
    "t-word.csv": "sample_id,label,decision\n1,cat,keep\n2,cat,perhaps\n",
    "t-skip.csv": "sample_id,label,decision\n1,cat,skip\n",
    "t-two.csv": "sample_id,label\n1,cat\n1,dog\n",
    "t-empty.csv": "sample_id,label\n1,\n",
    "t-remove.csv": "sample_id,decision,label\n" + "".join(f"{row},remove,\n" for row in range(8)),
    "t-all.csv": "sample_id,label\n" + "".join(f"{row},{name[:3]}\n" for row, name in enumerate(NAMES)),
    "t.xlsx": "x",
    "no-labels.csv": "file_name,label\ncat/0.png,\n",
    "truth.csv": "file_name,true_label,other\ncat/0.png,cat,horse\ncat/1.png,dog,cow\n",
    "strange.csv": "file_name,label\nnowhere/0.png,cat\n",
    "twice.csv": "file_name,label\ncat/0.png,cat\ncat/0.png,cat\n",
    "rates.csv": "class,rate\ncat,0.2\n",
    "horse.csv": "class,rate\ncat,0.2\ndog,0.2\nhorse,0.2\n",
    "many.csv": "class,rate\ncat,0.2\ndog,20\n",
    "half.csv": ",cat,dog\ncat,0.5,0.2\ndog,0,1\n",
    "true.csv": "file_name,label,true_label\n1.png,cat,a\n2.png,dog,a\n",
    "sure.csv": "file_name,confidence\n1.png,0.5\n",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Small sources, right and wrong, and a finished run over one of them."""
    folder = tmp_path_factory.mktemp("world")
    sources = {"images": NAMES, "broken": ["dog/0.png"], "strangers": ["cat/0.png", "eel/0.png"]}
    for top, names in {**sources, "loose": ["0.png"]}.items():
        for name, image in zip(names, digit_arrays(8)[0], strict=False):
            (folder / top / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / top / name).write_bytes(encode(image))
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, columns in {
        "lists": {"path": ["1", "2"], "label": [["cat"], ["dog"]]},
        "splits/train-0": {"path": ["1"], "label": ["cat"]},
        "splits/test-0": {"path": ["1"], "label": ["cat"]},
        "shards/a": {"path": ["1"], "label": ["cat"], "a": [1]},
        "shards/b": {"path": ["1"], "label": ["cat"], "b": [1]},
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    for name, output in (("own", "vector"), ("scalar", "scalar")):
        onnx_file(folder / f"{name}.onnx", output=output)
    onnx_file(folder / "tiny.onnx", size=4, cell=2)
    write_numbers(folder)
    labelfix.scan(folder / "images", out=folder / "run", epochs=2)
    return folder


def write_numbers(folder: Path) -> None:
    """Predictions of eight rows, none of which can be used as they are."""
    arrays = {"short": np.full((3, 2), 0.5), "wide": np.full((8, 3), 1 / 3), "logits": np.full((8, 2), -3.0)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "pickled.npy", np.array([{}]), allow_pickle=True)
    (folder / "broken.npy").write_bytes(b"no array")
    np.savez(folder / "several.npz", a=arrays["wide"], b=arrays["wide"])
    pq.write_table(pa.table({"cat": [0.5] * 8, "eel": [0.5] * 8}), folder / "named.parquet")
    pq.write_table(pa.table({"probs": [[0.5, 0.5]] * 7 + [[1.0]]}), folder / "ragged.parquet")


def files_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def program(world, monkeypatch, capsys):
    """Runs the program in the world's folder: exit code, stdout, stderr."""
    monkeypatch.chdir(world)

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["labelfix", *line.split()])
        with pytest.raises(SystemExit) as ending:
            cli.main()
        output = capsys.readouterr()
        return ending.value.code, output.out, output.err

    return run


BAD = {
    # usage
    "frobnicate": ("frobnicate",),
    "scan": ("SOURCE",),
    "scan images --seed x": ("--seed",),
    "scan images --set batch_size": ("write it as KEY=VALUE",),
    "scan images --trusted t-id.csv --trusted t-two.csv": ("'--trusted': given 2 times",),
    "methods magic": ("choose one of bmm, ",),
    # verified labels
    "scan images --trusted t-class.csv": ("t-class.csv: row 1 ", "'horse'", "'cat', 'dog'", "correct it"),
    "scan images --trusted nowhere.csv": ("--trusted", "nowhere.csv does not exist", "check the path"),
    "scan images --trusted t.xlsx": ("--trusted", "t.xlsx", ".csv, .tsv, .jsonl, .json, .parquet"),
    "scan images --trusted t-label.csv": ("t-label.csv", "no column 'label'", "'sample_id', 'class'"),
    "scan images --trusted t-key.csv": ("t-key.csv", "'sample_id' or 'file_name'", "add one"),
    "scan images --trusted t-name.csv": ("t-name.csv: row 1", "'nowhere.png'", "by sample_id"),
    "scan images --trusted t-id.csv": ("t-id.csv: row 1", "sample_id '8'", "rows 0 to 7"),
    "scan images --trusted t-word.csv": ("t-word.csv: row 1", "'perhaps'", "accept, keep, change, remove, skip"),
    "scan images --trusted t-skip.csv": ("t-skip.csv", "no row that counts", "leave out --trusted"),
    "scan images --trusted t-two.csv": ("t-two.csv: rows 0 and 1", "'cat' and 'dog'", "keep one"),
    **{
        f"scan images --trusted {options} {more}": words
        for more in ("--encoder none", "--encoder lite0", "--dry-run")
        for options, words in {
            "t-remove.csv --method bmm": ("--trusted", "t-remove.csv removes 8", "0 are left", "at least 2"),
            "t-all.csv --method meta": ("--method meta", "8 rows are trusted", "0 are left", "at least 2"),
        }.items()
    },
    "scan images --trusted t-empty.csv": ("t-empty.csv: row 0 has no label", "give it one"),
    # what is only measured on
    "scan images --test nowhere": ("nowhere does not exist", "check the path"),
    "scan images --test strangers": ("--test", "strangers: its class 'eel' is no class", "leave those rows out"),
    "scan images --test no-labels.csv": ("no-labels.csv: none of its rows has a label", "leave --test out"),
    "scan images --test loose": ("loose: none of its rows has a label", "leave --test out"),
    "scan images --test lists.jsonl": ("lists.jsonl", "row 1", "one label per row"),
    # several labels a row
    "scan lists.jsonl": ("lists.jsonl", "row 1", "a list of labels", "one label per row"),
    "scan lists.parquet --method bmm": ("lists.parquet", "label column 'label'", "multi-label"),
    "scan images/list.csv --method bmm --label-separator ;": ("--label-separator",),
    "scan images/list.csv --method bmm --label-columns a,b": ("--label-columns",),
    "scan images/list.csv --method bmm --task multi": ("--task",),
    # columns and paths
    "scan images/list.csv --image-column nope": ("no column 'nope' (--image-column)", "'file_name', 'label'"),
    "scan images/list.csv --label-column nope": ("no column 'nope' (--label-column)", "'file_name', 'label'"),
    "scan images/list.csv --root nowhere": ("--root", "nowhere is no folder", "name the one"),
    "scan splits": ("splits holds splits", "scan a single one"),
    "scan shards": ("b.parquet", "the column 'a'", "scan a single one"),
    "scan one --image-size 8": ("a single class, 'cat'", "at least two are needed"),
    "scan nowhere": ("nowhere does not exist", "check the path"),
    "scan unreadable.csv --image-size 8 --quiet": ("none of the images can be read", "row 0", "no image"),
    "scan unreadable.csv --quiet": ("none of 2 images looked at can be read", "broken/cat/0.png): no image"),
    "scan unreadable.csv --image-size 8 --dry-run --quiet": ("none of 2 images looked at can be read", "cat/0.png"),
    "scan elsewhere.csv --quiet": ("world0/nowhere/cat/0.png): missing file", "--root"),
    "scan broken --image-size 8 --quiet": ("only images of 'dog' can be read, none of 'cat'", "cat/0.png"),
    "scan broken/list.csv --rows 2": ("a single class, 'cat'", "raise --rows"),
    # options
    "scan images --preset paper-cifar10-md-dyr-sh --epochs 2": ("--epochs 2", "md-dyr-sh", "need more epochs"),
    "scan images --preset quick": ("--preset quick", "bmm has the presets fast, ", ", paper"),
    "scan images --epochs 1": ("--epochs 1", "2 phases need at least 2 epochs"),
    "scan images --epochs 0": ("--epochs", "x>=1"),
    "scan images --batch-size 1": ("--batch-size", "x>=2"),
    "scan images --seed -1": ("--seed", "x>=0"),
    "scan images --rows 0": ("--rows", "x>=1"),
    "scan images --device tpu": ("--device tpu", "auto, cpu, cuda, cuda:N or mps"),
    "scan images --device cuda:99": ("--device cuda:99", "use --device auto"),
    "scan images --precision fp8": ("--precision", "'auto', 'fp32', 'bf16'"),
    "scan images --backbone alexnet3": ("--backbone alexnet3", "choose auto, small"),
    "scan images --image-size big": ("--image-size big", "auto or a number"),
    "scan images --image-size 4": ("--image-size 4", "between 8 and 1024"),
    "scan images --weights nowhere.pt": ("--weights nowhere.pt", "use none, imagenet or a file"),
    "scan images --encoder nonsense": ("--encoder nonsense", "unknown", "lite0", "timm:NAME", "FILE.onnx"),
    "scan images --encoder timm:no_such": ("--encoder timm:no_such", "timm has no model of that name"),
    "scan images --encoder onnx": ("--encoder onnx", "name the file itself", "FILE.onnx"),
    "scan images --encoder nowhere.onnx": ("--encoder nowhere.onnx", "No such file", "check the path"),
    "scan images --encoder bad.onnx": ("--encoder bad.onnx", "cannot be opened", "give a whole ONNX file"),
    "scan images --encoder scalar.onnx --quiet": ("--encoder scalar.onnx", "its first output", "one vector"),
    "scan images --encoder scalar.onnx --dry-run": ("--encoder scalar.onnx", "its first output", "one vector"),
    "scan images --encoder own.onnx --image-size 32 --quiet": ("own.onnx", "does not take images of 32 px"),
    "scan images --encoder tiny.onnx": ("--encoder tiny.onnx", "images of 4 px", "8 to 1024"),
    "scan unreadable.csv --encoder own.onnx --quiet": ("none of 2 images looked at can be read", "row 0"),
    "scan unreadable.csv --encoder own.onnx --set flip=false --quiet": ("none of the images can be read",),
    "scan images --encoder own.onnx --test one --quiet": ("--test one", "none of its labelled images can be read"),
    "scan images --encoder own.onnx --tune all": ("--tune all", "own.onnx cannot be trained", "--tune none"),
    "scan images --encoder own.onnx --weights x.safetensors": ("--weights x.safetensors", "leave it out"),
    "scan images --encoder lite0 --tune some": ("--tune", "'auto', 'none', 'all'"),
    # predictions of one's own
    "scan images --pred-probs nowhere.npy": ("--pred-probs nowhere.npy does not exist", "check the path"),
    "scan images --pred-probs truth.csv": ("--pred-probs truth.csv", ".npy, .npz, .parquet"),
    "scan images --pred-probs broken.npy": ("--pred-probs broken.npy cannot be read", "write it again"),
    "scan images --pred-probs pickled.npy": ("--pred-probs pickled.npy cannot be read",),
    "scan images --pred-probs short.npy": ("short.npy has 3 rows, but there are 8 labels", "same order"),
    "scan images --pred-probs wide.npy": ("wide.npy has 3 columns, but there are 2 classes", "--class-order"),
    "scan images --pred-probs wide.npy --class-order a,b,c": ("the class 'cat'", "not among 'a', 'b', 'c'"),
    "scan images --pred-probs wide.npy --class-order cat,cat": ("--class-order", "each class once"),
    "scan images --pred-probs logits.npy": ("row 0 holds -3", "of logits give the softmax"),
    "scan images --pred-probs several.npz": ("several.npz holds 2 arrays ('a', 'b')", "call it 'pred_probs'"),
    "scan images --pred-probs named.parquet": ("its column 'eel' is no class ('cat', 'dog')",),
    "scan images --pred-probs ragged.parquet": ("ragged.parquet cannot be read (its lists differ in length)",),
    "scan images --pred-probs wide.npy --epochs 3": ("--epochs", "nothing is trained", "leave one of them out"),
    "scan images --pred-probs wide.npy --set flip=true": ("--set flip: with --pred-probs", "leave one of them out"),
    "scan images --pred-probs wide.npy --set sure=2": ("--set sure=2.0: must be a number from",),
    "scan images --pred-probs wide.npy --method meta": ("--method: with --pred-probs nothing is trained",),
    "scan images --pred-probs wide.npy --device cpu": ("--device: with --pred-probs nothing is trained",),
    "scan images --class-order cat,dog": ("--class-order", "columns of --pred-probs", "leave it out"),
    "scan images --pred-probs logits.npy --dry-run": ("row 0 holds -3",),
    "scan images --no-images": ("--no-images", "nothing to judge by", "--features FILE or --pred-probs FILE"),
    "scan images --features short.npy": ("--features short.npy has 3 rows, but there are 8 labels",),
    "scan images --features wide.npy --encoder lite0": ("--encoder: with --features", "leave one of them out"),
    "scan images --features wide.npy --test images": ("--test: with --features", "leave one of them out"),
    "scan images --encoder lite0 --pred-probs wide.npy": ("--encoder: with --pred-probs", "leave one of"),
    "scan images --encoder none --tune none": ("--tune none", "name one with --encoder"),
    "scan images --backbone small --tune none": ("--tune none", "--backbone small is none", "leave one of them"),
    "scan images --backbone resnet29 --encoder lite0": ("--backbone resnet29: --encoder lite0", "one of them"),
    "scan images --backbone lite0": ("--backbone lite0", "use --encoder lite0"),
    "scan images --weights imagenet --encoder lite0": ("--weights imagenet: --encoder lite0", "leave it out"),
    "scan images --weights x.pth --encoder timm:test_resnet": ("--weights x.pth", "give a .safetensors file"),
    "scan images --weights bad.safetensors --encoder timm:test_resnet": ("bad.safetensors", "cannot be read"),
    "scan images --set batch_size=many": ("--set batch_size=many", "whole number"),
    "scan images --set speed=3": ("--set speed=3", "no such setting; there are batch_size"),
    "scan images --set mixup_alpha=0": ("mixup_alpha=0.0", "a number over 0"),
    "scan images --set balance=nan": ("balance=nan", "a number from 0 up"),
    "scan images --method magic": ("magic", "bmm"),
    "scan images --backbone alexnet --image-size 8": ("--backbone alexnet does not take images of 8 px",),
    "scan images --set mixture=cauchy": ("--set mixture=cauchy", "choose one of beta, gaussian"),
    "scan images --set learning_rate=-1": ("learning_rate=-1.0", "a number from 0 up"),
    "scan images --set =": ("--set =", "no such setting", "batch_size"),
    "scan images --magic": ("--magic",),
    # where a run goes
    "scan images --test broken --out broken/run --quiet": ("--out broken/run", "lies in --test", "choose another"),
    "scan images --out images/run": ("--out images/run", "lies in the source", "choose another"),
    "scan images --out images.txt": ("--out images.txt is a file", "choose a folder"),
    "scan images --out images.txt/run": ("--out images.txt/run: images.txt is no folder", "choose another place"),
    "scan images --out mine": ("--out mine", "no run of labelfix", "choose an empty or new folder"),
    "scan images --out mine --overwrite": ("--out mine", "no run of labelfix"),
    "scan images --out run": ("run holds a finished run", "--overwrite", "another --out"),
    "scan images --out run --dry-run": ("run holds a finished run", "--overwrite", "another --out"),
    # corrections
    "export images": ("images holds no corrections.parquet", "scan first"),
    "export nowhere/corrections.parquet": ("nowhere/corrections.parquet", "name a corrections.parquet or a run"),
    "export truth.csv": ("truth.csv: cannot be read as Parquet",),
    "export lists.parquet": ("lists.parquet: not written by labelfix", "name a corrections.parquet or a run"),
    "export run --to xml": ("--to", "'csv'"),
    "export run --min-score 2": ("--min-score 2", "from 0 to 1"),
    "export run --top 0": ("--top 0", "at least 1"),
    "export run --top 3 --min-score 0.5": ("--min-score", "--top", "give one of them"),
    "export run --top 3 --only-issues": ("--only-issues and --top", "give one of them"),
    "export run --dedupe all": ("--dedupe", "'keep-one', 'drop-conflicts'"),
    "export run --only-issues --min-score 0": ("--min-score and --only-issues", "give one of them"),
    "export run --min-score nan": ("--min-score nan", "from 0 to 1"),
    "export run --action delete": ("--action", "'relabel', 'drop'"),
    "export run --to hf --decisions t-two.csv --keep-removed": ("--keep-removed is for", "csv, jsonl, parquet"),
    "export run --to csv --push me/pets": ("--push me/pets", "only a folder of --to hf"),
    "export run --to hf --out x.parquet --push me/pets": ("--push me/pets", "name a folder"),
    "export run --to hf --push me/pets/more": ("--push me/pets/more is no repository", "OWNER/NAME"),
    "export run --to csv --keep-removed": ("--keep-removed is for", "with --decisions"),
    "export run --action drop --only-issues": ("--action drop", "--only-issues", "give one of them"),
    "export run --out mine": ("--out mine is a folder", "mine/corrected.csv"),
    "export run --to parquet --out x.csv": ("--out x.csv would hold parquet", "add --to csv"),
    "export run --to imagefolder --out x.csv": ("x.csv", "--to csv"),
    "export run --out x.jsonl": ("--out x.jsonl would hold csv", "add --to jsonl"),
    "export run --to parquet --out run/corrections.parquet": ("the corrections file itself", "choose another"),
    "export run --out images/x.csv": ("--out images/x.csv lies in the source", "choose another"),
    "evaluate run": ("--truth",),
    "evaluate run --truth nowhere.csv": ("nowhere.csv does not exist",),
    "evaluate run --truth images": ("--truth images is what was scanned", "--truth-column"),
    "evaluate run --truth images --truth-column x": ("--truth-column x", "folder of classes"),
    "evaluate run --truth truth.csv --truth-column nope": ("'nope' (--truth-column)", "'true_label', 'other'"),
    "evaluate run --truth truth.csv --truth-column other": ("truth.csv", "'cow', 'horse'", "--truth-column"),
    "evaluate run --truth strange.csv": ("strange.csv has no file name in common", "the same file names"),
    "evaluate run --truth twice.csv": ("twice.csv cannot be joined", "2 rows, not 8", "unique"),
    # a page to review
    "review nowhere": ("nowhere is not here", "name a run folder, or scan"),
    "review run --sort age": ("--sort", "'score', 'class', 'confusion'"),
    "review run --limit 0": ("--limit",),
    "review run --out mine": ("mine is a folder",),
    "review run --out run/summary.json": ("--out", ".html"),
    "review run --out images/x.html": ("lies in the source",),
    # planted noise
    "corrupt images --noise fog:0.2": ("fog", "symmetric"),
    "corrupt images --noise symmetric:1.5": ("symmetric:1.5", "from 0 to 1", "symmetric:0.4"),
    "corrupt images --noise simplex:rates.csv": ("simplex:rates.csv", "from 0 to 1", "simplex:0.4"),
    "corrupt images --noise asymmetric:0.2": ("asymmetric:0.2", "use pair:0.2", "confusion:FILE"),
    "corrupt images --noise confusion": ("confusion", "confusion:matrix.csv"),
    "corrupt images --noise confusion:nowhere.csv": ("confusion:nowhere.csv", "name a CSV file"),
    "corrupt images --noise pair:nowhere.csv": ("pair:nowhere.csv", "name a CSV file"),
    "corrupt images --noise pair:rates.csv": ("rates.csv", "lacks the class 'dog'", "every class"),
    "corrupt images --noise symmetric:horse.csv": ("horse.csv: line 4", "'horse'", "correct or remove it"),
    "corrupt images --noise symmetric:many.csv": ("many.csv", "line 3", "'20'", "from 0 to 1"),
    "corrupt images --noise confusion:half.csv": ("half.csv", "line 2", "sums to 0.7", "sum to 1"),
    "corrupt true.csv --noise pair:0.5": ("true.csv: the column 'true_label'", "rename or remove it"),
    "corrupt images --noise pair:0.5 --out images/x.parquet": ("images/x.parquet", "lies in the source", "choose"),
    "corrupt images --noise pair:0.5 --out truth.csv": ("truth.csv", "ends in .parquet"),
    "corrupt images --noise pair:0.5 --out lists.parquet": ("lists.parquet exists", "--overwrite"),
    # methods side by side
    "bench images --methods magic --noise clean": ("--methods magic", "choose one of auto, bmm"),
    "bench images --methods bmm --noise fog:0.2": ("--noise fog:0.2", "clean, given", "symmetric"),
    # a trained classifier
    "predict images images": ("images", "no classifier here", "name a finished run or its classifier/ folder"),
    "predict run nowhere": ("nowhere does not exist", "check the path"),
    "predict run images --out mine": ("--out mine is a folder", "name a .parquet file"),
    "predict run images --out x.csv": ("--out x.csv", "ends in .parquet"),
    "predict run images --out images/x.parquet": ("images/x.parquet", "lies in the source", "choose another"),
    "predict run lists.jsonl": ("lists.jsonl", "row 1", "one label per row"),
    "predict run truth.csv --out lists.parquet": ("lists.parquet is there already", "--overwrite"),
    "predict run sure.csv": ("sure.csv: the column 'confidence'", "rename or remove it"),
    "predict run images --device tpu": ("--device tpu", "auto, cpu, cuda, cuda:N or mps"),
}  # fmt: skip


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_with_the_way_out_and_changes_nothing(program, world, line):
    before = files_of(world)
    code, out, err = program(line)
    assert code == 2, err
    assert out == ""
    assert err.startswith("labelfix: ")
    assert err.count("\n") == 1
    for part in BAD[line]:
        assert part in err
    assert files_of(world) == before


@pytest.mark.parametrize("name", sorted(RESERVED_COLUMNS - {"is_trusted", "is_valid"}))
def test_a_column_of_the_findings_never_passes_through(program, tmp_path, name):
    frame = pd.DataFrame({"path": ["1.png", "2.png"], "label": ["cat", "dog"], name: ["x", "y"]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    code, out, err = program(f"scan {tmp_path}/x.csv --image-column path")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"x.csv: the column {name!r} clashes" in err
    assert "rename or remove it" in err


@pytest.mark.parametrize("name", sorted(MULTI_COLUMNS))
def test_nor_does_one_of_the_findings_on_several_labels(program, tmp_path, name):
    """Where rows have one label it is like any other."""
    pd.DataFrame({"path": ["1.png", "2.png"], "label": ["cat", "dog"], name: ["x", "y"]}).to_csv(
        tmp_path / "x.csv", index=False
    )
    code, out, err = program(f"scan {tmp_path}/x.csv --image-column path --label-separator ;")
    assert (code, out) == (2, "")
    assert f"x.csv: the column {name!r} clashes" in err
    assert Manifest.read(tmp_path / "x.csv", image_column="path").pass_through == (name,)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": ["cat", "cat", "rare"]}, ("fewer than 2 samples in class 'rare'",)),
        (
            {"label": ["cat", "dog"] * 2, "split": ["extra"] * 4},
            ("'extra'", "only val, valid, validation, dev, test, testing are held out"),
        ),
    ],
)
def test_what_is_odd_is_a_warning_by_name_and_no_error(program, tmp_path, columns, words):
    frame = pd.DataFrame({"path": [f"{row}.png" for row in range(len(columns["label"]))], **columns})
    frame.to_csv(tmp_path / "x.csv", index=False)
    (tmp_path / "0.png").write_bytes(encode(digit_arrays(1)[0][0]))
    code, out, err = program(f"scan {tmp_path}/x.csv --image-size 8 --dry-run --out {tmp_path}/run")
    assert code == 0, err
    assert f"rows: {len(frame)}" in out
    assert "warning: " in err
    for word in words:
        assert word in err

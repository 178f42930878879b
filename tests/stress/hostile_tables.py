"""A seeded generator of manifests that somebody broke, in encoding, shape, types or intent."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from stress.hostile_images import flip_bits

Random = np.random.Generator
_ROWS = 12
_LABELS = (
    "cat",
    "dog",
    "",
    "NaN",
    "nan",
    "None",
    "null",
    "NA",
    "-1",
    "true",
    "007",
    " cat ",
    "=1+1",
    "a;b",
    "\u202ecat",
)


def rows_of(random: Random) -> list[dict[str, object]]:
    """Good rows over `images/0.png` to `images/11.png`."""
    return [
        {
            "file_name": f"images/{row}.png",
            "label": ("cat", "dog")[int(random.integers(2)) if row > 1 else row],
        }
        for row in range(_ROWS)
    ]


def csv_text(rows: list[dict[str, object]], delimiter: str = ",") -> str:
    names = list(rows[0])
    lines = [delimiter.join(names)]
    for row in rows:
        cells = (str(row[name]).replace('"', '""') for name in names)
        lines.append(delimiter.join(f'"{cell}"' for cell in cells))
    return "\n".join(lines) + "\n"


def _plain(random: Random, folder: Path) -> Path:
    """One of the four kinds of file."""
    return _written(folder, rows_of(random), str(random.choice(["csv", "tsv", "jsonl", "parquet"])))


def _written(folder: Path, rows: list[dict[str, object]], kind: str) -> Path:
    path = folder / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
    elif kind == "jsonl":
        path.write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", errors="surrogatepass"
        )
    else:
        path.write_text(
            csv_text(rows, "," if kind == "csv" else "\t"), encoding="utf-8", errors="surrogatepass"
        )
    return path


def _kind(random: Random) -> str:
    return str(random.choice(["csv", "tsv", "jsonl"]))


def encoded(random: Random, folder: Path) -> Path:
    """Other encodings, with and without the mark that names them."""
    path = _written(folder, [*rows_of(random), {"file_name": "images/ä.png", "label": "Käse"}], _kind(random))
    text = path.read_text()
    encoding = str(
        random.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7", "utf-8-sig"])
    )
    path.write_bytes(random.choice([b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE]) + text.encode(encoding))
    return path


def damaged(random: Random, folder: Path) -> Path:
    """Bits turned over."""
    path = _plain(random, folder)
    path.write_bytes(flip_bits(random, path.read_bytes(), int(random.integers(1, 12))))
    return path


def cut(random: Random, folder: Path) -> Path:
    """The first part of a file."""
    path = _plain(random, folder)
    data = path.read_bytes()
    path.write_bytes(data[: random.integers(0, len(data))])
    return path


def ragged(random: Random, folder: Path) -> Path:
    """Lines with too few or too many cells, open quotes, empty lines, and odd ends of lines."""
    lines = csv_text(rows_of(random)).split("\n")
    for place in random.integers(0, len(lines), 3):
        end = [",x,y", '"', "", ",", '","', "\\", "\0"][random.integers(7)]
        lines[place] = lines[place] + end if random.random() < 0.6 else lines[place][: len(lines[place]) // 2]
    path = folder / f"list.{random.choice(['csv', 'tsv', 'jsonl'])}"
    path.write_text(str(random.choice(["\n", "\r\n", "\r", "\n\n"])).join(lines))
    return path


def huge_cell(random: Random, folder: Path) -> Path:
    """Ten megabytes in one cell."""
    rows = rows_of(random)
    rows[int(random.integers(_ROWS))][str(random.choice(["file_name", "label", "note"]))] = "x" * (10 << 20)
    for row in rows:
        row.setdefault("note", "")
    return _written(folder, rows, str(random.choice(["csv", "jsonl", "parquet"])))


def mixed_types(random: Random, folder: Path) -> Path:
    """A number, list or object where there was a text."""
    rows = rows_of(random)
    wrong = (
        1,
        -1,
        1.5,
        float("nan"),
        float("inf"),
        None,
        True,
        [],
        {},
        ["a", "b"],
        {"a": 1},
        10**400,
        "\ud800",
        "\0",
    )
    for row in rows[:: int(random.integers(1, 4))]:
        row[str(random.choice(["file_name", "label"]))] = wrong[random.integers(len(wrong))]
    return _written(folder, rows, "jsonl")


def odd_labels(random: Random, folder: Path) -> Path:
    rows = rows_of(random)
    for row in rows:
        row["label"] = _LABELS[random.integers(len(_LABELS))]
    return _written(folder, rows, str(random.choice(["csv", "jsonl", "parquet"])))


def duplicates(random: Random, folder: Path) -> Path:
    """Rows twice, some of them with another label."""
    rows = rows_of(random)
    rows += [dict(row) for row in rows[:4]]
    if random.random() < 0.5:
        rows[-1]["label"] = "eel"
    return _written(folder, rows, str(random.choice(["csv", "parquet"])))


def elsewhere(random: Random, folder: Path) -> Path:
    """Paths that leave the folder, are absolute, lead to devices, or are none."""
    rows = rows_of(random)
    paths = (
        "/etc/passwd", "/dev/zero", "/dev/stdin", "../../../../etc/hostname", "..", ".", "/", "", "~", "~root/x.png",
        "file:///etc/passwd", "images/../images/1.png", "a\0b", "x" * 5000, "C:\\images\\1.png", "images\\1.png",
        "images/\u0301.png", str(folder / "images" / "1.png"), "//images//1.png", "images/1.png/", "\n",
    )  # fmt: skip
    for row in rows[::2]:
        row["file_name"] = paths[random.integers(len(paths))]
    return _written(folder, rows, str(random.choice(["csv", "jsonl", "parquet"])))


def odd_header(random: Random, folder: Path) -> Path:
    """Columns twice, without a name, missing, or with names of ours."""
    text = csv_text(rows_of(random))
    head = (
        "file_name,label,label", "file_name,file_name", ",label", "file_name", "", "file_name,label,sample_id",
        "noise_score,label", "file_name,given_label", '"file_name,label', "FILE_NAME,LABEL", "path,class",
        "file_name;label", "file_name,label,is_trusted", "file_name,split", "file_name,group,label",
    )  # fmt: skip
    path = folder / "list.csv"
    path.write_text(head[random.integers(len(head))] + text[text.index("\n") :])
    return path


def marks(random: Random, folder: Path) -> Path:
    """Columns is_trusted, split and group with values that they never have."""
    rows = rows_of(random)
    values = ("", "maybe", "TRUE", "1", "0", None, 2, -1, "train", "Test", "nan", "\0", 1e300)
    for row in rows:
        for name in ("is_trusted", "split", "group"):
            row[name] = values[random.integers(len(values))]
    return _written(folder, rows, str(random.choice(["csv", "jsonl"])))


def odd_types(random: Random, folder: Path) -> Path:
    """Parquet whose columns are of types that no text comes from."""
    labels = (
        pa.array([1.5] * _ROWS), pa.array([b"\xff"] * _ROWS), pa.array([[1]] * _ROWS), pa.array([{"a": 1}] * _ROWS),
        pa.array([None] * _ROWS), pa.array([2**62] * _ROWS), pa.array([True, False] * (_ROWS // 2)),
        pa.array(["a", "b"] * (_ROWS // 2)).dictionary_encode(), pa.array([1, None] * (_ROWS // 2), pa.timestamp("ns")),
        pa.array([1, 2] * (_ROWS // 2), pa.duration("s")), pa.array([1] * _ROWS, pa.decimal128(38, 5)),
        pa.array([float("nan"), 1.0] * (_ROWS // 2)), pa.array(["a", "b"] * (_ROWS // 2), pa.large_string()),
        pa.array([0, -7] * (_ROWS // 2)),
        pa.array(["a", "b"] * (_ROWS // 2), pa.string_view()), pa.array([1, 2] * (_ROWS // 2), pa.float16()),
    )  # fmt: skip
    names = pa.array([f"images/{row}.png" for row in range(_ROWS)])
    image = (names, names.cast(pa.binary()), names.dictionary_encode(), labels[random.integers(len(labels))])
    table = pa.table({"file_name": image[random.integers(4)], "label": labels[random.integers(len(labels))]})
    pq.write_table(table, folder / "list.parquet")
    return folder / "list.parquet"


def hub_images(random: Random, folder: Path) -> Path:
    """Images inside of Parquet, some of them no images, with class names that lie."""
    data = (folder / "images" / "0.png").read_bytes()
    contents = (data, flip_bits(random, data, 9), b"", None, b"\xff" * 99, data[:30])
    images = [{"bytes": contents[random.integers(len(contents))], "path": "../x.png"} for _ in range(_ROWS)]
    labels = random.integers(-2, 4, _ROWS).tolist()
    names = (["cat", "dog"], ["cat"], [], None, ["a", "a"], [1, 2], "cat")[random.integers(7)]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, picture), "label": pa.array(labels)})
    metadata = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), folder / "list.parquet")
    return folder / "list.parquet"


def lying_sizes(random: Random, folder: Path) -> Path:
    """A Parquet file whose footer, where sizes and places stand, is wrong."""
    path = _written(folder, rows_of(random), "parquet")
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little")
    end = flip_bits(random, data[-8 - footer : -8], int(random.integers(1, 6)))
    length = footer if random.random() < 0.7 else int(random.integers(0, 1 << 32))
    path.write_bytes(data[: -8 - footer] + end + length.to_bytes(4, "little") + b"PAR1")
    return path


def repeated(random: Random, folder: Path) -> Path:
    """A small Parquet file that unpacks to gigabytes."""
    text = "x" * (1 << 20)
    labels = pa.array(["cat", "dog"] * 3000)
    notes = pa.DictionaryArray.from_arrays(pa.array([0] * 6000, pa.int32()), pa.array([text]))
    names = pa.array([f"images/{row}.png" for row in range(6000)])
    pq.write_table(pa.table({"file_name": names, "label": labels, "note": notes}), folder / "list.parquet")
    return folder / "list.parquet"


def deep_json(random: Random, folder: Path) -> Path:
    """JSON that is nested, repeated, or of another tool but not quite."""
    texts = (
        "[" * 100_000, '{"a":' * 100_000, '[{"file_name": "images/0.png", "label": {"a": []}}]', "[]", "{}", "[1]",
        '{"images": [{"id": 1}], "annotations": [{"image_id": 1}]}', '{"labels": {"0": 5}, "classes": ["a"]}',
        '{"images": [], "annotations": [], "categories": 3}', '[{"data": {"image": 7}, "annotations": 3}]',
        '{"samples": [{"filepath": 7, "ground_truth": {"_cls": "Classification", "label": []}}]}', "null", "1e999",
        '[{"data": {"image": "/data/upload/x.png"}, "annotations": [{"result": [{"value": {"choices": [7]}}]}]}]',
    )  # fmt: skip
    path = folder / f"list.{random.choice(['json', 'jsonl'])}"
    path.write_text(texts[random.integers(len(texts))])
    return path


def wrong_kind(random: Random, folder: Path) -> Path:
    """A file with the extension of another, or none at all."""
    path = _plain(random, folder)
    return path.rename(
        folder / f"list{random.choice(['.parquet', '.csv', '.jsonl', '.tsv', '.json', '.arrow', '.tar'])}"
    )


MUTATIONS: tuple[Callable[[Random, Path], Path], ...] = (
    encoded, damaged, cut, ragged, mixed_types, odd_labels, duplicates, elsewhere, odd_header, marks, odd_types,
    hub_images, lying_sizes, deep_json, wrong_kind, damaged, cut, ragged, lying_sizes, huge_cell, repeated,
)  # fmt: skip


def write_manifest(folder: Path, number: int) -> tuple[Path, str]:
    """Manifest `number` in a folder with `images/0.png` to `images/11.png`, and what is wrong with it."""
    make = MUTATIONS[number % len(MUTATIONS)]
    return make(np.random.default_rng(number), folder), make.__name__

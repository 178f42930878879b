"""Small Parquet that unpacks to much is refused before it is read; honest files pass, however tightly packed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accessor_runs import make_run
from refusals import refuses
from sources import PICTURE

import labelfix
from labelfix.data import parquet_file
from labelfix.data.parquet_file import open_parquet_file
from labelfix.data.verified_labels import Known, read_verified
from labelfix.errors import InputError


def large_cell(path):
    """One image of 300 MB of nothing, which packs to 10 KB."""
    images = pa.array([{"bytes": bytes(300_000_000), "path": None}, {"bytes": b"x", "path": None}], PICTURE)
    pq.write_table(pa.table({"image": images, "label": ["a", "b"]}), path, compression="zstd")


def many_rows(path):
    """60 million rows that say the same."""
    part = pa.table({"path": ["x.png"] * 1_000_000, "label": ["a"] * 1_000_000})
    with pq.ParquetWriter(path, part.schema) as writer:
        for _ in range(60):
            writer.write_table(part)


def repeated(text, rows):
    """A column of one value that is written once, and read as often as there are rows."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


def repeated_text(path):
    """A note of 1 MB in each of 100,000 rows: 100 GB."""
    names = [f"{i}.png" for i in range(100_000)]
    columns = {"path": names, "label": ["a", "b"] * 50_000, "note": repeated("y" * 1_000_000, 100_000)}
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)


def repeated_images(path):
    """An image of 1 MB in each of 5,000 rows: 5 GB."""
    images = pa.array([{"bytes": bytes(1_000_000), "path": None}] * 500, PICTURE)
    part = pa.table({"image": images, "label": ["a", "b"] * 250})
    table = pa.concat_tables([part] * 10)
    pq.write_table(table, path, compression="zstd", row_group_size=5_000)


READ = """
import resource, sys
from labelfix.errors import InputError
from labelfix.data.manifest import Manifest
# Where it is not refused it must not take the machine with it.
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(Manifest.read(sys.argv[1]).num_rows)
except InputError as error:
    print(error)
taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(taken / (2**20 if sys.platform == "darwin" else 1024))
"""


def read_in_a_process(path):
    """The number of rows or the error, and the memory in MiB that it took a process to find out."""
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    output, megabytes = done.stdout.splitlines()
    return output, float(megabytes)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (large_cell, ["'image.bytes'", "unpacks to 286 MiB"]),
        (many_rows, ["60000000 rows"]),
        (repeated_text, ["'note'", "unpacks"]),
        (repeated_images, ["'image.bytes'", "unpacks"]),
    ],
)
def test_bombs_are_refused_in_one_line_and_no_memory(tmp_path, write, words):
    path = tmp_path / "x.parquet"
    write(path)
    assert path.stat().st_size < 500_000
    output, megabytes = read_in_a_process(path)
    assert all(word in output for word in (*words, str(path)))
    assert megabytes < 60


@pytest.fixture
def bomb(tmp_path):
    path = tmp_path / "bomb.parquet"
    repeated_text(path)
    return path


def test_shards_and_verified_files_are_looked_at_too(tmp_path, bomb):
    known = Known("x", ("a", "b"), pa.chunked_array([["x"]]), str)
    refuses(lambda: read_verified(bomb, known), bomb, "unpacks")
    refuses(lambda: labelfix.plan(tmp_path, method="bmm"), bomb, "unpacks")


def test_corrections_are_looked_at_too(tmp_path):
    run = make_run(tmp_path / "run")
    path = run / "corrections.parquet"
    table = pq.read_table(path)
    table = pa.concat_tables([table] * 100).combine_chunks()
    table = table.append_column("note", repeated("y" * 1_000_000, len(table)))
    pq.write_table(table, path, compression="zstd")
    for call in (labelfix.read_corrections, labelfix.review):
        refuses(lambda call=call: call(path), path, "unpacks")
    refuses(lambda: labelfix.export(path, out=tmp_path / "out.csv"), path, "unpacks")


def test_what_is_repeated_is_read_a_few_rows_at_a_time(tmp_path):
    """Enough besides it that 4 GB of one image pass: they are never in memory at once."""
    random = np.random.default_rng(0)
    images = pa.array([{"bytes": random.bytes(1_000_000), "path": None}] * 500, PICTURE)
    table = pa.concat_tables([pa.table({"image": images, "label": ["a", "b"] * 250})] * 8)
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4_000)
    with (tmp_path / "x.parquet").open("r+b") as file:
        # Padding in front of the footer is read by nobody.
        data = file.read()
        length = int.from_bytes(data[-8:-4], "little") + 8
        file.seek(len(data) - length)
        file.write(random.bytes(30_000_000) + data[-length:])
    rows, megabytes = read_in_a_process(tmp_path / "x.parquet")
    assert rows == "4000"
    assert megabytes < 1_500


# ---------------------------------------------------------------- honest files


def names_of(rows):
    return pa.array(np.char.add(np.char.zfill(np.arange(rows).astype(str), 7), ".png"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zstd", "compression_level": 15},
        {"compression": "zstd", "use_dictionary": False},
        {"compression": "zstd", "use_dictionary": False,
         "column_encoding": {"path": "DELTA_BYTE_ARRAY", "label": "PLAIN"}},
    ],
)  # fmt: skip
def test_five_million_equal_labels_with_short_names_pass(tmp_path, options):
    labels = pa.array(["cat"]).take(pa.array(np.zeros(5_000_000, int)))
    pq.write_table(
        pa.table({"path": names_of(5_000_000), "label": labels}), tmp_path / "x.parquet", **options
    )
    with open_parquet_file(tmp_path / "x.parquet") as file:
        assert file.metadata.num_rows == 5_000_000


def test_a_million_rows_with_captions_and_classes_pass(tmp_path):
    """One long caption among short ones that are repeated: what they unpack to is counted, not guessed."""
    rows = 1_000_000
    captions = pa.array(["c" * 20_000, *(f"caption {i}" for i in range(5_000))])
    classes = pa.array([f"class {i}" for i in range(1_000)])
    columns = {
        "path": names_of(rows),
        "label": classes.take(pa.array(np.arange(rows) % 1_000)),
        "caption": captions.take(pa.array(np.arange(rows) % 5_001)),
        "error": pa.nulls(rows, pa.string()),
        "score": np.zeros(rows, np.float32),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", compression="zstd")
    with open_parquet_file(tmp_path / "x.parquet") as file:
        assert file.read(["path"]).num_rows == rows


def test_images_pass_and_a_single_huge_one_does_not(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    images = pa.array([{"bytes": random.bytes(20_000), "path": f"{i}"} for i in range(2_000)], PICTURE)
    table = pa.table({"image": images, "label": ["a", "b"] * 1_000})
    pq.write_table(table, tmp_path / "x.parquet")
    with open_parquet_file(tmp_path / "x.parquet") as file:
        assert file.read() == table
    monkeypatch.setattr(parquet_file, "_CELL_BYTES", 10_000)
    pq.write_table(table.slice(5), tmp_path / "y.parquet")
    with pytest.raises(InputError, match=r"y\.parquet: a cell of the column 'image.bytes'"):
        open_parquet_file(tmp_path / "y.parquet")

"""The store: the same pixels from every format, bad images that cost one row, builds that survive."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from decoding_count import rows_decoded
from harms import die, hoard, linux, sleep
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pebble import ProcessPool
from pictures import make_digits, picture_of, png_header, saved
from PIL import Image
from sources import write_hf

from labelfix.data.images import workers
from labelfix.data.images.decoding import BadImage, decode, encode
from labelfix.data.images.store import ImageStore, auto_image_size, stored_size
from labelfix.data.manifest import Manifest
from labelfix.errors import InputError, LabelfixError

SCENE = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)


def reason_of(data, size=16):
    with pytest.raises(BadImage) as caught:
        decode(data, size)
    assert "\n" not in str(caught.value)
    assert "0x7" not in str(caught.value)
    return str(caught.value)


def run_script(script, *arguments, **options):
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def descendants(pid):
    """Living processes below `pid`."""
    found = []
    for child in Path("/proc").glob("[0-9]*"):
        try:
            parts = (child / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(parts[1]) == pid and parts[0] != "Z":
            found += [int(child.name), *descendants(int(child.name))]
    return found


def alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)


# ---------------------------------------------------------------- one image


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.uint8, st.tuples(st.just(3), st.integers(1, 40), st.integers(1, 40))))
def test_pixels_survive_encoding_and_decoding(pixels):
    side = min(pixels.shape[1:])
    top, left = ((length - side) // 2 for length in pixels.shape[1:])
    square = pixels[:, top : top + side, left : left + side]
    assert np.array_equal(decode(encode(np.ascontiguousarray(square)), side), square)
    assert decode(encode(pixels), 7).shape == (3, 7, 7)


def test_grey_pixels_become_three_equal_channels():
    assert np.array_equal(decode(encode(SCENE[0]), 16), np.stack([SCENE[0]] * 3))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_same_pixels_from_bytes_and_files(tmp_path, format):  # noqa: A002
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(picture_of(SCENE), format, **options)
    (tmp_path / "x").write_bytes(data)
    assert np.array_equal(decode(data, 16), SCENE)
    assert np.array_equal(decode(tmp_path / "x", 16), SCENE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_the_exif_orientation_is_applied(orientation, format):  # noqa: A002
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(picture_of(SCENE), format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    turned = SCENE.transpose(0, 2, 1) if orientation > 4 else SCENE
    upright = turned[
        :, :: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1
    ]
    assert np.array_equal(decode(data, 16), upright)


def test_a_turned_jpeg_is_upright_and_a_broken_exif_block_is_ignored():
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (3, 64, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(saved(picture_of(ramp), "JPEG", exif=exif), 8)
    assert turned[0, 7].mean() > turned[0, 0].mean() + 150
    broken = decode(saved(picture_of(ramp), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), 8)
    assert broken[0, :, 7].mean() > broken[0, :, 0].mean() + 150


def test_sixteen_bit_grey_is_scaled_to_eight():
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for format in ("PNG", "TIFF"):  # noqa: A001
        assert np.array_equal(decode(saved(Image.fromarray(deep), format), 16)[1].ravel(), np.arange(256))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 65535], [257, 0]], np.int32), [[0, 255], [1, 0]]),
        (np.array([[-100, 0], [50, 100]], np.int32), [[0, 128], [191, 255]]),
        (np.array([[0.0, 1.0], [0.2, 0.4]], np.float32), [[0, 255], [51, 102]]),
        (np.array([[0.0, 200.0], [255.0, 7.0]], np.float32), [[0, 200], [255, 7]]),
        (np.array([[0.0, 1000.0], [500.0, np.nan]], np.float32), [[0, 255], [128, 0]]),
    ],
)
def test_wide_grey_values_are_scaled_to_eight_bits(values, expected):
    assert decode(saved(Image.fromarray(values), "TIFF"), 2)[0].tolist() == expected


def test_cmyk_palette_and_bilevel_become_rgb():
    flat = np.full((3, 16, 16), 200, np.uint8)
    flat[1] = 60
    assert np.abs(decode(saved(picture_of(flat).convert("CMYK"), "TIFF"), 16).astype(int) - flat).max() <= 2
    assert np.abs(decode(saved(picture_of(flat).quantize(4), "PNG"), 16).astype(int) - flat).max() <= 2
    bits = Image.fromarray(np.eye(16, dtype=bool))
    assert np.array_equal(decode(saved(bits, "PNG"), 16)[2], np.eye(16) * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_pixels_come_out_over_white(mode):
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[:8, :, 3] = 255
    picture = Image.fromarray(clear)
    data = saved(picture.quantize(8) if mode == "PA" else picture.convert(mode), "PNG")
    pixels = decode(data, 16)
    assert pixels[:, :8].max() == 0
    assert pixels[:, 8:].min() == 255


def test_animations_give_their_first_frame():
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):  # noqa: A001
        pixels = decode(saved(frames[0], format, save_all=True, append_images=frames[1:]), 8)
        assert pixels[0].min() > 240
        assert pixels[1:].max() < 15


def test_large_jpegs_are_reduced_to_nearly_the_pixels_of_a_full_decode():
    smooth = np.linspace(0, 255, 1024).astype(np.uint8)
    picture = Image.fromarray(np.stack([np.tile(smooth, (768, 1))] * 3, axis=-1))
    exact = picture.resize((32, 32), Image.Resampling.BICUBIC, box=(128, 0, 896, 768))
    difference = decode(saved(picture, "JPEG", quality=95), 32).astype(int) - np.asarray(exact).transpose(
        2, 0, 1
    )
    assert np.abs(difference).max() <= 4


@pytest.mark.parametrize("size", [(20_000, 3), (3, 20_000), (1, 1), (1, 5000)])
def test_any_shape_becomes_a_square_of_its_middle(size):
    picture = Image.new("RGB", size, "black")
    width, height = size
    picture.paste("white", (width // 2 - 4, height // 2 - 4, width // 2 + 4, height // 2 + 4))
    assert decode(saved(picture, "PNG"), 16).min() == 255


def test_a_pipe_that_takes_the_place_of_an_image_is_refused(tmp_path, monkeypatch):
    """Whatever was looked at before it is opened may be another file by then."""
    path, really_open = tmp_path / "0.png", os.open
    path.write_bytes(encode(SCENE))

    def swap_and_open(name, *rest, **more):
        path.unlink()
        os.mkfifo(path)
        return really_open(name, *rest, **more)

    monkeypatch.setattr(os, "open", swap_and_open)
    assert reason_of(path) == "no regular file"


def test_every_kind_of_broken_image_says_why(tmp_path):
    jpeg = saved(picture_of(np.tile(SCENE, (1, 8, 8))), "JPEG")
    png = encode(np.tile(SCENE, (1, 8, 8)))
    corrupt = bytearray(png)
    corrupt[60:] = bytes(len(corrupt) - 60)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert reason_of(tmp_path / "nowhere.jpg") == "missing file"
    assert reason_of(b"") == "empty file"
    assert "truncated" in reason_of(jpeg[: len(jpeg) // 2])
    assert "no image" in reason_of(b"these are words")
    assert reason_of(tmp_path / "pipe.jpg") == "no regular file"
    assert reason_of(tmp_path / "folder.jpg") == "no regular file"
    assert reason_of(Path("/dev/zero")) == "no regular file"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert reason_of(tmp_path / "s") == "no regular file"
    assert reason_of(png_header(14_000, 14_000)) == "over the limit of 178956970 pixels"
    assert "truncated" in reason_of(png_header(10_000, 10_000))  # Pillow would warn of this one
    assert "undecodable" in reason_of(bytes(corrupt))
    assert "cannot be read" in reason_of(tmp_path / ("x" * 5000))


def test_formats_that_run_programs_are_no_images():
    assert "no image" in reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else(data):
    format = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))  # noqa: A001
    good = bytearray(saved(picture_of(SCENE), format))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        shape = decode(bytes(good), 8).shape
    except BadImage:
        return
    assert shape == (3, 8, 8)


# ---------------------------------------------------------------- sizes


def test_sizes_from_96_up_are_stored_larger():
    assert [stored_size(size) for size in (8, 32, 95, 96, 112, 224)] == [8, 32, 95, 110, 128, 256]


@pytest.mark.parametrize(
    ("sides", "largest", "expected"),
    [((28, 28), 64, 28), ((30, 30), 64, 28), ((500, 300), 64, 64), ((500, 300), 224, 224), ((4, 5), 64, 8),
     ((90, 200), 100, 64)],
)  # fmt: skip
def test_the_size_is_the_median_shorter_side_rounded_down(tmp_path, sides, largest, expected):
    for i in range(5):
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        side = (2000, 2) if i == 0 else sides
        (folder / f"{i}.png").write_bytes(saved(Image.new("L", side), "PNG"))
    (tmp_path / "a" / "broken.png").write_bytes(b"")
    assert auto_image_size(Manifest.read(tmp_path), largest) == expected


def test_without_a_readable_image_there_is_no_size(tmp_path):
    (tmp_path / "x.csv").write_text("path,label\n1.jpg,a\n2.jpg,b\n")
    with pytest.raises(InputError, match=f"{tmp_path}/1.jpg.: missing file.*--root"):
        auto_image_size(Manifest.read(tmp_path / "x.csv"), 64)


# ---------------------------------------------------------------- the store


def test_the_store_holds_every_row_and_bad_ones_cost_only_themselves(tmp_path):
    path = make_digits(tmp_path, 20)
    bad = {3: b"", 5: b"words", 7: encode(SCENE)[:200], 11: png_header(50_000, 50_000)}
    for row, data in bad.items():
        (tmp_path / f"{row}.png").write_bytes(data)
    (tmp_path / "13.png").unlink()
    (tmp_path / "17.png").unlink()
    os.mkfifo(tmp_path / "17.png")
    path.write_text(path.read_text().replace("19.png", ""))
    manifest = Manifest.read(path)
    seen = []
    store = ImageStore.open_or_build(manifest, 16, on_progress=lambda done, total: seen.append((done, total)))
    assert sorted(store.errors) == [3, 5, 7, 11, 13, 17, 19]
    assert store.errors[13] == "missing file"
    assert store.errors[19] == "no image given"
    assert np.flatnonzero(~store.valid).tolist() == sorted(store.errors)
    assert store.images.shape == (20, 3, 16, 16)
    assert store.images.dtype == np.uint8
    for row, image in enumerate(manifest.images(0, 20)):
        expected = decode(image, 16) if store.valid[row] else np.zeros((3, 16, 16))
        assert np.array_equal(store.images[row], expected)
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)
    with pytest.raises(ValueError, match="read-only"):
        store.images[0] = 0


def test_a_second_open_decodes_nothing_and_another_size_or_image_does(tmp_path, cache):
    path = make_digits(tmp_path, 6)
    manifest = Manifest.read(path)
    assert rows_decoded(lambda: ImageStore.open_or_build(manifest, 16)) == 6
    assert rows_decoded(lambda: ImageStore.open_or_build(Manifest.read(path), 16)) == 0
    path.write_text(path.read_text().replace(",b", ",c"))
    assert rows_decoded(lambda: ImageStore.open_or_build(Manifest.read(path), 16)) == 0
    assert rows_decoded(lambda: ImageStore.open_or_build(manifest, 96)) == 6
    large = ImageStore.open_or_build(manifest, 96)
    assert (large.image_size, large.stored_size) == (96, 110)
    os.utime(tmp_path / "0.png", ns=(1, 1))
    assert rows_decoded(lambda: ImageStore.open_or_build(Manifest.read(path), 16)) == 6
    kept = {
        entry.name for folder in (cache / "images").iterdir() if folder.is_dir() for entry in folder.iterdir()
    }
    assert kept == {"facts.npy", "images.npy", "rows.json"}


def test_bytes_in_parquet_and_files_give_the_same_pixels(tmp_path):
    manifest = Manifest.read(make_digits(tmp_path, 30))
    images = [{"bytes": image.read_bytes(), "path": None} for image in manifest.images(0, 30)]
    images.append({"bytes": None, "path": "x"})
    path = write_hf(tmp_path / "x.parquet", images, [0, 1] * 15 + [0], row_group_size=7)
    inside = ImageStore.open_or_build(Manifest.read(path), 16)
    assert inside.errors == {30: "missing file"}
    assert np.array_equal(inside.images[:30], ImageStore.open_or_build(manifest, 16).images)


def test_a_store_beyond_a_quarter_of_the_free_disk_is_refused(tmp_path):
    manifest = Manifest.read(make_digits(tmp_path, 2))
    with pytest.raises(InputError, match=r"GB.*--image-size.*LABELFIX_CACHE"):
        ImageStore.open_or_build(manifest, 10_000_000)
    with pytest.raises(InputError, match="--image-size 0"):
        ImageStore.open_or_build(manifest, 0)


# ---------------------------------------------------------------- processes

BUILD = """
import sys
from labelfix.data.manifest import Manifest
from labelfix.data.images.store import ImageStore
print("reading", flush=True)
manifest = Manifest.read(sys.argv[1])
first, decoded = True, 0
def progress(done, total):
    global first, decoded
    decoded = done
    if first: print("decoding", flush=True)
    first = False
store = ImageStore.open_or_build(manifest, 64, on_progress=progress)
print(decoded, int(store.images.sum()), len(store.errors), "torch" in sys.modules)
"""
# So slow that it cannot have ended before a signal reaches it.
SLOW_BUILD = BUILD.replace("    first = False\n", "    first = False\n    __import__('time').sleep(5)\n")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A manifest of 800 rows that take about a second: 100 images again and again."""
    folder = tmp_path_factory.mktemp("many")
    make_digits(folder, 100, size=200)
    lines = [f"{i % 100}.png,{'ab'[i % 2]}" for i in range(800)]
    (folder / "x.csv").write_text("path,label\n" + "\n".join(lines))
    return folder / "x.csv"


def test_an_unguarded_script_runs_once_and_imports_no_torch(tmp_path, many):
    script = tmp_path / "script.py"
    script.write_text(BUILD)
    done = subprocess.run(
        [sys.executable, "-W", "error", script, many], capture_output=True, text=True, timeout=300
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:2] == ["reading", "decoding"]
    assert lines[2].startswith("800 ")
    assert lines[2].endswith(" 0 False")


def test_two_builds_at_once_decode_once(many):
    both = [run_script(BUILD, many) for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in both]
    assert [error for _, error in ends] == ["", ""]
    last = [out.splitlines()[-1].split() for out, _ in ends]
    assert sorted(int(line[0]) for line in last) == [0, 800]
    assert last[0][1:] == last[1][1:]


@needs_proc
def test_a_killed_build_leaves_no_process_and_the_next_one_gives_the_same(many, cache):
    build = run_script(SLOW_BUILD, many)
    assert [build.stdout.readline() for _ in range(2)] == ["reading\n", "decoding\n"]
    below = descendants(build.pid)
    assert len(below) >= 2
    build.kill()
    build.communicate()
    wait_until(lambda: not any(map(alive, below)))
    left = [entry for entry in (cache / "images").iterdir() if entry.is_dir()]
    assert len(left) == 1
    out, error = run_script(BUILD, many).communicate(timeout=300)
    assert error == ""
    assert out.splitlines()[-1].startswith("800 ")
    assert not left[0].exists()
    manifest = Manifest.read(many)
    assert rows_decoded(lambda: ImageStore.open_or_build(manifest, 64)) == 0
    store = ImageStore.open_or_build(manifest, 64)
    assert np.array_equal(store.images[555], decode(manifest.images(555, 556)[0], 64))


@needs_proc
def test_an_interrupted_build_stops_at_once_and_cleans_up(many, cache):
    # A shell starts background jobs with SIGINT ignored: the script under test must hear it all the same.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    build = run_script(heard + SLOW_BUILD, many, start_new_session=True)
    assert [build.stdout.readline() for _ in range(2)] == ["reading\n", "decoding\n"]
    below = descendants(build.pid)
    os.killpg(build.pid, signal.SIGINT)
    _, error = build.communicate(timeout=300)
    assert error.count("Traceback") == 1
    assert error.rstrip().endswith("KeyboardInterrupt")
    wait_until(lambda: not any(map(alive, below)))
    assert [entry.suffix for entry in (cache / "images").iterdir()] == [".lock"]


@needs_proc
def test_killed_workers_are_replaced_and_no_row_is_lost(many):
    killed = []

    def kill_workers(done, total):
        if not killed:
            killed.extend(workers_alive())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    store = ImageStore.open_or_build(Manifest.read(many), 64, on_progress=kill_workers)
    assert killed
    # A worker may die with its last image in hand, alone in its chunk.
    assert store.valid.sum() >= 800 - len(killed)
    assert np.array_equal(store.images[7], store.images[707])


def workers_alive():
    from multiprocessing.forkserver import _forkserver

    return descendants(_forkserver._forkserver_pid)


def harmed(harm, chunk):
    if chunk.first <= 7 < chunk.first + len(chunk.images):
        harm()
    return workers.decode_chunk(chunk)


@pytest.mark.parametrize(
    ("harm", "limit", "reason"),
    [
        (die, 30.0, "the decoder crashed"),
        (sleep, 3.0, "took longer than 3 s to decode"),
        pytest.param(hoard, 30.0, "takes too much memory to decode", marks=linux),
    ],
)
def test_an_image_that_kills_holds_or_fills_its_worker_costs_one_row(
    tmp_path, monkeypatch, harm, limit, reason
):
    # Even where other work takes the cores, the images beside it must be decoded well within the limit.
    monkeypatch.setattr(workers, "SECONDS_PER_IMAGE", limit)
    target = tmp_path / "images.npy"
    np.save(target, np.zeros((20, 3, 16, 16), np.uint8))
    chunks = [workers.Chunk(first, [encode(SCENE)] * 5) for first in (0, 5, 10, 15)]
    errors = workers.run_chunks(chunks, target, 2, lambda _: None, partial(harmed, harm))
    assert errors == {7: reason}
    expected = np.broadcast_to(SCENE, (20, 3, 16, 16)).copy()
    expected[7] = 0
    assert np.array_equal(np.load(target), expected)


class LatePool(ProcessPool):
    """A pool that breaks down between looking whether it works and taking the work."""

    def _check_pool_status(self):
        super()._check_pool_status()
        time.sleep(1)


@pytest.mark.parametrize("pool", [ProcessPool, LatePool])
def test_workers_that_cannot_start_are_an_error_and_no_hang(tmp_path, monkeypatch, pool):
    monkeypatch.setattr(workers, "ProcessPool", pool)
    chunks = [workers.Chunk(0, [encode(SCENE)])]
    with pytest.raises(LabelfixError, match="kept alive"):
        workers.run_chunks(chunks, tmp_path / "nowhere.npy", 2, lambda _: None)


def test_what_a_worker_does_not_finish_in_time_is_done_later(tmp_path):
    target = tmp_path / "images.npy"
    np.save(target, np.zeros((200, 3, 16, 16), np.uint8))
    chunks = [workers.Chunk(0, [encode(np.tile(SCENE, (1, 60, 60)))] * 200)]
    seen = []
    assert workers.run_chunks(chunks, target, 2, seen.append) == {}
    assert seen[-1] == 200
    assert len(seen) > 1
    assert np.load(target)[199].any()

"""Decoding in parallel: processes that write pixels into the array file and return only what went wrong."""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from multiprocessing import context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pebble import ProcessExpired, ProcessPool

from labelfix.child_processes import leave_with_parent, only_our_code, start_tracker
from labelfix.errors import LabelfixError
from labelfix.store.decoding import BadImage, decode_quietly

if TYPE_CHECKING:
    from labelfix.manifest import Manifest

SECONDS_PER_IMAGE = 30.0
# A worker hands back what is left of a chunk after so long, so that slow images do not look like a hang.
CHUNK_SECONDS = 1.0
# So often the disk is asked for what was decoded: at the end it would hold everybody up.
_FLUSH_SECONDS = 1.0
# Long chunks leave workers idle at the end, short ones cost a hand-over each: a few hundredths of a second.
_CHUNK_IMAGES = 256
_CHUNK_PIXELS = 1 << 20
_CHUNK_BYTES = 4 << 20


class Chunk(NamedTuple):
    """Consecutive images on their way to a worker."""

    first: int
    images: Sequence[str | bytes | None]


Work = Callable[[Chunk], tuple[int, dict[int, str]]]


def num_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_all(
    manifest: Manifest, target: Path, side: int, on_progress: Callable[[int, int], None] | None, workers: int
) -> dict[int, str]:
    """Decode every image of a manifest into `target`.

    Args:
        manifest: N rows.
        target: .npy file of uint8 (N, 3, S, S), filled with zeros.
        side: S, in pixels.
        on_progress: called with (rows done, N) after every chunk.
        workers: number of processes.

    Returns:
        One-line reason by row, for the rows that could not be decoded; their pixels stay zero. The file is on
        the disk by then.

    Raises:
        LabelfixError: the workers cannot be started, or keep dying without an image in hand.
    """
    # Few images are spread over all workers.
    size = max(1, min(_CHUNK_IMAGES, _CHUNK_PIXELS // side**2, manifest.num_rows // (4 * workers)))
    chunks = _chunks(manifest, size)

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(done, manifest.num_rows)

    return run_chunks(chunks, target, workers, report)


def run_chunks(
    chunks: Iterable[Chunk],
    target: Path,
    workers: int,
    report: Callable[[int], None],
    work: Work | None = None,
) -> dict[int, str]:
    """Send chunks through `work` in worker processes, a few at a time, and collect the errors by row.

    A chunk whose worker dies or takes too long is done again image by image, so that it costs only the row
    that is to blame.
    """
    work = work or decode_chunk
    fresh, again = iter(chunks), deque[Chunk]()
    running: dict[Future[tuple[int, dict[int, str]]], Chunk] = {}
    errors: dict[int, str] = {}
    num_done = 0
    flushed = time.monotonic()
    try:
        with _pool(target, workers) as pool:
            while True:
                while len(running) < 2 * workers + 1:
                    chunk = again.popleft() if again else next(fresh, None)
                    if chunk is None:
                        break
                    running[pool.schedule(work, (chunk,), timeout=SECONDS_PER_IMAGE + CHUNK_SECONDS)] = chunk
                if not running:
                    break
                finished = wait(running, timeout=1.0, return_when=FIRST_COMPLETED).done
                if not finished and not pool.active:
                    # A pool that breaks down forgets work that none of its workers has seen.
                    raise RuntimeError("all workers expired")
                for future in finished:
                    chunk = running.pop(future)
                    done, found, rest = _outcome(future, chunk)
                    num_done += done
                    errors |= found
                    again.extend(rest)
                report(num_done)
                if time.monotonic() > flushed + _FLUSH_SECONDS:
                    flush(target)
                    flushed = time.monotonic()
            # Its threads look only now and then whether they should end; the disk works meanwhile.
            pool.stop()
            flush(target)
    except RuntimeError as error:  # what a pool without workers raises
        reason = str(error) or error.__cause__
        raise LabelfixError(
            f"the processes that decode images cannot be kept alive ({reason}); run it again"
        ) from error
    return errors


def decode_chunk(chunk: Chunk) -> tuple[int, dict[int, str]]:
    """In a worker: decode images in order until the time is up; return how many, and the errors by row."""
    errors: dict[int, str] = {}
    side = _pixels.shape[-1]
    end = time.monotonic() + CHUNK_SECONDS
    done = 0
    for row, image in enumerate(chunk.images, chunk.first):
        try:
            if image is None:
                raise BadImage("no image given")
            _pixels[row] = decode_quietly(image, side)
        except BadImage as error:
            errors[row] = str(error)
        done += 1
        if time.monotonic() > end:
            break
    return done, errors


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _outcome(
    future: Future[tuple[int, dict[int, str]]], chunk: Chunk
) -> tuple[int, dict[int, str], list[Chunk]]:
    """Rows done, errors, and the chunks that are still to do."""
    try:
        done, errors = future.result()
    except (ProcessExpired, TimeoutError) as error:
        if len(chunk.images) > 1:
            return 0, {}, [Chunk(chunk.first + i, [image]) for i, image in enumerate(chunk.images)]
        slow = isinstance(error, TimeoutError)
        reason = f"took longer than {SECONDS_PER_IMAGE:g} s to decode" if slow else "the decoder crashed"
        return 1, {chunk.first: reason}, []
    rest = chunk.images[done:]
    return done, errors, [Chunk(chunk.first + done, rest)] if rest else []


def _chunks(manifest: Manifest, size: int) -> Iterator[Chunk]:
    for first, images in manifest.image_chunks(size):
        plain = [os.fspath(image) if isinstance(image, Path) else image for image in images]
        start = weight = 0
        for place, image in enumerate(plain):
            weight += len(image) if isinstance(image, bytes) else 0
            if weight > _CHUNK_BYTES and place > start:
                yield Chunk(first + start, plain[start:place])
                start, weight = place, len(image or b"")
        yield Chunk(first + start, plain[start:])


@contextmanager
def _pool(target: Path, workers: int) -> Iterator[ProcessPool]:
    forks = _Context()
    forks.set_forkserver_preload([__name__])
    start_tracker()
    pool = ProcessPool(workers, initializer=_start_worker, initargs=(str(target),), context=forks)
    try:
        yield pool
    finally:
        # Closing it would make an interrupted user wait for the chunks on their way.
        pool.stop()
        pool.join()


class _Process(context.ForkServerProcess):
    def start(self) -> None:
        with only_our_code():
            super().start()


class _Context(context.ForkServerContext):
    Process = _Process


def _start_worker(target: str) -> None:
    global _pixels
    warnings.simplefilter("ignore")
    _pixels = np.asarray(np.load(target, mmap_mode="r+"))
    leave_with_parent()


_pixels: np.ndarray  # in a worker: the array file, uint8 (N, 3, S, S)

"""Decoding in parallel: processes with limits of time and memory, so that a picture costs no more than itself.

Those of a store write pixels into the array file and return what else they saw, or what went wrong.
"""

from __future__ import annotations

import os
import resource
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from functools import partial
from itertools import chain
from multiprocessing import context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from pebble import ProcessExpired, ProcessPool

from labelfix.atomic_files import flush
from labelfix.child_processes import leave_with_parent, only_our_code, start_tracker
from labelfix.data.images.decoding import WHITE, BadImage, Facts, decode_quietly, reason_of, white_of
from labelfix.errors import LabelfixError

if TYPE_CHECKING:
    from labelfix.data.manifest import Manifest

# As `Facts`, row by row.
FACTS = np.dtype([("digest", "V16"), ("width", "<u4"), ("height", "<u4")])
SECONDS_PER_IMAGE = 30.0
# What a worker may take above what it starts with: no format takes more for a picture within the limit of pixels.
BYTES_PER_WORKER = 2 << 30
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


Result = TypeVar("Result")
# Results of the first images of a chunk, at least one; BadImage where there is none.
Work = Callable[[Chunk], list[Result | BadImage]]


def num_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_all(
    manifest: Manifest,
    target: Path,
    side: int,
    on_progress: Callable[[int, int], None] | None,
    workers: int,
    facts: np.ndarray,
    white: int | None = None,
) -> tuple[dict[int, str], int]:
    """Decode every image of a manifest into `target`.

    Where 16-bit grey nowhere uses all its bits, those images are decoded a second time: the first time tells how many
    it uses.

    Args:
        manifest: N rows.
        target: .npy file of uint8 (N, 3, S, S), filled with zeros.
        side: S, in pixels.
        on_progress: called with (rows done, N) after every chunk.
        workers: number of processes.
        facts: (N,) of `FACTS`, zeros; filled.
        white: the value of 16-bit grey that becomes 255; None for what the images suggest.

    Returns:
        One-line reason by row, for the rows that could not be decoded; their pixels stay zero. The file is on
        the disk by then. And what was white.

    Raises:
        LabelfixError: the workers cannot be started, or keep dying without an image in hand.
    """
    # Few images are spread over all workers.
    size = max(1, min(_CHUNK_IMAGES, _CHUNK_PIXELS // side**2, manifest.num_rows // (4 * workers)))
    images = chain.from_iterable(images for _, images in manifest.image_chunks(size))
    chunks = chunks_of(images, size)

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(done, manifest.num_rows)

    greys: dict[int, int] = {}

    def see(row: int, seen: Facts) -> None:
        facts[row] = seen[:3]
        if seen.largest is not None:
            greys[row] = seen.largest

    errors = run_chunks(chunks, target, workers, report, partial(decode_chunk, white=white or WHITE), see)
    if white is None and greys:
        white = white_of(max(greys.values()))
        if white < WHITE:
            again = _chunks_of_rows(manifest, np.array(sorted(greys)), size)
            work = partial(decode_chunk, white=white)
            errors |= run_chunks(again, target, workers, lambda _: None, work, see)
    return errors, white or WHITE


def _chunks_of_rows(manifest: Manifest, rows: np.ndarray, size: int) -> Iterator[Chunk]:
    """The images of some rows, ascending (n,) int64, in chunks of rows that follow each other."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for some in np.split(rows, breaks):
        for first, images in chunks_of(manifest.sample_images(some), size):
            yield Chunk(int(some[0]) + first, images)


def chunks_of(images: Iterable[Path | bytes | None], size: int) -> Iterator[Chunk]:
    """The images in chunks of at most `size`, and of about 4 MiB where they are bytes."""
    first = weight = 0
    some: list[str | bytes | None] = []
    for image in images:
        length = len(image) if isinstance(image, bytes) else 0
        if some and (len(some) == size or weight + length > _CHUNK_BYTES):
            yield Chunk(first, some)
            first, weight, some = first + len(some), 0, []
        some.append(os.fspath(image) if isinstance(image, Path) else image)
        weight += length
    if some:
        yield Chunk(first, some)


def run_chunks(
    chunks: Iterable[Chunk],
    target: Path,
    workers: int,
    report: Callable[[int], None],
    work: Work[Facts] | None = None,
    see: Callable[[int, Facts], None] | None = None,
) -> dict[int, str]:
    """Send chunks through `work` in worker processes, and collect the errors by row; see `decode_all`.

    `see` is called with what was seen of each image that could be decoded, by row.
    """
    errors: dict[int, str] = {}
    num_done = 0
    flushed = time.monotonic()
    with worker_pool(workers, _map_target, str(target)) as pool:
        for first, results in results_of(pool, workers, chunks, work or decode_chunk):
            num_done += len(results)
            for row, result in enumerate(results, first):
                if isinstance(result, BadImage):
                    errors[row] = str(result)
                elif see is not None:
                    see(row, result)
            report(num_done)
            if time.monotonic() > flushed + _FLUSH_SECONDS:
                flush(target)
                flushed = time.monotonic()
        # Its threads look only now and then whether they should end; the disk works meanwhile.
        pool.stop()
        flush(target)
    return errors


def results_of(
    pool: ProcessPool,
    workers: int,
    chunks: Iterable[Chunk],
    work: Work[Result],
    most_ahead: float = float("inf"),
) -> Iterator[tuple[int, list[Result | BadImage]]]:
    """Send chunks through `work`, a few at a time; yield their first images and results as they come back.

    A chunk whose worker dies or takes too long is done again image by image, so that it costs only the image
    that is to blame. No chunk is begun whose first image is `most_ahead` or more after the first that is not done: a
    slow one would have all others read meanwhile.
    """
    fresh, again = iter(chunks), deque[Chunk]()
    running: dict[Future[list[Result | BadImage]], Chunk] = {}
    begun = 0
    while True:
        while len(running) < 2 * workers + 1:
            oldest = min((chunk.first for chunk in running.values()), default=begun)
            if not again and begun - oldest >= most_ahead:
                break
            chunk = again.popleft() if again else next(fresh, None)
            if chunk is None:
                break
            begun = max(begun, chunk.first + len(chunk.images))
            running[pool.schedule(work, (chunk,), timeout=SECONDS_PER_IMAGE + CHUNK_SECONDS)] = chunk
        if not running:
            return
        finished = wait(running, timeout=1.0, return_when=FIRST_COMPLETED).done
        if not finished and not pool.active:
            # A pool that breaks down forgets work that none of its workers has seen.
            raise RuntimeError("all workers expired")
        for future in finished:
            chunk = running.pop(future)
            results, rest = _outcome(future, chunk)
            again.extend(rest)
            if results:
                yield chunk.first, results


def decode_chunk(chunk: Chunk, white: int = WHITE) -> list[Facts | BadImage]:
    """In a worker: decode images into the array file, in order, until the time is up."""
    side = _pixels.shape[-1]

    def decode(row: int, image: str | bytes) -> Facts:
        _pixels[row], facts = decode_quietly(image, side, white)
        return facts

    return each_of(chunk, decode)


def each_of(chunk: Chunk, make: Callable[[int, str | bytes], Result]) -> list[Result | BadImage]:
    """In a worker: what `make` gives for each place and image of a chunk, in order, until the time is up."""
    results: list[Result | BadImage] = []
    end = time.monotonic() + CHUNK_SECONDS
    for place, image in enumerate(chunk.images, chunk.first):
        try:
            if image is None:
                raise BadImage("no image given")
            results.append(make(place, image))
        except BadImage as error:
            results.append(BadImage(str(error)))
        if time.monotonic() > end:
            break
    return results


def _outcome(
    future: Future[list[Result | BadImage]], chunk: Chunk
) -> tuple[list[Result | BadImage], list[Chunk]]:
    """The results, and the chunks that are still to do."""
    try:
        results = future.result()
    except (ProcessExpired, TimeoutError, MemoryError) as error:
        if len(chunk.images) > 1:
            return [], [Chunk(chunk.first + i, [image]) for i, image in enumerate(chunk.images)]
        return [BadImage(_blame(error))], []
    done = len(results)
    rest = chunk.images[done:]
    return results, [Chunk(chunk.first + done, rest)] if rest else []


def _blame(error: Exception) -> str:
    """Why a worker has given nothing for its only image."""
    if isinstance(error, TimeoutError):
        return f"took longer than {SECONDS_PER_IMAGE:g} s to decode"
    return reason_of(error) if isinstance(error, MemoryError) else "the decoder crashed"


@contextmanager
def worker_pool(
    workers: int, start: Callable[..., None] | None = None, *arguments: str
) -> Iterator[ProcessPool]:
    """Processes that decode, from a server that is started once; each calls `start` when it begins.

    Raises:
        LabelfixError: they cannot be started, or keep dying without an image in hand.
    """
    forks = _Context()
    forks.set_forkserver_preload([__name__])
    start_tracker()
    pool = ProcessPool(workers, initializer=_start_worker, initargs=(start, arguments), context=forks)
    try:
        yield pool
    except RuntimeError as error:  # what a pool without workers raises
        reason = str(error) or error.__cause__
        raise LabelfixError(
            f"the processes that decode images cannot be kept alive ({reason}); run it again"
        ) from error
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


def _start_worker(start: Callable[..., None] | None, arguments: Sequence[str]) -> None:
    warnings.simplefilter("ignore")
    if start is not None:
        start(*arguments)
    leave_with_parent()
    _limit_memory()


def _limit_memory() -> None:
    """Bound the private memory of this process; the mapped array file is none.

    Only Linux holds processes to it; on other systems the limit of pixels alone bounds what a picture takes.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    except FileNotFoundError:
        return
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = pages * resource.getpagesize() + BYTES_PER_WORKER
    known = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *known]), limits[1]))


def _map_target(target: str) -> None:
    global _pixels
    _pixels = np.asarray(np.load(target, mmap_mode="r+"))


_pixels: np.ndarray  # in a worker of a store: the array file, uint8 (N, 3, S, S)

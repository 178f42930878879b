"""Several processes that make one scan: started by torchrun, each with rows of its own, in step with the others.

Outside of `joined`, and in a process that is alone, there is one process, and what is shared is given back as it is.
All processes must come to every call in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from labelfix.errors import InputError, LabelfixError

if TYPE_CHECKING:
    import numpy as np
    import torch

# What torchrun tells each of its processes.
_TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# While the first process decodes the others wait. One that has died is noticed at once, and torchrun ends the job.
_LONGEST_WAIT = timedelta(days=30)
_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL")

Value = TypeVar("Value")

_rank, _count = 0, 1


def rank() -> int:
    """The number of this process, from 0."""
    return _rank


def count() -> int:
    """How many processes make this scan."""
    return _count


def told() -> tuple[int, int]:
    """The number of this process and how many torchrun has started; 0 and 1 without torchrun."""
    if any(name not in os.environ for name in _TOLD):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def number_on_machine() -> int:
    """The number of this process among those on its machine, which is that of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if _count > 1 else 0


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that torchrun has started are one scan.

    Raises:
        InputError: this build of torch cannot do it.
        LabelfixError: inside, another process has ended.
    """
    global _rank, _count
    own, all_of_them = told()
    if all_of_them == 1 or _count > 1:
        yield
        return
    import torch
    from torch import distributed

    if not distributed.is_available():
        raise InputError(
            "torchrun: this build of torch has no torch.distributed; install another, or start labelfix without"
            " torchrun"
        )
    if distributed.is_initialized():
        raise InputError(
            "torchrun: this script has a process group of its own; scan before it is made, or after it is destroyed"
        )
    # Functions of this module keep the group that there is when it is imported, which optimizers do: its threads would
    # outlive `destroy_process_group`, and one that is still at work when Python ends aborts the process.
    import_module("torch.distributed.nn")
    has_gpus = torch.cuda.is_available() and distributed.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
    distributed.init_process_group(backend, timeout=_LONGEST_WAIT)
    _rank, _count = own, all_of_them
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _LOST):
            raise
        raise LabelfixError(
            f"another of the {all_of_them} processes of this scan has ended; what was saved at the end of an epoch"
            " counts: give the same command to go on"
        ) from error
    finally:
        _rank, _count = 0, 1
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Go on when every process has come here."""
    least(0)


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does what is inside before the others do it, who then find it done."""
    if _rank:
        wait_for_all()
    yield
    if not _rank:
        wait_for_all()


def from_first(make: Callable[[], Value]) -> Value:
    """What the first process makes, in every process; it must be picklable."""
    if _count == 1:
        return make()
    import torch
    from torch import distributed

    box = [None if _rank else make()]
    distributed.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]  # type: ignore[return-value]


def least(number: int) -> int:
    """The smallest of the numbers that the processes have."""
    if _count == 1:
        return number
    import torch
    from torch import distributed

    found = torch.tensor(number)
    distributed.all_reduce(found, distributed.ReduceOp.MIN)
    return int(found)


def add_up(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over the processes, in the place of a tensor on any device; the same bits in all of them."""
    if _count > 1:
        from torch import distributed

        distributed.all_reduce(tensor)
    return tensor


def total(values: np.ndarray) -> np.ndarray:
    """The sum over the processes of an array in main memory, the same bits in all of them."""
    if _count == 1:
        return values
    import numpy as np
    import torch

    return add_up(torch.from_numpy(np.array(values))).numpy()


def gathered(values: np.ndarray, *, only_first: bool = False) -> np.ndarray:
    """The arrays (n, ...) of all processes one after the other, (sum of n, ...), in the order of their numbers.

    Args:
        values: of this process; all have the same type and, but for n, shape.
        only_first: only the first process gets them; the others get their own back, and hold no more.
    """
    if _count == 1:
        return values
    import numpy as np
    import torch
    from torch import distributed

    lengths = np.zeros(_count, np.int64)
    lengths[_rank] = len(values)
    lengths = total(lengths)
    # As bytes, of equal length: every type can travel so.
    padded = np.zeros((int(lengths.max()), *values.shape[1:]), values.dtype)
    padded[: len(values)] = values
    own = torch.from_numpy(padded.reshape(-1).view(np.uint8))
    if only_first and _rank:
        distributed.gather(own)
        return values
    parts = [torch.empty_like(own) for _ in range(_count)]
    if only_first:
        distributed.gather(own, parts)
    else:
        distributed.all_gather(parts, own)
    arrays = [part.numpy().view(values.dtype).reshape(padded.shape) for part in parts]
    return np.concatenate([array[:length] for array, length in zip(arrays, lengths, strict=True)])

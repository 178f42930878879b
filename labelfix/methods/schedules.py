"""Learning rates and epoch counts as pure functions of epoch and step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def step_decay(epoch: float, base: float, milestones: Sequence[float], factor: float = 0.1) -> float:
    """`base` times `factor` for every milestone that `epoch` (counted from 0, a float) has reached."""
    return base * factor ** sum(epoch >= milestone for milestone in milestones)


def warmup_cosine(done: float, warmup: float = 0.1) -> float:
    """Factor of a learning rate that rises evenly from 0, then falls to 0 along half a cosine.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", 2.2; Loshchilov, Hutter 2017, "SGDR".

    >>> [round(warmup_cosine(done), 3) for done in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]

    Args:
        done: share of the training, 0 to 1.
        warmup: share in which it rises, between 0 and 1.
    """
    if done < warmup:
        return done / warmup
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


def linear_rise(done: float, until: float) -> float:
    """Factor of a weight that rises evenly from 0 to 1, where it stays from `until` on.

    >>> [linear_rise(done, 0.25) for done in (0.0, 0.125, 0.25, 1.0)]
    [0.0, 0.5, 1.0, 1.0]

    Args:
        done: share of the training, 0 to 1.
        until: share in which it rises, over 0 and at most 1.
    """
    return min(done / until, 1.0)


def linear_steps(step: int, first: float, last: float, count: int) -> float:
    """Entry `step` (from 0) of `count` >= 1 evenly spaced values from `first` to `last`, and `last` ever after."""
    done = min(step / max(count - 1, 1), 1.0)
    return (1 - done) * first + done * last


def scaled_epochs(parts: Sequence[int], total: int) -> tuple[int, ...]:
    """Scale the epochs of a run's phases to `total`, each at least 1, as evenly as whole numbers allow.

    Raises:
        ValueError: `total` is less than the number of phases.
    """
    if total < len(parts):
        raise ValueError(f"{len(parts)} phases need at least {len(parts)} epochs")
    whole = sum(parts)
    bounds = [round(total * sum(parts[:k]) / whole) for k in range(len(parts) + 1)]
    for k in range(1, len(bounds)):  # every phase keeps an epoch, from the left and from the right
        bounds[k] = min(max(bounds[k], bounds[k - 1] + 1), total - (len(parts) - k))
    return tuple(after - before for before, after in pairwise(bounds))


def cosine_cycles(done: float, cycles: int) -> float:
    """Cosine decay with warm restarts, each cycle 1.5 times as long and .9 times as high as the one before.

    Source: Loshchilov, Hutter 2017, "SGDR", with the factors of Zhang et al. 2020, 5.1.

    Args:
        done: share of the run, 0 to 1.
        cycles: in the run, whose end is that of the last; at least 1.

    Returns:
        Factor of the learning rate, in (0, 1]; a cycle's end is the next one's beginning.
    """
    whole = (1.5**cycles - 1) / 0.5  # in lengths of the first cycle
    into, length, height = done * whole, 1.0, 1.0
    while into >= length:
        into, length, height = into - length, 1.5 * length, 0.9 * height
    return height * (1 + math.cos(math.pi * into / length)) / 2

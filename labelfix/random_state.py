"""Random numbers of torch: seeded on the device that is used and on no other, and the caller's given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed what draws without a generator of its own, such as dropout: on the processor and on `device`.

    `torch.manual_seed` would seed every GPU of the machine, also one that somebody else's code draws from.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.init()  # before it there are no generators
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Inside, what is drawn on the processor and on `device` leaves the caller's random state as it was.

    And cuDNN uses only algorithms that add up in the same order every time.
    """
    is_deterministic = torch.backends.cudnn.deterministic
    on_mps = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.backends.cudnn.deterministic = True
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic = is_deterministic
            if on_mps is not None:
                torch.mps.set_rng_state(on_mps)

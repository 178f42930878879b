"""What one of several processes does for `test_distributed.py`: every method on shared digits, in step with the others.

    torchrun --nproc-per-node K tests/training/shared_training.py FOLDER METHOD[:SETTING=VALUE,...] ...

The first process writes FOLDER/<number>.json for every method: what all of them have found alike.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from digit_training import digit_labels, digit_source, trusted_digits

from labelfix import processes
from labelfix.methods import method_class
from labelfix.methods.batch import Labels
from labelfix.networks import NetworkSpec, build
from labelfix.training.batches import Source
from labelfix.training.shards import deal
from labelfix.training.trainer import Trainer

_ROWS, _CLASSES = 250, 10
_CPU = torch.device("cpu")


def make_trainer(name: str, changes: dict[str, str]) -> tuple[Trainer, np.ndarray]:
    """A trainer of this process's share of the digits, and the labels of all."""
    chosen = method_class(name)
    trusted = trusted_digits(_ROWS) if chosen.needs_trusted else None
    labels = digit_labels(_ROWS)[0]
    if trusted is not None:
        labels = np.where(trusted >= 0, -1, labels)
    shard = deal(labels, np.zeros(_ROWS, dtype=bool) if trusted is None else trusted >= 0, seed=0)
    stored = digit_source(_ROWS, _CPU)
    source = Source(stored._stored, stored.augmentation, _CPU, shard=shard)
    settings = chosen.presets()["fast"].with_epochs(4)
    if hasattr(settings, "when_weak"):
        changes = {"when_weak": "go", **changes}
    size = 48 // processes.count()
    settings = settings.changed({"batch_size": str(size), **changes})
    torch.manual_seed(0)
    network = build(NetworkSpec("small", _CLASSES, 8)).to(memory_format=torch.channels_last)
    method = chosen(network, Labels.of(labels, _CLASSES, _CPU, trusted).of_rows(shard.rows), settings)
    own = shard.places(np.flatnonzero(labels >= 0))
    trainer = Trainer(
        method, source, trained_rows=own, predicted_rows=np.arange(len(shard.rows)), seed=processes.rank()
    )
    return trainer, labels


def _digest(*tensors: torch.Tensor) -> str:
    return hashlib.sha256(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest()


def _alike(text: str) -> bool:
    """Whether all processes have the same text."""
    return processes.from_first(lambda: text) == text


def train(name: str, changes: dict[str, str]) -> dict[str, object]:
    """Train, and compare what must be alike in all processes, and what must not."""
    trainer, labels = make_trainer(name, changes)
    steps = 0

    def keep_going() -> bool:
        nonlocal steps
        steps += 1
        return True

    reports = list(trainer.epochs(keep_going))
    method, shard = trainer.method, trainer.source.shard
    state = dict(method.state_dict())
    shared = [value for key, value in sorted(state.items()) if key not in method.row_axes]
    own = [state[key] for key in sorted(method.row_axes)]
    alike = [_alike(_digest(*method.parameters())), _alike(_digest(*shared))]
    rows_alike = _alike(_digest(*own))
    numbers = json.dumps([[report.losses, report.reported] for report in reports])
    tensors, facts = trainer.state()
    whole = {key: list(tensors[f"method.{key}"].shape) for key in method.row_axes}
    trainer.restore({key: processes.from_first(lambda key=key: tensors[key]) for key in tensors}, facts)
    kept = sum(value.nbytes for value in own)
    again = [state[key] for key in sorted(method.row_axes)]
    return {
        "steps": steps,
        "parameters_alike": processes.least(alike[0]),
        "shared_state_alike": processes.least(alike[1]),
        "row_state_alike": processes.least(rows_alike),
        "reports_alike": processes.least(_alike(numbers)),
        "restored_alike": processes.least(_digest(*own) == _digest(*again)),
        "losses_finite": all(report.is_finite for report in reports),
        "last": {**reports[-1].losses, **reports[-1].reported},
        "whole": whole,
        "kept_bytes": [int(n) for n in processes.gathered(np.array([kept]))],
        "whole_bytes": sum(tensors[f"method.{key}"].nbytes for key in method.row_axes),
        "own_rows": [int(n) for n in processes.gathered(np.array([shard.owned.sum()]))],
        "trained": int((labels >= 0).sum()),
    }


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with processes.joined():
        for number, asked in enumerate(sys.argv[2:]):
            name, _, rest = asked.partition(":")
            found = train(name, dict(pair.split("=") for pair in rest.split(",") if pair))
            if not processes.rank():
                (folder / f"{number}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()

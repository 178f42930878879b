"""Parts of the gradient that moves the labels, where the truth is known: the curves of Yi, Wang, Wu 2022, figures 5, 6.

A row's label logits take one step an epoch, so how far they went over the step is the gradient that moved them. Nothing
learns from it.
"""

from __future__ import annotations

import numpy as np
import torch

from labelfix import processes
from labelfix.methods.batch import to_device
from labelfix.training.trainer import Trainer

BEFORE = "label_logits_before"


class LabelTraces:
    """Means over the rows of two components of the gradient of every label: of the given and of the true class.

    Args:
        trainer: of the run.
        truth: (N,) int64, true classes, -1 for none; None where nothing is known.
    """

    def __init__(self, trainer: Trainer, truth: np.ndarray | None) -> None:
        self._trainer = trainer
        self._is_known = truth is not None
        self._rows, self._true = trainer.trained_truth(truth)
        self._given = trainer.method.given.cpu().numpy()[self._rows]
        self._movement: tuple[torch.Tensor, float] | None = None
        self._before = torch.zeros(0)

    def begin(self, before: torch.Tensor | None = None) -> None:
        """Look at the labels at the start of an epoch, or where one goes on.

        Args:
            before: what `state` had of an epoch that had begun already; without it that epoch has no traces.
        """
        self._movement = self._trainer.label_movement() if self._is_known else None
        if self._movement is None:
            return
        now, goes_on = self._components(self._movement[0]), self._trainer.position.step > 0
        if not goes_on:
            self._before = now
        elif before is not None and before.shape == now.shape and processes.count() == 1:
            self._before = before
        else:
            self._movement = None

    def end(self) -> dict[str, float]:
        """What the epoch that has ended comes to.

        Returns:
            Of the rows whose given label is wrong `gradient_wrong_given` and `gradient_wrong_true`, the components of
            the given and of the true class; of the others `gradient_right`. Where it is over 0 the class loses, below
            it gains. In the scale of `losses.label_gradient`: the paper's times batch size and K. Empty where no label
            moved; without what no row has.
        """
        if self._movement is None:
            return {}
        logits, step = self._movement
        gradient = (self._before - self._components(logits)).double().numpy() / step
        wrong = self._given != self._true
        parts = {
            "gradient_wrong_given": gradient[wrong, 0],
            "gradient_wrong_true": gradient[wrong, 1],
            "gradient_right": gradient[~wrong, 0],
        }
        sums = processes.total(np.array([[part.sum(), len(part)] for part in parts.values()]))
        return {name: float(of / rows) for name, (of, rows) in zip(parts, sums, strict=True) if rows}

    def state(self) -> dict[str, torch.Tensor]:
        """What `begin` needs where an epoch goes on; empty between epochs."""
        goes_on = self._trainer.position.step > 0
        return {BEFORE: self._before} if goes_on and self._movement is not None else {}

    def _components(self, logits: torch.Tensor) -> torch.Tensor:
        """(n, 2) float32 in main memory: those of the given and of the true class."""
        classes = np.stack([self._given, self._true], axis=1)
        rows, chosen = (to_device(part, logits.device) for part in (self._rows, classes))
        return logits[rows].gather(1, chosen).cpu()

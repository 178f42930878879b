"""MixMatch: semi-supervised learning from a few trusted samples, with all other labels left unread.

What it is for: the baseline that shows what the given labels are worth, beside a few trusted samples. Only these have
labels for it; of all other rows it guesses them, and mixes everything with everything. So noise cannot mislead it,
however much there is. The trusted samples come by `--trusted FILE` or a column `is_trusted`.

When it fails: without trusted samples of every class it does not start, and wrong ones mislead it. It knows no more
than they show, as it reads no other label: with ten a class Zhang et al. 2020 (table 8) print an accuracy of 34.5 % on
CIFAR-100, and 75.2 for their own method, which also reads labels of which four in five are drawn anew. A large
k holds it back: on 1,400 digits (15 epochs, two seeds) it comes to a test accuracy of 95.1 % without the KL, 95.5 with
a k of 1, 92.3 with 5 and 62.5 with 20.

Source: Berthelot, Carlini, Goodfellow, Papernot, Oliver, Raffel 2019, "MixMatch: A Holistic Approach to Semi-Supervised
Learning", section 3, with details from the authors' code. The guess of a row is the mean of the predictions of two weak
views, sharpened, and no gradient flows into it. Trusted samples and both views of the others are one pool, and each of
it is mixed with another one, its own share m of Beta(a, a) or 1 - m, whichever is more. The loss is L_X + w L_U:
cross-entropy of what is mostly trusted, and the squared difference of softmax and mixed label of the rest, w rising
evenly from 0. Averaged weights predict. MixMatch-KL is the extension of Zhang et al. 2020, "Distilling Effective
Supervision from Severe Label Noise" (5.4, table 8): beside it k L_KL, as in `meta`, the KL of a strong view's
prediction from the weak one's that it distorts.

Settings: `mixup_alpha` is a, `unlabelled_weight` w at its full height, `ramp_share` the share of the training in which
it rises, `consistency` k: 0 is MixMatch, more is MixMatch-KL. `score_from=loss` ranks rows by the probability of the
given label that the trained network has; `trajectory` (default) by averaged predictions, those of the guesses before
they are sharpened, as those of every method (docs/estimation.md).

Differences, all deliberate: momentum SGD in place of Adam at .002, which the trainer does not have; with a rate of .04
and a weight decay of 1e-4 the kernels shrink by as much a step as in the code, 4e-5. One forward sees the whole pool,
where the code makes three of interleaved thirds and takes running statistics from the first. Trusted rows come class
by class in turn. The average of the weights starts sooner, as everywhere here. Zhang et al. state neither
the weight of the KL in MixMatch-KL nor a schedule: k is 1, the schedule MixMatch's. The strong
view is that of `meta`'s default.

Presets: `fast` for a CPU, 11 epochs, w rising to 75 at the end (600 digits, three trusted a class, symmetric-exclusive
noise of .3, 15 epochs in batches of 50, seed 0: average precision .954, with w = 20 .921); `paper`, for CIFAR-10:
1,048,576 steps of 64 rows, w = 75; `paper-cifar100`, w = 150; `paper-kl`, MixMatch-KL with k = 1 (CIFAR-100: `--set
unlabelled_weight=150`). With `--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the encoder is trained
too, `fast-tune` (6).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from labelfix.methods import cross_entropy
from labelfix.methods.base import MethodSettings, Phase, TrainState, setting
from labelfix.methods.batch import Batch, packed_to_device
from labelfix.methods.losses import consistency, mix_pool, sharpened, soft_cross_entropy, squared_error
from labelfix.methods.schedules import linear_rise
from labelfix.methods.trusted_stream import TrustedStream
from labelfix.networks.statistics import frozen_statistics

_PAPER = "Berthelot et al. 2019"
_CODE = "the code of Berthelot et al."


class Settings(cross_entropy.RobustSettings):
    """Settings of MixMatch; the defaults are those of the fast preset."""

    train_epochs: int = setting(
        11,
        "epochs of training",
        source=f"ours: 121 passes, as many as others have; 1,048,576 steps in {_CODE}",
        ge=1,
    )
    milestones: tuple[int, ...] = setting(
        (), "epochs after which the learning rate falls by the factor `decay`", source=f"none in {_PAPER}"
    )
    average_from: int = setting(3, "first epoch of the averaged predictions", source="ours")
    average_until: int = setting(11, "epoch at which the averaging of predictions ends", source="ours")
    temperature: float = setting(
        0.5, "T: below 1 it sharpens the guesses", source=f"{_PAPER}, equation 7", gt=0
    )
    mixup_alpha: float = setting(
        0.75, "shares are drawn from Beta(a, a), one an entry of the pool", source=f"{_PAPER}, 4.2", gt=0
    )
    unlabelled_weight: float = setting(
        75.0, "w: weight of the squared error of what is mostly not trusted", source=f"{_PAPER}, 4.2", ge=0
    )
    ramp_share: float = setting(
        1.0,
        "share of the training in which `unlabelled_weight` rises from 0",
        source=f"ours; the first 1 / 64 of the training in {_CODE}",
        gt=0,
        le=1,
    )
    consistency: float = setting(
        0.0,
        "k: weight of the agreement of weak and strong view, for MixMatch-KL",
        source=f"none in {_PAPER}; not stated in Zhang et al. 2020, whose own method has 20 (5.2)",
        ge=0,
    )
    ema_decay: float = setting(
        0.999, "decay a step of the averaged weights, which predict", source=f"{_PAPER}, 4", ge=0, le=1
    )


class MixMatch(TrustedStream, cross_entropy.CrossEntropy):
    """Guessed labels for all that is not trusted, mixup of everything with everything."""

    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for CIFAR-10, `paper-kl` for MixMatch-KL."""
        paper = Settings(
            batch_size=64,
            learning_rate=0.04,
            weight_decay=1e-4,
            weight_decay_on="kernels",
            train_epochs=1345,
            average_from=269,
            average_until=1345,
            ramp_share=1 / 64,
        )
        return {
            "fast": Settings(),
            **Settings().pretrained(),
            "paper": paper,
            "paper-cifar100": paper.changed({"unlabelled_weight": 150.0}),
            "paper-kl": paper.changed({"consistency": 1.0}),
        }

    def phases(self) -> tuple[Phase, ...]:
        """One phase: a forward of two views for the guesses, then the pool, and a strong view where it has a weight."""
        settings = self.settings
        strong = ("strong",) if settings.consistency else ()
        phase = Phase(
            "train",
            settings.train_epochs,
            forward_units=2 + 6 + 3 * len(strong),
            views=("weak", "weak", *strong),
            ema_decay=settings.ema_decay,
            trusted_units=3,
        )
        return (phase,)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """L_X + w L_U (equations 3 to 5) + k L_KL."""
        settings, parts = self.settings, {}
        first, second, *strong = batch.views
        with frozen_statistics(self.network), torch.no_grad():
            weak_logits = self.network(second).float()
            probs = (self.network(first).float().softmax(dim=1) + weak_logits.softmax(dim=1)) / 2
        self.remember(when, batch.rows, probs.log())
        labelled, unlabelled = self._mixed(batch, sharpened(probs, settings.temperature))
        rise = linear_rise(self._share_done(when), settings.ramp_share)
        parts["labelled"] = labelled
        parts["unlabelled"] = rise * settings.unlabelled_weight * unlabelled
        if strong:
            with frozen_statistics(self.network):
                strong_logits = self.network(strong[0]).float()
            parts["consistency"] = settings.consistency * consistency(weak_logits, strong_logits)
        return parts

    def _mixed(self, batch: Batch, guess: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """L_X and L_U of the pool: trusted samples and both weak views with their guess (B, K), each mixed."""
        trusted, alpha = batch.trusted, self.settings.mixup_alpha
        assert trusted is not None
        first, second = batch.views[:2]
        images = torch.cat([trusted.views[0], first, second])
        labels = torch.cat([self.one_hot(self.verified[trusted.rows]), guess, guess])
        shares = batch.rng.beta(alpha, alpha, size=len(images)).astype(np.float32)
        order = batch.rng.permutation(len(images))
        partner, share = packed_to_device(first.device, order, np.maximum(shares, 1 - shares))
        mixed, targets = mix_pool(images, labels, partner, share)
        logits, count = self.network(mixed).float(), len(trusted.rows)
        labelled = soft_cross_entropy(logits[:count], targets[:count])
        return labelled, squared_error(logits[count:], targets[count:])

"""Meta re-labelling: a few trusted samples judge, one step ahead, every training label and how much it counts.

What it is for: sources with some verified labels, one of each class to begin with, better ten. They come by `--trusted
FILE` or a column `is_trusted`. Of every batch it asks which samples, and of each whether its given label
or the network's guess, would help the trusted ones if the network took a step on them.

When it fails: without trusted samples of every class it does not start, and wrong ones mislead it. A step costs seven
times cross-entropy's. The gradient of a few trusted images is coarse: a small network on photographs keeps .51 of the
right labels and .38 of the wrong ones (digits: .81 and .23), and its guesses are then worse than the labels (figures
below).

Source: Zhang, Zhang, Arik, Lee, Pfister 2020, "Distilling Effective Supervision from Severe Label Noise", with details
from the authors' code. Every image is seen in two views, weak and strong; the guess g is the mean of both predictions,
sharpened (equation 3). The look-ahead is a step of momentum SGD on the batch, with labels lambda_0 given + (1 -
lambda_0) g; the derivatives of the trusted loss after it by each sample's weight and label share give weights omega*
and choices lambda* (equation 6). The loss is (L_omega + L_lambda) / 2 + L_beta^p + p L_beta^u + k L_KL (algorithm 1;
the half is the code's): cross-entropy to the blended labels by weight, to the chosen labels, of images mixed with
others where the larger part is a trusted image or is not, and KL of the strong view's prediction from the weak one's.
Averaged weights predict. In L_beta a sample counts as mislabelled, with its guess for a label, where omega* is below
`threshold`, the T of algorithm 1: 1 in the paper, which sends practically all to their guesses.

Ablations (table 9), each with `--preset paper` and `--set`: M-4, without L_KL, `consistency=0`; M-6, without L_beta,
`trusted_weight=0` and `mixup_weight=0`; M-7, without the policy (PA), `strong_view=cutout`; M-8, without lambda,
`relabel=false`; M-9 and M-10, without mixup, `mixup=false` (with ten or one trusted image a class); M-3 is M-4 and M-6
together, M-2 that and M-7, M-1 that and M-8: the weights alone, as in learning to reweight. Choices are made without
`relabel` too, and the method's own findings rest on them, but nothing is trained towards them.

Settings: `given_share` is lambda_0, `mixup_weight` p, `consistency` k, `temperature` tau. `warmup_epochs` of
cross-entropy come first (fast preset), then `cycles` of the learning rate. `guess_gradient=true` lets the look-ahead
follow the guesses, as the authors' code does; `derivative=forward-mode` takes its derivative exactly. For the
differences convolutions keep all bits of float32 on a GPU: rounded to the 10 of TF32 they err by .6 % of the derivative
in place of .2 (small network), by 2.5 % in place of 1.7 (PreAct ResNet-18; both on digits, 25 steps after the start).

Differences, all deliberate: the derivative of the meta step comes from one directional derivative along the trusted
gradient, not from differentiating through the update: the same numbers (1e-10 in float64) without a graph of
gradients. Guesses are held fixed in it by default. The strong view is one affine map, one change of colours and a
cut-out, drawn for each image, in place of a learned policy (1 to 3 points by the paper's table 9):
`strong_view=autoaugment` is that of CIFAR-10, which is drawn on the host and slows a GPU down. The weak view is a
crop with `crop_padding`, 2 of 32 px on a side in the paper presets, and a mirror. Cycles are shares
of the run, and the last ends with it: the code's thirteenth ends after 193,620 of 200,000 steps. Weight decay is the
optimiser's.

Findings: the belief is lambda given + (1 - lambda) g, with running means of choices and guesses over the visits of a
row, noise 1 - that of the given label (`score_from=method`, as in the paper preset). `trajectory` judges the averaged
predictions as those of every method (docs/estimation.md). Trusted samples are no rows of the training: their own
verdict is the verified label, and no evaluation counts them. All of them teach: none is kept from training to calibrate
the scores and check the corrections on, unless `--check-trusted` is given.

Presets: `fast`, 40 epochs for a CPU, of which the first 32 are cross-entropy, p = k = 1; guesses become labels only
where the network can be trusted with them by then (`when_weak=wait`), else the given labels take their place. `paper`,
for CIFAR-10 and CIFAR-100 with `--backbone wide-resnet28-10-padded`: 387 epochs of 100 rows, 13 cycles from .1, p = 5,
k = 20, no warm-up; `paper-resnet29`, for `--backbone resnet29`, with a weight decay of 2e-4, of kernels alone;
`paper-webvision-mini` (p = 4, k = 8) and `paper-webvision` (k = .4; the appendix has 40 and 4), `paper-food101n` (p =
1, k = 14) and `paper-clothing1m` (p = 1, k = 3.5), all from random weights at 224 px, with the rest as for CIFAR: the
paper does not state batches, rates and steps there.
With `--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the encoder is trained too, `fast-tune` (6).

How `fast` was found: 5,000 photographs of CIFAR-10, symmetric noise of .4, ten trusted images a class, seed 0 (share
of the network's classes right / average precision of the averaged predictions). From the first step on with p = 5, k
= 20: .270 / .633 after 8 epochs; p = 2, k = 4: .516 / .808 after 12, where bmm in 12 epochs comes to .527 / .846.
After 20 epochs of cross-entropy, 8 with p = 1, k = 2: .594 / .877; but 4 of cross-entropy alone, at a rate that falls
as there: .642 / .877. There guesses are worse than the labels: with the given labels in their place, p = k = 1, 4
epochs come to .613 / .879. The choices themselves (`score_from=method`) have .680, and added to the averages they
only lose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from pydantic import model_validator
from torch import nn
from torch.func import functional_call

from labelfix.errors import InputError
from labelfix.estimation.evidence import PAPER_RULE, Evidence
from labelfix.estimation.mixture_posterior import mixture_belief
from labelfix.methods import look_ahead
from labelfix.methods.base import Flag, Method, MethodSettings, Phase, Predict, TrainState, setting
from labelfix.methods.batch import Batch, Labels, packed_to_device
from labelfix.methods.look_ahead import MetaWeights, Outputs, Parameters, Step
from labelfix.methods.losses import consistency, mix, mix_pool, rms_normalised, sharpened, soft_cross_entropy
from labelfix.methods.moving_labels import MovingLabels, MovingLabelSettings
from labelfix.methods.own_model import OwnModel
from labelfix.methods.schedules import cosine_cycles, step_decay
from labelfix.methods.trusted_stream import TrustedStream
from labelfix.networks.statistics import frozen_statistics
from labelfix.random_state import seed_generators

_PAPER = "Zhang et al. 2020"
_CODE = "the code of Zhang et al."


class Settings(MovingLabelSettings):
    """Settings of meta re-labelling; the defaults are those of the fast preset."""

    train_epochs: int = setting(
        40, "epochs of training", source=f"measured; 387 in {_PAPER}, 200,000 steps of 100 rows", ge=1
    )
    warmup_epochs: int = setting(
        32,
        "first of them, with cross-entropy alone: guesses of a network that knows nothing teach nothing",
        source=f"ours, measured; none in {_PAPER}",
    )
    learning_rate: float = setting(
        0.05, "learning rate at the start of the first cycle", source=f"measured; 0.1 in {_CODE}", ge=0
    )
    cycles: int = setting(
        1,
        "cosine cycles of the learning rate after the warm-up, each 1.5 times as long and .9 times as high as the "
        "one before; 0 for steps at `milestones`",
        source=f"{_PAPER}, 5.1, whose 200,000 steps hold 13",
        ge=0,
    )
    given_share: float = setting(
        0.9,
        "lambda_0: share of the given label in the look-ahead, beside the guess",
        source=f"{_PAPER}, 4.3",
        ge=0,
        le=1,
    )
    look_ahead_rate: float = setting(0.1, "learning rate of the look-ahead, at all times", source=_CODE, gt=0)
    temperature: float = setting(
        0.5, "tau: below 1 it sharpens the guesses", source=f"{_PAPER}, equation 3", gt=0
    )
    logit_norm: Flag = setting(
        True,
        "whether logits are divided by their root mean square before they become guesses or mixed predictions",
        source=f"{_CODE}; not in the paper",
    )
    guess_gradient: Flag = setting(
        False,
        "whether the look-ahead follows the guesses as the weights move, for three passes more",
        source=f"ours; true in {_CODE}",
    )
    derivative: Literal["differences", "forward-mode"] = setting(
        "differences",
        "how the meta step takes its derivative: from two passes, to 1 to 3 %, or exactly from one with tangents",
        source="ours; on a CPU two passes are faster (tests/benchmarks/look_ahead.py)",
    )
    relabel: Flag = setting(
        True,
        "lambda: whether labels are chosen; without it the weights act on the given labels, and L_lambda is left out",
        source=f"{_PAPER}, equation 5; false for rows 1 and 8 of its table 9",
    )
    mixup: Flag = setting(
        True,
        "whether the images of L_beta are mixed; false: each stands alone with its label",
        source=f"{_PAPER}, 4.4; false for rows 9 and 10 of its table 9",
    )
    strong_view: Literal["distorted", "autoaugment", "randaugment", "cutout"] = setting(
        "distorted",
        "what the strong view has beside the weak one's crop and mirror: a map, colours and a cut-out, a policy of "
        "torchvision and a cut-out, or this alone",
        source=f"ours; autoaugment in {_PAPER}, randaugment in its 6, cutout for rows 1, 2 and 7 of its table 9",
    )
    trusted_weight: float = setting(
        1.0,
        "weight of the mixed images that are mostly trusted (L_beta^p)",
        source=f"1 in {_PAPER}, algorithm 1; 0 for the rows of its table 9 without L_beta",
        ge=0,
    )
    mixup_weight: float = setting(
        1.0,
        "p: weight of the mixed images that are mostly untrusted",
        source=f"measured on a small network; 5 in {_PAPER}, 5.2",
        ge=0,
    )
    consistency: float = setting(
        1.0,
        "k: weight of the agreement of weak and strong view",
        source=f"measured on a small network; 20 in {_PAPER}, 5.2",
        ge=0,
    )
    threshold: float = setting(
        1.0,
        "T: samples whose weight is below it have their guess for a label in L_beta, the others their given one",
        source=f"{_PAPER}, 5.2 and appendix B",
        ge=0,
        le=1,
    )
    ema_decay: float = setting(
        0.999, "decay a step of the averaged weights, which predict", source=_CODE, ge=0, le=1
    )
    average_from: int = setting(12, "first epoch of the averaged predictions", source="ours")
    average_until: int = setting(40, "epoch at which the averaging of predictions ends", source="ours")
    milestones: tuple[int, ...] = setting(
        (), "epochs after which the learning rate falls by `decay`, without cycles", source="ours"
    )

    phase_epochs: ClassVar[tuple[str, ...]] = ("train_epochs",)

    @property
    def is_mixed(self) -> bool:
        """Whether either part of L_beta counts."""
        return self.trusted_weight > 0 or self.mixup_weight > 0

    @property
    def labelled_share(self) -> float:
        """lambda_0, or 1 where labels are the given ones."""
        return self.given_share if self.relabel else 1.0

    def with_epochs(self, total: int) -> Self:
        """As of every method; the warm-up keeps its share, and leaves an epoch."""
        scaled = super().with_epochs(total)
        warmup = round(self.warmup_epochs * total / self.train_epochs)
        return scaled.model_copy(update={"warmup_epochs": min(warmup, total - 1)})

    @model_validator(mode="after")
    def _check_warmup_epochs(self) -> Self:
        if not 0 <= self.warmup_epochs < self.train_epochs:
            raise InputError(
                f"--set warmup_epochs={self.warmup_epochs}: must be 0 or more, and less than train_epochs "
                f"({self.train_epochs})"
            )
        return self


# p and k of the large data sets (5.3, appendix B).
_LARGE = {
    "webvision-mini": (4.0, 8.0),
    "webvision": (4.0, 0.4),
    "food101n": (1.0, 14.0),
    "clothing1m": (1.0, 3.5),
}


def presets() -> dict[str, MethodSettings]:
    """Complete settings by name: `fast` for a CPU, `paper` for CIFAR with a Wide ResNet."""
    paper = Settings(
        batch_size=100,
        learning_rate=0.1,
        weight_decay=5e-4,
        train_epochs=387,
        warmup_epochs=0,
        cycles=13,
        crop_padding=1 / 16,
        guess_gradient=True,
        derivative="forward-mode",
        mixup_weight=5.0,
        consistency=20.0,
        ema_decay=0.999,
        when_weak="go",
        score_from="method",
        average_from=30,
        average_until=387,
    )
    return {
        "fast": Settings(),
        **Settings().pretrained(tune={"schedule": "steps"}),  # its own cycles
        "paper": paper,
        "paper-resnet29": paper.changed({"weight_decay": 2e-4, "weight_decay_on": "kernels"}),
        **{
            f"paper-{name}": paper.changed({"mixup_weight": p, "consistency": k})
            for name, (p, k) in _LARGE.items()
        },
    }


_VISIT_DECAY = 0.9


class Meta(MovingLabels, OwnModel, TrustedStream):
    """Two views with pseudo labels, a look-ahead that weighs and re-labels, mixup anchored at trusted samples."""

    keeps_given: torch.Tensor
    guesses: torch.Tensor
    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings
    row_axes: ClassVar[Mapping[str, int]] = {**Method.row_axes, "keeps_given": 0, "guesses": 0}

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        # Running means over the visits of a row: how often its given label was kept, and its pseudo label.
        self.register_buffer("keeps_given", torch.ones(len(self.given), device=self.given.device))
        self.register_buffer("guesses", torch.zeros_like(self.ensembled_probs))

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for CIFAR with a Wide ResNet."""
        return presets()

    def phases(self) -> tuple[Phase, ...]:
        """Cross-entropy, then the whole: up to 15 forwards a step, and 7 to 13 of the meta step."""
        settings = self.settings
        views = 2 if settings.guess_gradient else 1
        # The loss of the look-ahead has a backward of its own, but no forward; tangents cost two passes.
        extra = 2 * views + (0 if settings.derivative == "differences" else 2 * views)
        losses = 3 + (3 if settings.consistency else 1) + (9 if settings.is_mixed else 0)
        forwards = 2 * views if settings.derivative == "differences" else views
        meta = Phase(
            "meta",
            settings.train_epochs - settings.warmup_epochs,
            forward_units=losses + forwards + extra,
            views=("weak", "strong" if settings.strong_view == "distorted" else settings.strong_view),
            ema_decay=settings.ema_decay,
            trusted_units=3,
        )
        warmup = Phase("warmup", settings.warmup_epochs, forward_units=3)
        return (warmup, meta) if warmup.epochs else (meta,)

    def learning_rate(self, when: TrainState) -> float:
        """Cosine cycles after the warm-up, or steps."""
        settings, into = self.settings, when.epoch - self.settings.warmup_epochs
        if not settings.cycles:
            return step_decay(when.epoch, settings.learning_rate, settings.milestones, settings.decay)
        done = max(into, 0.0) / (settings.train_epochs - settings.warmup_epochs)
        return settings.learning_rate * cosine_cycles(done, settings.cycles)

    def trusted_slices(self, phase: Phase, steps: int, rng: np.random.Generator) -> list[np.ndarray] | None:
        """As many trusted rows a step as there are others, every class as often as the next; none in the warm-up."""
        return None if phase.name == "warmup" else super().trusted_slices(phase, steps, rng)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """(L_omega + L_lambda) / 2 + L_beta^p + p L_beta^u + k L_KL (algorithm 1), or cross-entropy before it.

        Without `relabel` L_omega stands alone and whole; parts of no weight are left out, and their forward too.
        """
        settings, given = self.settings, self.one_hot(self.given[batch.rows])
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        if when.phase.name == "warmup":
            return {"cross_entropy": soft_cross_entropy(logits, given)}
        strong = batch.views[1]
        with frozen_statistics(self.network):
            with torch.set_grad_enabled(settings.consistency > 0 or settings.guess_gradient):
                strong_logits = self.network(strong).float()
            guess = self._guess(logits, strong_logits)
            choices = self._meta_step(when, batch, given, guess, logits)
            guess = guess.detach()
            self._remember_choices(when, batch.rows, guess, choices)
            log_probs = F.log_softmax(logits, dim=1)
            taught = guess if self.moves else given
            blended = mix(given, taught, settings.labelled_share)
            weighed = -(choices.weights.unsqueeze(1) * blended * log_probs).sum()
            parts = {"reweighted": weighed}
            if settings.relabel:
                chosen = torch.where(choices.keeps_given.bool().unsqueeze(1), given, taught)
                parts = {"relabelled": soft_cross_entropy(logits, chosen) / 2, "reweighted": weighed / 2}
            if settings.is_mixed:
                is_doubted = choices.weights < settings.threshold
                trusted, others = self._mixed(batch, torch.where(is_doubted.unsqueeze(1), taught, given))
                parts["mixup_trusted"] = settings.trusted_weight * trusted
                parts["mixup"] = settings.mixup_weight * others
        if settings.consistency:
            parts["consistency"] = settings.consistency * consistency(logits, strong_logits)
        return parts

    def _guess(self, weak: torch.Tensor, strong: torch.Tensor) -> torch.Tensor:
        """Equation 3 for K = 2: (B, K) pseudo labels from the logits of both views."""
        probs = (self._normalised(weak).softmax(dim=1) + self._normalised(strong).softmax(dim=1)) / 2
        return sharpened(probs, self.settings.temperature)

    def _meta_step(
        self, when: TrainState, batch: Batch, given: torch.Tensor, guess: torch.Tensor, logits: torch.Tensor
    ) -> MetaWeights:
        """The meta step (section 4.3); running statistics are frozen."""
        settings = self.settings
        follows = settings.guess_gradient
        guess = guess if follows else guess.detach()
        params = dict(self.network.named_parameters())
        decays = {name: self.decay_of(value) for name, value in params.items()}
        step = Step(settings.look_ahead_rate, settings.momentum, decays)
        (weak, strong), trusted = batch.views, batch.trusted
        assert trusted is not None

        def seen(point: Parameters) -> Outputs:
            # The dropout of the step's first forward, on either side.
            seed_generators(torch.initial_seed(), weak.device)
            found = functional_call(self.network, point, (weak,))
            log_probs = F.log_softmax(found, dim=1)
            if not follows:
                return (log_probs,)
            return log_probs, self._guess(found, functional_call(self.network, point, (strong,)))

        with torch.autocast(weak.device.type, enabled=False):
            loss = soft_cross_entropy(logits, mix(given, guess, settings.labelled_share))
            slopes = torch.autograd.grad(
                loss, list(params.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            prefix = "network."
            velocity = {name.removeprefix(prefix): part for name, part in when.velocity.items()}
            ahead = look_ahead.stepped(params, dict(zip(params, slopes, strict=True)), velocity, step)
            verified = self.verified[trusted.rows]
            direction = look_ahead.trusted_gradient(self.network, ahead, trusted.views[0], verified, decays)
            point = {name: value.detach() for name, value in params.items()}
            slope, *rest = look_ahead.DERIVATIVES[settings.derivative](seen, point, direction)
        return look_ahead.meta_weights(
            given,
            guess.detach(),
            settings.labelled_share,
            settings.look_ahead_rate,
            slope,
            F.log_softmax(logits.detach(), dim=1),
            rest[0] if follows else None,
        )

    def _mixed(self, batch: Batch, believed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """L_beta^p and L_beta^u: trusted samples and both views, with labels (B, K), each mixed with another one."""
        (weak, strong), trusted = batch.views, batch.trusted
        assert trusted is not None
        count = len(weak)
        choice, order = batch.rng.integers(len(trusted.rows), size=count), batch.rng.permutation(3 * count)
        shares = batch.rng.random(3 * count) ** 2 / 2  # or the rest, whichever is more: about Beta(.5, .5)
        larger = (
            np.maximum(shares, 1 - shares).astype(np.float32)
            if self.settings.mixup
            else np.ones(3 * count, np.float32)
        )
        drawn, partner, share = packed_to_device(weak.device, choice, order, larger)
        images = torch.cat([trusted.views[0][drawn], weak, strong])
        labels = torch.cat([self.one_hot(self.verified[trusted.rows[drawn]]), believed, believed])
        mixed, targets = mix_pool(images, labels, partner, share)
        # Each third of the pool is normalised on its own, as a batch.
        logits = self._normalised(self.network(mixed).float().unflatten(0, (3, count))).flatten(0, 1)
        anchored = soft_cross_entropy(logits[:count], targets[:count])
        return anchored, soft_cross_entropy(logits[count:], targets[count:])

    def _normalised(self, logits: torch.Tensor) -> torch.Tensor:
        return rms_normalised(logits) if self.settings.logit_norm else logits

    def _remember_choices(
        self, when: TrainState, rows: torch.Tensor, guess: torch.Tensor, choices: MetaWeights
    ) -> None:
        """Choices and guesses of this visit into the running means of their rows."""
        is_first = when.epoch < self.settings.warmup_epochs + 1
        weight = 1.0 if is_first else 1 - _VISIT_DECAY
        self.keeps_given[rows] = torch.lerp(self.keeps_given[rows], choices.keeps_given, weight)
        self.guesses[rows] = torch.lerp(self.guesses[rows], guess, weight)

    def after_epoch(self, when: TrainState, predict: Predict) -> dict[str, float]:
        """After the warm-up, whether guesses may become labels; then how often given labels are kept."""
        if when.phase.name == "warmup":
            if round(when.epoch) == self.settings.warmup_epochs:
                self.may_move(self.probs_so_far(when, predict))
            return {}
        if not self.moves and not self.settings.warmup_epochs:
            self.may_move(self.probs_so_far(when, predict))
        return {"kept_share": float(self.keeps_given[self.given >= 0].mean())}

    def own_evidence(self, logits: torch.Tensor) -> Evidence:
        """Choices and guesses over the visits of a row."""
        given = self.given.cpu().numpy()
        rows = np.flatnonzero(given >= 0)
        kept, guesses = (part.cpu().double().numpy()[rows] for part in (self.keeps_given, self.guesses))
        beliefs = mixture_belief(1 - kept, guesses, given[rows])
        noise = 1 - beliefs[np.arange(len(rows)), given[rows]]
        return Evidence.of_rows(beliefs, noise, rows, len(given), self.own_fit(), {}, PAPER_RULE)

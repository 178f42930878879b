"""NNAQC: a noise layer behind the softmax learns how labels go wrong, so that the network need not.

What it is for: labels of one class that are mistaken for others whatever the image, and a classifier that stays clear
of them. The network is trained in front of the layer, which takes the wrong labels upon it. It needs no trusted samples
and no noise rate, costs what cross-entropy does, and says where the labels of each class have gone.

When it fails: noise that depends on the image has no place in the layer. Where the layer decays faster than it
learns, it stays so diffuse that the network learns little and its findings do harm (figures below). Behind
`qc_weight_on=prediction`, as printed, alone (alpha = 0) everything collapses to a single class: only the noise-aware
loss holds it up.

Source: Jindal, Nokleby, Pressel, Chen 2019, "A Nonlinear, Noise-aware, Quasi-clustering Approach to Learning Deep CNNs
from Noisy Labels". With q the softmax of the network and W a K x K matrix, noisy labels follow softmax(W q) (equation
3). L = alpha L_NNA + (1 - alpha) L_QC (equation 6): L_NNA the cross-entropy of the noisy probabilities, L_QC that of q
to b q + (1 - b) given, with gradients through both q's. W is learned with the network and plays no part afterwards:
what predicts, and what the classifier keeps, is the network alone.

Settings: `alpha` and `beta` are the paper's, .9 each. `qc_weight_on` is the side of L_QC that beta weighs: the label
(b = 1 - beta, the default) or the prediction (b = beta, as printed). The paper's own table 5 has L_QC alone at the
figures of bootstrapping, whose large weight is on the label, and the printed form collapses there, so it cannot be what
was run. `noise_layer=linear` is the contrast of equation 5, `trace` its regulariser (table 1, Trace; with `alpha=1` as
there): noisy labels follow T' q, row j of T the softmax of W's column j. Let it start from a few wrong labels, as
`fast-linear` does: at `first_flips` of 5e-4 that softmax has no gradient to speak of, and T stays where it is.
`dropout` is for Regu. NNAQC: it drops outputs of the layer in training. The outputs of the linear layer are
probabilities, and a label whose own is dropped could not have been given: there it drops entries of W (Jindal,
Nokleby, Chen 2016, "Learning Deep Networks from Noisy Labels with Dropout Regularization", drop weights of the noise
model).

Differences, all deliberate: W begins at s I with s = log((1 - p)(K - 1) / p), p = `first_flips`, so that its softmax
says just that share of flips for any number of classes; the paper does not say where it begins. Its decay is its own:
`layer_decay` at a learning rate of .1 was found on digits, some 1,500 steps; on other data rate x decay is what it was
there for each of up to 1,500 steps, and in longer runs less, so that rate x decay x steps stays the same (steps at a
lower rate count less). With K classes it is 10 / K of that, as each column of W learns from one K-th of the rows. The
linear layer has no decay, but a cost on the mean of T's diagonal, the trace whatever K is.

Findings: `score_from=trajectory` (default) judges the averaged predictions q as those of every method
(docs/estimation.md). `method`, as in the paper preset, takes the posterior of the trained network's q by counted
transitions, r_j proportional to q_j T[j, given] with T[j, i] = sum q_j over the rows given i / sum q_j over all, noise
1 - r of the given label. `summary.json` has both matrices under diagnostics, whatever the score: `counted_transition`
is T, `layer_transition` the softmax of W's columns (equation 4), which is no probability, as the paper says, and
further from the truth.

Presets: `fast`, 40 epochs for a CPU; `fast-linear`, the same with the linear layer from 5 % of flips; `paper`, for
`--backbone cifar-net`: the schedule that MatConvNet has for CIFAR-10, .05 for 30 epochs, .005 for 10, .0005 for 5, in
batches of 100, with its rates by layer (`layer_rates=matconvnet`): kernels learn at a tenth of the schedule, biases at
twice it, the head at a tenth of either, W at the schedule itself. It mirrors images and whitens them; here they are
shifted too, and normalised. Rows of its table 1: `paper-regu` (Regu. NNAQC), `paper-trace` and `paper-dropout`, the
linear layer alone with its trace held down or with dropout; the shares dropped (.1) and the flips that the linear layer
starts from (5 %) are ours. `paper-trace` with `transition=...` has the matrix that is known (Genie-aided), with
`alpha=0.9` quasi-clustering too; `alpha=0` is its bootstrapping, with `beta=1` its base model. Schedules for CIFAR-100
(resnet44), ImageNet and Clothing1M the paper does not state. With
`--encoder`, `fast` is `fast-head` (20 epochs of a head) or, where the encoder is trained too, `fast-tune` (6).

How `fast` was found, seed 0. On the first 5,000 photographs of CIFAR-10 `layer_decay` of .001 and .003 do alike:
symmetric noise of .4, average precision .887 and .887, .685 and .682 of the network's classes right. At .03, best on
digits, the network ended at .530 of the true labels on 3,000 photographs with human labels (.825 right), average
precision .568, and corrections made .739 of it. `score_from=method` there: .856 for the .887. On
digits (all 1,797; average precision / labels right after corrections / network) with symmetric-exclusive noise of .4:
.999 / .900 / .909 at .003, 1.000 / .941 / .948 at .03, plain cross-entropy .997 / .752 / .840; pair noise of .3: 1.000
/ .941 / .933, 1.000 / .921 / .905, .994 / .873 / .799; clean: no label changed. Rows of `layer_transition` are off by
.10 and .38 in all (.79 and 1.29 at .03), of `counted_transition` by .09 and .16. Dropout of .1 changes no figure by
more than seeds do.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from pydantic import model_validator
from torch import nn

from labelfix.errors import InputError
from labelfix.estimation.evidence import PAPER_RULE, Evidence, Fit, others_mass, transition_matrix
from labelfix.estimation.noise_model import normalised
from labelfix.methods.base import MethodSettings, Phase, TrainState, setting
from labelfix.methods.batch import Batch, Labels
from labelfix.methods.layer_rates import LayerRates, groups_by_rate, layer_rates
from labelfix.methods.losses import mix, soft_cross_entropy
from labelfix.methods.own_model import OwnModel, OwnModelSettings
from labelfix.methods.schedules import step_decay

_PAPER = "Jindal et al. 2019"


class Settings(OwnModelSettings):
    """Settings of NNAQC; the defaults are those of the fast preset."""

    train_epochs: int = setting(
        40, "epochs of training", source="those of bmm; 45 in MatConvNet's example", ge=1
    )
    alpha: float = setting(
        0.9,
        "weight of the noise-aware loss; the quasi-clustering loss has the rest",
        source=f"{_PAPER}, 4.1",
        ge=0,
        le=1,
    )
    beta: float = setting(
        0.9,
        "weight of the side that `qc_weight_on` names; the other has the rest",
        source=f"{_PAPER}, 4.1",
        ge=0,
        le=1,
    )
    qc_weight_on: Literal["label", "prediction"] = setting(
        "label",
        "side of quasi-clustering that beta weighs; prediction as printed, which collapses at low alpha",
        source=f"ours, measured, and by {_PAPER}, table 5; prediction by its 3.1",
    )
    noise_layer: Literal["nonlinear", "linear"] = setting(
        "nonlinear",
        "what makes noisy from clean probabilities: a softmax of W q, or for contrast the mean of W's softmax rows",
        source=f"{_PAPER}, equation 3; linear by its equation 5 and table 1, Trace",
    )
    first_flips: float = setting(
        5e-4,
        "share of wrong labels that the noise layer starts from",
        source="ours; the paper does not say",
        gt=0,
        lt=0.5,
    )
    layer_decay: float = setting(
        0.003,
        "L2 penalty of the nonlinear layer at a learning rate of 0.1, with 10 classes and up to 1,500 steps",
        source="ours, measured; the paper does not say",
        ge=0,
    )
    transition: tuple[float, ...] = setting(
        (),
        "the matrix of the linear layer where it is known, from true to given class, row by row: it is not learned",
        source=f"{_PAPER}, table 1, Genie-aided",
    )
    trace: float = setting(
        1.0,
        "weight of the mean diagonal of the linear layer, which is pulled down",
        source=f"ours, measured on digits; a cost on the trace in {_PAPER}, 2",
        ge=0,
    )
    dropout: float = setting(
        0.0,
        "share of the noise layer's outputs that are dropped in training; of the linear layer, of the entries of W",
        source=f"{_PAPER}, 4.1, without and with (Regu. NNAQC); the share is not stated",
        ge=0,
        lt=1,
    )
    layer_rates: LayerRates = layer_rates()
    phase_epochs: ClassVar[tuple[str, ...]] = ("train_epochs",)

    @model_validator(mode="after")
    def _check_transition(self) -> Self:
        if self.transition and self.noise_layer != "linear":
            raise InputError(
                "--set transition: a known matrix is for the linear layer; add noise_layer=linear"
            )
        return self


def presets() -> dict[str, MethodSettings]:
    """`fast` for a CPU, its contrast with a linear layer, and MatConvNet's schedule for CIFAR-10 (4.1)."""
    paper = Settings(
        batch_size=100,
        train_epochs=45,
        milestones=(30, 40),
        average_from=5,
        average_until=30,
        layer_rates="matconvnet",
        score_from="method",
    )
    linear = {"noise_layer": "linear", "alpha": 1.0, "first_flips": 0.05}
    return {
        "fast": Settings(),
        **Settings().pretrained(),
        "paper": paper,
        "paper-regu": paper.changed({"dropout": 0.1}),
        "paper-trace": paper.changed(linear),
        "paper-dropout": paper.changed({**linear, "trace": 0.0, "dropout": 0.1}),
        "fast-linear": Settings(noise_layer="linear", first_flips=0.05),
    }


# What the decay of the layer was found with: digits, ten classes; the steps are those of 100 epochs in batches of 100.
_GRID_RATE = 0.1
_GRID_CLASSES = 10
_GRID_STEPS = 1_500
_TINY = 1e-12


class NNAQC(OwnModel):
    """A noise layer behind the softmax of the network, learned with it, and a loss that draws images to classes.

    `layer` is W (K, K): its column j holds the logits of the labels that images of class j are given. It belongs to the
    method, so the network that predicts, and that the classifier keeps, knows nothing of it.
    """

    settings: Settings
    settings_type: ClassVar[type[MethodSettings]] = Settings

    def __init__(self, network: nn.Module, labels: Labels, settings: Settings) -> None:
        super().__init__(network, labels, settings)
        flips, device = settings.first_flips, labels.given.device
        scale = log((1 - flips) * (labels.num_classes - 1) / flips)
        first = scale * torch.eye(labels.num_classes, device=device)
        if settings.transition:
            known = torch.from_numpy(known_transition(settings.transition, labels.num_classes))
            first = known.clamp_min(_TINY).log().T.float().contiguous().to(device)
        self.layer = nn.Parameter(first, requires_grad=not settings.transition)

    @classmethod
    def presets(cls) -> dict[str, MethodSettings]:
        """`fast` for a CPU, `paper` for CIFAR-10."""
        return presets()

    def phases(self) -> tuple[Phase, ...]:
        """One phase, end to end."""
        return (Phase("train", self.settings.train_epochs, forward_units=3),)

    def param_groups(self) -> list[dict[str, Any]]:
        """The network, by its rates, and the layer with a decay of its own and the whole rate."""
        return [
            *groups_by_rate(self, self.settings.layer_rates),
            *(
                []
                if self.settings.transition
                else [{"params": [self.layer], "weight_decay": self._layer_decay()}]
            ),
        ]

    def _layer_decay(self) -> float:
        """`layer_decay` by what it was found with: as much a step at any learning rate, and never more in all.

        A column of W sees only the rows of its class, so its gradient falls as there are more classes: the decay too.
        """
        settings = self.settings
        if settings.noise_layer == "linear" or settings.learning_rate == 0:
            return 0.0  # the trace is held down instead
        epochs = range(settings.epochs)
        full = sum(step_decay(epoch, 1.0, settings.milestones, settings.decay) for epoch in epochs)
        if settings.schedule == "cosine":
            full /= 2  # the mean of what it leaves of the rate
        steps = full * ceil(int((self.given >= 0).sum()) / settings.batch_size)
        scale = _GRID_RATE / settings.learning_rate * _GRID_CLASSES / self.labels.num_classes
        return settings.layer_decay * scale * min(_GRID_STEPS / max(steps, 1), 1.0)

    def loss(self, when: TrainState, batch: Batch) -> dict[str, torch.Tensor]:
        """Equation 6, and what the trace of the linear layer costs; gradients go through both q's of L_QC."""
        settings, given = self.settings, self.given[batch.rows]
        logits = self.network(batch.views[0]).float()
        self.remember(when, batch.rows, logits)
        probs = logits.softmax(dim=1)
        one_hot = F.one_hot(given, self.labels.num_classes).to(probs)
        own_share = settings.beta if settings.qc_weight_on == "prediction" else 1 - settings.beta
        clustering = soft_cross_entropy(logits, mix(probs, one_hot, own_share))
        parts = {
            "noise_aware": settings.alpha * F.nll_loss(self.noisy_log_probs(probs), given),
            "clustering": (1 - settings.alpha) * clustering,
        }
        if settings.noise_layer == "linear":
            parts["trace"] = settings.trace * self.layer_transition().diagonal().mean()
        return parts

    def noisy_log_probs(self, probs: torch.Tensor) -> torch.Tensor:
        """Log probability (B, K) of every given label, from those of the true classes (B, K): equation 3, or 5."""
        with torch.autocast(probs.device.type, enabled=False):  # K x K numbers: there is no time to win
            if self.settings.noise_layer == "linear":
                # Its outputs are probabilities: a label whose own is dropped would be impossible.
                transition = _rows_of(self._dropped(self.layer))
                return (probs @ transition).clamp_min(_TINY).log()
            return F.log_softmax(self._dropped(F.linear(probs, self.layer)), dim=1)

    def _dropped(self, values: torch.Tensor) -> torch.Tensor:
        return F.dropout(values, self.settings.dropout, self.training)

    def layer_transition(self) -> torch.Tensor:
        """Equation 4, (K, K): row j is the softmax of W's column j, given labels of true class j."""
        return _rows_of(self.layer)

    def diagnostics(self, logits: torch.Tensor) -> dict[str, Any]:
        """Both transition matrices, whichever findings are taken."""
        counted, _, _ = self._counted(logits)
        layer = self.layer_transition().detach().cpu().double().numpy()
        return {
            "counted_transition": counted.round(6).tolist(),
            "layer_transition": layer.round(6).tolist(),
        }

    def own_evidence(self, logits: torch.Tensor) -> Evidence:
        """r_j proportional to q_j T[j, given], noise 1 - r of the given label, T counted."""
        transition, clean, rows = self._counted(logits)
        given = self.given.cpu().numpy()[rows]
        beliefs = normalised(np.maximum(clean * transition[:, given].T, _TINY))
        noise = others_mass(beliefs, given)
        return Evidence.of_rows(beliefs, noise, rows, len(logits), Fit(), {}, PAPER_RULE)

    def _counted(self, logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transitions (K, K) of the R labelled rows with a prediction, these predictions (R, K), and the rows (R,)."""
        given, clean = self.given.cpu().numpy(), logits.double().softmax(dim=1).numpy()
        rows = np.flatnonzero((given >= 0) & np.isfinite(clean).all(axis=1))
        return transition_matrix(clean[rows], given[rows]), clean[rows], rows


def known_transition(numbers: Sequence[float], num_classes: int) -> np.ndarray:
    """(K, K) float64 from true (row) to given class.

    Args:
        numbers: K x K of them, row by row.
        num_classes: K.

    Raises:
        InputError: another count, or rows that are no probabilities.
    """
    if len(numbers) != num_classes**2:
        raise InputError(
            f"--set transition has {len(numbers)} numbers; {num_classes} classes need {num_classes} rows of"
            f" {num_classes}"
        )
    matrix = np.array(numbers).reshape(num_classes, num_classes)
    if (matrix < 0).any() or not np.allclose(matrix.sum(axis=1), 1, atol=1e-3):
        raise InputError(
            "--set transition: every row has to hold shares of 0 and more that sum to 1, within .001"
        )
    return matrix / matrix.sum(axis=1, keepdims=True)


def _rows_of(layer: torch.Tensor) -> torch.Tensor:
    """Rows (K, K) that sum to 1, the softmax of the columns of a layer (K, K)."""
    return layer.softmax(dim=0).T

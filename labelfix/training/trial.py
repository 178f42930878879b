"""Whether images want the pretrained encoder: a trial on some of them, before a scan decides what to train.

A network that is trained from nothing on a few thousand images learns what their pixels say nearly directly: shapes of
one kind of thing in one pose. A pretrained encoder knows things wherever they stand. So two machines that take seconds
tell the given labels of images that they have not seen: one from 16 x 16 pixels, one from the encoder's features. Where
pixels tell nearly as much, the network from nothing will tell more; where they do not, it has too few images to learn
from. Accuracies of two short trainings would mislead: what is trained from nothing is slow to show what it can.

Where an image may have several labels, the machines tell of two images which one has a label.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import bdtrc
from torch.nn.functional import adaptive_avg_pool2d

from labelfix.data.images.store import ImageStore
from labelfix.data.manifest import Manifest
from labelfix.devices import resolve_precision
from labelfix.networks.encoders import LITE0, encoder_facts, pretrained_encoder
from labelfix.networks.heads import FrozenEncoder
from labelfix.training.augmentation import Augmentation
from labelfix.training.batches import seed_of
from labelfix.training.features import PLAIN, open_features

_TRIAL_SEED = 8
_ROWS = 500
_MOST_CLASSES = 50
_MOST_QUESTIONS = 10  # classes of which pairs are made, where rows have several labels
_FOLDS = 5
_PIXELS = 16  # side of the images that pixels are taken of
# Of what the encoder tells beyond the commonest class. Pixels tell .86 to 1.06 of it of Fashion-MNIST and digits, up to
# .50 of CIFAR-10 and of clothes, with clean labels and with noise: without any one of these four sets, any boundary
# between the others decides alike (tests/benchmarks/estimation/encoder_trial.py).
_NEARLY = 0.75
_BY_CHANCE = 0.05


@dataclass(frozen=True)
class Trial:
    """What the given labels of some rows could be told from, by machines that had not seen the row.

    Attributes:
        rows: how many.
        commonest: share of them in the commonest class; of pairs a half.
        from_pixels: share of them told from pixels.
        from_encoder: share of them told from the encoder's features.
        is_chance: whether a difference as large may well be chance.
        is_of_pairs: whether what is told is which of two rows has a label, as of rows that may have several.
    """

    rows: int
    commonest: float
    from_pixels: float
    from_encoder: float
    is_chance: bool
    is_of_pairs: bool = False

    @property
    def encoder(self) -> str:
        """The encoder to take, or "none"."""
        seen, by_pixels = self.from_encoder - self.commonest, self.from_pixels - self.commonest
        return LITE0 if not self.is_chance and by_pixels < _NEARLY * seen else "none"

    @property
    def reason(self) -> str:
        """In plain words."""
        some = (
            f"of pairs of {self.rows} images, one with a label,"
            if self.is_of_pairs
            else f"of {self.rows} labels"
        )
        told = (
            f"{some} {self.from_encoder:.0%} are told through the pretrained encoder and "
            f"{self.from_pixels:.0%} from pixels alone"
        )
        if self.encoder == "none":
            return f"{told}: a network of their own suits these images (--encoder {LITE0} takes the other)"
        return f"{told}: these images want the encoder (--encoder none takes the other)"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**{name: _plain(value) for name, value in vars(self).items()}, "encoder": self.encoder}


def try_encoder(
    manifest: Manifest,
    image_size: int | None,
    device: str,
    seed: int,
    on_progress: Callable[[str, int, int], None],
) -> Trial | None:
    """See how much of the given labels of some rows the embedded encoder tells, and how much their pixels.

    Args:
        manifest: the rows; with images.
        image_size: side in pixels at which the encoder sees them; None for its own.
        device: of the encoder.
        seed: of the choice of rows.
        on_progress: called with (what, rows done, rows in all) now and then.

    Returns:
        None where too few rows of two classes can be read.

    Raises:
        InputError: the cache cannot be written, or has no room.
    """
    rows = _sample(manifest.given, manifest.held_out, seed)
    if not len(rows):
        return None
    size = image_size or encoder_facts(LITE0).image_size
    taken = manifest.taken(rows)
    store = ImageStore.open_or_build(
        taken, size, on_progress=lambda done, total: on_progress("decode some", done, total)
    )
    used = np.flatnonzero(store.valid)
    if manifest.targets is None:
        used = used[_has_enough(taken.given[used])]
    asked = _questions(manifest, rows[used], seed)
    if not asked:
        return None
    seen = _encoded(store, size, torch.device(device), lambda done, total: on_progress("try", done, total))
    by_pixels = _told(asked, _pixels(store, used), is_linear=False)
    by_encoder = _told(asked, seen[used], is_linear=True)
    differ = int((by_pixels != by_encoder).sum())
    ahead = int((by_encoder & ~by_pixels).sum())
    is_of_pairs = manifest.targets is not None
    return Trial(
        rows=len(used),
        commonest=0.5 if is_of_pairs else float(np.bincount(taken.given[used]).max() / len(used)),
        from_pixels=float(by_pixels.mean()),
        from_encoder=float(by_encoder.mean()),
        # McNemar 1947: where two differ, either is right as often by chance.
        is_chance=bool(bdtrc(ahead - 1, differ, 0.5) > _BY_CHANCE) if differ else True,
        is_of_pairs=is_of_pairs,
    )


@dataclass(frozen=True)
class _Question:
    """What machines are asked of n rows.

    Attributes:
        labels: (n,) to tell.
        splits: rows that a machine is shown, and rows that it is asked of, for each fold.
        pairs: (m, 2) int64, rows of which the first has the label and the second has not; None to tell the labels.
    """

    labels: np.ndarray
    splits: list[tuple[np.ndarray, np.ndarray]]
    pairs: np.ndarray | None = None


def _questions(manifest: Manifest, rows: np.ndarray, seed: int) -> list[_Question]:
    """What is asked of some rows; nothing where machines could not be shown rows with a label and without it."""
    groups = None if manifest.groups is None else manifest.groups[rows]
    if manifest.targets is None:
        splits = _splits(manifest.given[rows], groups)
        return [_Question(manifest.given[rows], splits)] if splits else []
    rng = np.random.default_rng(seed_of(seed, _TRIAL_SEED, 1))
    has = manifest.targets[rows] >= 0.5
    fewer = np.minimum(has.sum(axis=0), (~has).sum(axis=0))
    found = []
    for k in np.argsort(-fewer, kind="stable")[:_MOST_QUESTIONS]:
        splits = _splits(has[:, k], groups) if fewer[k] >= _FOLDS else []
        if splits:
            states = np.flatnonzero(has[:, k]), np.flatnonzero(~has[:, k])
            pairs = [rng.permutation(some)[: fewer[k]] for some in states]
            found.append(_Question(has[:, k], splits, np.stack(pairs, axis=1)))
    return found


def _splits(labels: np.ndarray, groups: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of rows, those of a group in one; none where a part to learn from would hold one label only."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    count = _FOLDS if groups is None else min(_FOLDS, len(np.unique(groups)))
    if count < 2 or len(np.unique(labels)) < 2:
        return []
    folds = StratifiedKFold(count) if groups is None else StratifiedGroupKFold(count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # groups may leave a fold without a class
        splits = list(folds.split(labels, labels, groups))
    return splits if all(len(np.unique(labels[shown])) > 1 for shown, _ in splits) else []


def _sample(given: np.ndarray, held_out: np.ndarray, seed: int) -> np.ndarray:
    """Rows (n,) int64, ascending, of at most so many classes that have enough of them."""
    # A seed of its own: noise may have been planted by the same number, and rows must not be drawn as it was.
    rng = np.random.default_rng(seed_of(seed, _TRIAL_SEED))
    labelled = np.where(held_out, -1, given)
    classes = np.flatnonzero(np.bincount(labelled[labelled >= 0], minlength=1) >= _FOLDS)
    classes = rng.permutation(classes)[:_MOST_CLASSES]
    rows = np.flatnonzero(np.isin(labelled, classes))
    return np.sort(rng.permutation(rows)[:_ROWS])


def _has_enough(labels: np.ndarray) -> np.ndarray:
    """(n,) bool: rows whose class has one for each fold."""
    return np.bincount(labels, minlength=1)[labels] >= _FOLDS


def _encoded(
    store: ImageStore, size: int, device: torch.device, on_progress: Callable[[int, int], None]
) -> np.ndarray:
    """(n, D) float64 features of the encoder."""
    encoder = FrozenEncoder(pretrained_encoder(LITE0, size)).eval().requires_grad_(False)
    encoder = encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    facts = encoder_facts(LITE0)
    images = Augmentation(size, facts.mean, facts.std, flip=False, device=device)
    precision = torch.bfloat16 if resolve_precision("auto", str(device), LITE0) == "bf16" else torch.float32
    features = open_features(store, encoder, images, (PLAIN,), device, precision, on_progress)
    return features[:, 0].astype(np.float64)


def _pixels(store: ImageStore, rows: np.ndarray) -> np.ndarray:
    """(n, 3 * 16 * 16) float64."""
    small = adaptive_avg_pool2d(torch.from_numpy(store.images[rows]).float(), _PIXELS)
    return small.flatten(1).double().numpy()


def _told(asked: list[_Question], numbers: np.ndarray, *, is_linear: bool) -> np.ndarray:
    """(M,) bool: answers that are right, of a machine that was not shown the rows, nor any of their groups.

    Args:
        asked: of n rows.
        numbers: (n, D) by which they are told.
        is_linear: whether the machine is.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.003, max_iter=200) if is_linear else SVC(C=5)
    )
    told = []
    for question in asked:
        says = "predict" if question.pairs is None else "decision_function"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit need not converge
            said = cross_val_predict(machine, numbers, question.labels, cv=question.splits, method=says)
        pairs = question.pairs
        told.append(said == question.labels if pairs is None else said[pairs[:, 0]] > said[pairs[:, 1]])
    return np.concatenate(told)


def _plain(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value

"""Which of two swapped classes is mislabelled as the other, where the network has learned the swap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from labelfix.estimation.directions import directed


def _learned(rng: np.random.Generator, transition: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (R, K) of a network that is calibrated on the wrong labels as well, and these labels (R,)."""
    num_classes = len(transition)
    true = rng.integers(num_classes, size=rows)
    beliefs = softmax(rng.normal(size=(rows, num_classes)) + 4 * np.eye(num_classes)[true], axis=1)
    true = np.array([rng.choice(num_classes, p=each) for each in beliefs])
    given = np.array([rng.choice(num_classes, p=each) for each in transition[true]])
    return beliefs @ transition, given


def _swapped(one_way: float, other_way: float) -> np.ndarray:
    """T of six classes, of which two are swapped."""
    transition = np.full((6, 6), 0.002)
    transition[1, 4], transition[4, 1] = one_way, other_way
    np.fill_diagonal(transition, 0)
    np.fill_diagonal(transition, 1 - transition.sum(axis=1))
    return transition


@pytest.mark.parametrize(("one_way", "other_way"), [(0.4, 0.002), (0.002, 0.4), (0.3, 0.1)])
@pytest.mark.parametrize("seed", range(3))
def test_the_way_of_a_swap_is_found(one_way, other_way, seed):
    truth = _swapped(one_way, other_way)
    seen, given = _learned(np.random.default_rng(seed), truth, 1500)
    counted = _swapped((one_way + other_way) / 2, (one_way + other_way) / 2)
    found = directed(counted, seen, given, 1.0, np.zeros(6))
    share = found[1, 4] / (found[1, 4] + found[4, 1])
    assert share == pytest.approx(one_way / (one_way + other_way), abs=0.2)
    assert found[1, 4] + found[4, 1] == pytest.approx(one_way + other_way, abs=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_where_nothing_is_swapped_all_stays():
    transition = np.full((4, 4), 0.02)
    np.fill_diagonal(transition, 0.94)
    seen, given = _learned(np.random.default_rng(0), transition, 400)
    np.testing.assert_array_equal(directed(transition, seen, given, 1.0, np.zeros(4)), transition)


def test_classes_in_another_order_are_found_alike():
    seen, given = _learned(np.random.default_rng(1), _swapped(0.4, 0.002), 800)
    counted = _swapped(0.2, 0.2)
    order = np.array([3, 4, 0, 5, 1, 2])
    place = np.argsort(order)
    found = directed(counted, seen, given, 1.0, np.zeros(6))
    other = directed(counted[np.ix_(order, order)], seen[:, order], place[given], 1.0, np.zeros(6))
    np.testing.assert_allclose(other[np.ix_(place, place)], found, atol=0.02)

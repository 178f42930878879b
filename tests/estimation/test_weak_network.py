"""Whether a network may move labels, told from its averaged predictions."""

import numpy as np
import pytest

from labelfix.estimation.weak_network import network_is_weak


def predictions(labels, sure=0.9, num_classes=10):
    """(N, K) of a network that says these labels, each as surely."""
    probs = np.full((len(labels), num_classes), (1 - sure) / (num_classes - 1))
    probs[np.arange(len(labels)), labels] = sure
    return probs


@pytest.fixture
def given():
    return np.arange(1_000) % 10


def test_a_network_that_tells_the_labels_is_not_weak(given):
    assert not network_is_weak(predictions(given), given)


def test_a_network_that_is_sure_of_nothing_is_weak(given):
    assert network_is_weak(predictions(given, sure=0.15), given)


def test_no_rows_tell_nothing(given):
    assert network_is_weak(predictions(given), np.full(1_000, -1))


def test_a_class_that_no_row_is_taken_for_is_not_learned_yet(given):
    seen = np.where(given == 3, 5, given)

    assert network_is_weak(predictions(seen), given)
    seen[given == 3] = np.where(np.arange(100) < 5, 3, 5)  # the wrong labels of a class may be many
    assert not network_is_weak(predictions(seen), given)


def test_a_class_of_few_rows_keeps_no_label_of_others(given):
    few = (given != 3) | (np.arange(1_000) < 150)  # 15 rows of class 3
    seen = np.where(given == 3, 5, given)

    assert not network_is_weak(predictions(seen)[few], given[few])

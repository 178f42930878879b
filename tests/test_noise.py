"""Planted noise: exact counts, the promised zeros, and nothing that depends on how classes are numbered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfix.errors import InputError
from labelfix.noise import CIFAR10_PAIRS, KINDS, NoiseSpec, parse_noise, plant, realised_transition

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ROUND_KINDS = ("symmetric", "symmetric-exclusive", "pair")

labels_of_four = st.lists(st.integers(-1, 3), max_size=60).map(lambda labels: np.array(labels, np.int64))
rates = st.floats(0, 1)
seeds = st.integers(0, 2**32)


def draw(count, num_classes, seed=0):
    return np.random.default_rng(seed).integers(0, num_classes, count)


def names_of(num_classes):
    return [f"class {label}" for label in range(num_classes)]


class TestParse:
    @pytest.mark.parametrize("kind", KINDS)
    def test_kind_and_rate(self, kind):
        assert parse_noise(f"{kind}:0.4") == NoiseSpec(kind, 0.4)
        assert str(parse_noise(f"{kind}:0.4")) == f"{kind}:0.4"

    @pytest.mark.parametrize("rate", ["0", "1", "1e-3", ".5"])
    def test_the_ends_are_rates(self, rate):
        assert parse_noise(f"pair:{rate}").rate == float(rate)

    @pytest.mark.parametrize("rate", ["", "-0.1", "1.1", "nan", "inf", "half", "0.4:0.5", "40%"])
    def test_no_rate(self, rate):
        with pytest.raises(InputError, match=r"--noise pair:.*from 0 to 1"):
            parse_noise(f"pair:{rate}")

    @pytest.mark.parametrize("text", ["", "sym:0.4", "0.4", "Symmetric:0.4"])
    def test_unknown_kind_names_the_known(self, text):
        with pytest.raises(InputError, match=f"--noise .*unknown kind.*{', '.join(KINDS)}"):
            parse_noise(text)


class TestCounts:
    @pytest.mark.parametrize("rate", [0.0, 0.13, 0.4, 1.0])
    def test_symmetric_exclusive_hits_its_rate_exactly(self, rate):
        labels = draw(997, 7)
        noisy = plant(labels, names_of(7), NoiseSpec("symmetric-exclusive", rate), 0)
        assert (noisy != labels).sum() == round(rate * 997)
        assert noisy.min() >= 0
        assert noisy.max() < 7

    def test_symmetric_redraws_over_all_classes(self):
        labels = draw(40_000, 4)
        noisy = plant(labels, names_of(4), NoiseSpec("symmetric", 0.5), 3)
        transition = realised_transition(labels, noisy, 4)
        # Half of the rows are redrawn, a quarter of those get the label they had.
        np.testing.assert_allclose(transition, 0.125 + 0.5 * np.eye(4), atol=0.02)

    def test_symmetric_at_one_is_uniform(self):
        labels = np.zeros(30_000, np.int64)
        noisy = plant(labels, names_of(3), NoiseSpec("symmetric", 1.0), 0)
        np.testing.assert_allclose(np.bincount(noisy) / len(noisy), 1 / 3, atol=0.02)

    @pytest.mark.parametrize("kind", ["symmetric-exclusive", "pair"])
    def test_nothing_stays_at_rate_one(self, kind):
        labels = draw(500, 5)
        noisy = plant(labels, names_of(5), NoiseSpec(kind, 1.0), 0)
        assert (np.diag(realised_transition(labels, noisy, 5)) == 0).all()

    def test_pair_is_exact_in_each_class(self):
        labels = np.repeat([0, 1, 2], [10, 25, 41])
        noisy = plant(labels, names_of(3), NoiseSpec("pair", 0.3), 0)
        for label, count in enumerate([10, 25, 41]):
            of_class = noisy[labels == label]
            assert (of_class == (label + 1) % 3).sum() == round(0.3 * count)
            assert (of_class == label).sum() == count - round(0.3 * count)

    def test_asymmetric_is_the_cifar10_pairs(self):
        labels = np.repeat(np.arange(10), 50)
        noisy = plant(labels, CIFAR10, NoiseSpec("asymmetric", 0.4), 0)
        expected = np.eye(10)
        for source, target in CIFAR10_PAIRS.items():
            row, column = CIFAR10.index(source), CIFAR10.index(target)
            expected[row, row], expected[row, column] = 0.6, 0.4
        np.testing.assert_allclose(realised_transition(labels, noisy, 10), expected)
        assert set(CIFAR10_PAIRS) == {"truck", "bird", "deer", "cat", "dog"}

    def test_unlabelled_rows_stay_and_do_not_count(self):
        labels = draw(100, 4)
        labels[::2] = -1
        noisy = plant(labels, names_of(4), NoiseSpec("symmetric-exclusive", 0.5), 0)
        assert (noisy[::2] == -1).all()
        assert (noisy != labels).sum() == 25

    def test_the_labels_given_are_not_touched(self):
        labels = draw(50, 4)
        before = labels.copy()
        labels.flags.writeable = False
        for kind in ROUND_KINDS:
            plant(labels, names_of(4), NoiseSpec(kind, 0.0), 0)[:] = 0
        np.testing.assert_array_equal(labels, before)


class TestRefused:
    def test_asymmetric_on_other_classes_names_pair(self):
        with pytest.raises(InputError, match=r"--noise asymmetric:0\.4.*pair:0\.4"):
            plant(draw(20, 4), names_of(4), NoiseSpec("asymmetric", 0.4), 0)

    def test_asymmetric_on_nine_of_the_ten(self):
        with pytest.raises(InputError, match="pair"):
            plant(draw(20, 9), CIFAR10[:9], NoiseSpec("asymmetric", 0.4), 0)

    def test_one_class(self):
        with pytest.raises(InputError, match="two classes, there are 1"):
            plant(np.zeros(5, np.int64), ["a"], NoiseSpec("symmetric", 0.4), 0)

    def test_negative_seed(self):
        with pytest.raises(InputError, match="--seed -1"):
            plant(draw(5, 2), ["a", "b"], NoiseSpec("symmetric", 0.4), -1)


class TestProperties:
    @given(labels_of_four, st.sampled_from(ROUND_KINDS), rates, seeds)
    def test_same_seed_same_labels(self, labels, kind, rate, seed):
        first, second = (plant(labels, names_of(4), NoiseSpec(kind, rate), seed) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert ((first == -1) == (labels == -1)).all()

    @pytest.mark.parametrize("kind", ROUND_KINDS)
    def test_another_seed_draws_other_rows(self, kind):
        labels = draw(200, 4)
        first, second = (plant(labels, names_of(4), NoiseSpec(kind, 0.5), seed) for seed in (0, 1))
        assert (first != second).any()

    @given(labels_of_four, st.sampled_from(ROUND_KINDS), rates, seeds, st.integers(0, 3))
    def test_rotating_the_classes_rotates_the_noise(self, labels, kind, rate, seed, turn):
        turned = np.where(labels >= 0, (labels + turn) % 4, -1)
        noisy = plant(labels, names_of(4), NoiseSpec(kind, rate), seed)
        expected = np.where(noisy >= 0, (noisy + turn) % 4, -1)
        np.testing.assert_array_equal(plant(turned, names_of(4), NoiseSpec(kind, rate), seed), expected)

    @given(st.lists(st.integers(0, 9), max_size=80), rates, seeds, st.permutations(range(10)))
    def test_permuting_the_class_names_permutes_asymmetric_noise(self, drawn, rate, seed, order):
        labels = np.array(drawn, np.int64)
        noise = NoiseSpec("asymmetric", rate)
        place = np.argsort(order)
        names = [CIFAR10[label] for label in order]
        noisy = plant(labels, CIFAR10, noise, seed)
        np.testing.assert_array_equal(plant(place[labels], names, noise, seed), place[noisy])

    @given(
        labels_of_four,
        st.sampled_from(["symmetric-exclusive", "pair"]),
        rates,
        seeds,
        st.permutations(range(4)),
    )
    def test_which_rows_are_hit_does_not_depend_on_class_numbers(self, labels, kind, rate, seed, order):
        permuted = np.array([*order, -1])[labels]
        hit = plant(labels, names_of(4), NoiseSpec(kind, rate), seed) != labels
        np.testing.assert_array_equal(
            plant(permuted, names_of(4), NoiseSpec(kind, rate), seed) != permuted, hit
        )

    @given(labels_of_four, st.integers(0, 2**32))
    def test_transition_rows_sum_to_one(self, labels, seed):
        noisy = plant(labels, names_of(4), NoiseSpec("symmetric", 0.5), seed)
        transition = realised_transition(labels, noisy, 4)
        np.testing.assert_allclose(transition.sum(axis=1), 1)
        empty = np.bincount(labels[labels >= 0], minlength=4) == 0
        np.testing.assert_array_equal(transition[empty], np.eye(4)[empty])


def test_transition_by_hand():
    true = np.array([0, 0, 0, 0, 1, 1, -1, 0])
    noisy = np.array([0, 0, 0, 1, 1, 0, 1, -1])
    expected = [[0.75, 0.25, 0], [0.5, 0.5, 0], [0, 0, 1]]
    np.testing.assert_array_equal(realised_transition(true, noisy, 3), expected)

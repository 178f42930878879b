"""Planted noise: rates and exact counts, the promised zeros, and nothing that depends on how classes are numbered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from labelfix.errors import InputError
from labelfix.noise.planting import (
    CIFAR10_PAIRS,
    DRAWN_KINDS,
    KINDS,
    NoiseSpec,
    flip_rates,
    parse_noise,
    plant,
    realised_transition,
    share_of_classes,
    simplex_shares,
)

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ROUND_KINDS = ("symmetric", "symmetric-exclusive", "pair")
ANY_CLASSES = (*ROUND_KINDS, "simplex")
RATED = [kind for kind in KINDS if kind != "confusion"]

labels_of_four = st.lists(st.integers(-1, 3), max_size=60).map(lambda labels: np.array(labels, np.int64))
rates = st.floats(0, 1)
seeds = st.integers(0, 2**32)


def draw(count, num_classes, seed=0):
    return np.random.default_rng(seed).integers(0, num_classes, count)


def names_of(num_classes):
    return [f"class {label}" for label in range(num_classes)]


def file_noise(kind, *, is_exact=False):
    return NoiseSpec(kind, file="asked.csv", is_exact=is_exact)


def exact(kind, rate):
    return NoiseSpec(kind, rate, is_exact=True)


def random_matrix(num_classes, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(num_classes), num_classes)


class TestParse:
    @pytest.mark.parametrize(
        ("text", "spec"),
        [
            *((f"{kind}:0.4", NoiseSpec(kind, 0.4)) for kind in RATED),
            *((f"pair:{rate}", NoiseSpec("pair", float(rate))) for rate in ("0", "1", "1e-3", ".5")),
            *((f"{kind}:a folder/0:1.CSV", NoiseSpec(kind, file="a folder/0:1.CSV"))
              for kind in (*ROUND_KINDS, "confusion")),
            ("confusion:0.4", NoiseSpec("confusion", file="0.4")),  # a matrix may have any name
            ("confusion:exact", NoiseSpec("confusion", file="exact")),
            *((f"{kind}:0.4:exact", exact(kind, 0.4)) for kind in RATED if kind in DRAWN_KINDS),
            *((f"{kind}:a.csv:exact", NoiseSpec(kind, file="a.csv", is_exact=True))
              for kind in (*ROUND_KINDS, "confusion")),
        ],
    )  # fmt: skip
    def test_a_kind_and_its_rate_or_file(self, text, spec):
        assert parse_noise(text) == spec
        assert parse_noise(str(spec)) == spec

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            *((f"pair:{rate}", r"--noise pair:.*from 0 to 1")
              for rate in ("", "-0.1", "1.1", "nan", "inf", "half", "0.4:0.5", "40%")),
            # A share to train on is neither none nor all.
            *((f"semantic:{share}", r"--noise semantic:.*between 0 and 1, as in semantic:0.2$")
              for share in ("0", "1", "1.5", "nan", "", "rates.csv")),
            *((f"{kind}:rates.csv", f"--noise {kind}:.*from 0 to 1, as in {kind}:0.4$")
              for kind in ("asymmetric", "simplex")),
            ("pair:rates.txt", r"or a \.csv file with the columns class and rate"),
            ("pair:0.4:Exact", "from 0 to 1"),
            *((f"{kind}:0.4:exact", f"{kind} always counts its rows exactly; leave out :exact")
              for kind in ("semantic", "open-set")),
        ],
    )  # fmt: skip
    def test_no_rate(self, text, message):
        with pytest.raises(InputError, match=message):
            parse_noise(text)

    @pytest.mark.parametrize("text", ["confusion", "confusion:"])
    def test_confusion_without_a_file(self, text):
        with pytest.raises(InputError, match=f"--noise {text}: name the file"):
            parse_noise(text)

    @pytest.mark.parametrize("text", ["", "sym:0.4", "0.4", "Symmetric:0.4", "open_set:0.1"])
    def test_unknown_kind_names_the_known(self, text):
        with pytest.raises(InputError, match=f"--noise .*unknown kind.*{', '.join(KINDS)}"):
            parse_noise(text)


class TestShareOfClasses:
    @given(labels_of_four, rates, seeds)
    def test_exact_in_each_class_and_never_none(self, labels, share, seed):
        rows = share_of_classes(labels, share, 4, seed)
        assert (np.diff(rows) > 0).all()
        for label in range(4):
            count = (labels == label).sum()
            assert (labels[rows] == label).sum() == min(count, max(1, round(share * count)))
        assert (labels[rows] >= 0).all()

    def test_each_row_of_a_class_is_as_likely(self):
        labels = np.repeat([0, 1], 5)
        drawn = np.bincount(np.concatenate([share_of_classes(labels, 0.4, 2, seed) for seed in range(2000)]))
        assert stats.chisquare(drawn).pvalue > 1e-3


class TestEachRowOnItsOwn:
    """Without :exact the rate is the probability of every row, and hits of one say nothing of another's."""

    RATES = (("symmetric", 0.3), ("symmetric-exclusive", 0.4), ("pair", 0.4), ("simplex", 0.4))

    @pytest.mark.parametrize(("kind", "true_rate"), RATES)
    def test_counts_are_binomial(self, kind, true_rate):
        """400 draws of 100 rows of four classes: mean and variance, where exact counts of hits would have none."""
        labels = np.arange(100) % 4
        rows = [plant(labels, names_of(4), NoiseSpec(kind, 0.4), seed) != labels for seed in range(400)]
        reference = stats.binom(100, true_rate)
        counts = np.sum(rows, axis=1)
        assert abs(counts.mean() - reference.mean()) < 4 * reference.std() / 20
        assert 0.75 < counts.var() / reference.var() < 1.3
        # Any two rows: as uncorrelated as 400 draws can say.
        others = np.corrcoef(np.array(rows, float).T)[~np.eye(100, dtype=bool)]
        assert abs(others.mean()) < 0.01

    def test_a_rate_of_each_class_is_that_of_its_rows(self):
        labels = np.repeat([0, 1, 2], 20_000)
        noisy = plant(labels, names_of(3), file_noise("pair"), 0, np.array([0.0, 0.3, 1.0]))
        hit = [(noisy != labels)[labels == label].mean() for label in range(3)]
        assert hit[0] == 0
        assert hit[1] == pytest.approx(0.3, abs=0.013)
        assert hit[1] != 0.3
        assert hit[2] == 1

    def test_asymmetric_moves_the_rows_of_five_classes(self):
        labels = np.repeat(np.arange(10), 4_000)
        moved = realised_transition(labels, plant(labels, CIFAR10, NoiseSpec("asymmetric", 0.4), 0), 10)
        expected = np.eye(10)
        for source, target in CIFAR10_PAIRS.items():
            row = CIFAR10.index(source)
            expected[row, row], expected[row, CIFAR10.index(target)] = 0.6, 0.4
        np.testing.assert_allclose(moved, expected, atol=0.03)


class TestExactCounts:
    @pytest.mark.parametrize("rate", [0.0, 0.13, 0.4, 1.0])
    def test_symmetric_exclusive_hits_its_rate_exactly(self, rate):
        labels = draw(997, 7)
        noisy = plant(labels, names_of(7), exact("symmetric-exclusive", rate), 0)
        assert (noisy != labels).sum() == round(rate * 997)
        assert noisy.min() >= 0
        assert noisy.max() < 7

    def test_symmetric_redraws_over_all_classes(self):
        labels = draw(40_000, 4)
        noisy = plant(labels, names_of(4), NoiseSpec("symmetric", 0.5), 3)
        transition = realised_transition(labels, noisy, 4)
        # Half of the rows are redrawn, a quarter of those get the label they had.
        np.testing.assert_allclose(transition, 0.125 + 0.5 * np.eye(4), atol=0.02)

    @pytest.mark.parametrize("kind", ["symmetric-exclusive", "pair"])
    def test_nothing_stays_at_rate_one(self, kind):
        labels = draw(500, 5)
        noisy = plant(labels, names_of(5), NoiseSpec(kind, 1.0), 0)
        assert (np.diag(realised_transition(labels, noisy, 5)) == 0).all()

    def test_pair_is_exact_in_each_class(self):
        labels = np.repeat([0, 1, 2], [10, 25, 41])
        noisy = plant(labels, names_of(3), exact("pair", 0.3), 0)
        for label, count in enumerate([10, 25, 41]):
            of_class = noisy[labels == label]
            assert (of_class == (label + 1) % 3).sum() == round(0.3 * count)
            assert (of_class == label).sum() == count - round(0.3 * count)

    def test_asymmetric_is_the_cifar10_pairs(self):
        labels = np.repeat(np.arange(10), 50)
        noisy = plant(labels, CIFAR10, exact("asymmetric", 0.4), 0)
        expected = np.eye(10)
        for source, target in CIFAR10_PAIRS.items():
            row, column = CIFAR10.index(source), CIFAR10.index(target)
            expected[row, row], expected[row, column] = 0.6, 0.4
        np.testing.assert_allclose(realised_transition(labels, noisy, 10), expected)
        assert set(CIFAR10_PAIRS) == {"truck", "bird", "deer", "cat", "dog"}

    @pytest.mark.parametrize("rate", [0.0, 0.25, 0.3, 1.0])
    def test_simplex_hits_its_rate_in_each_class(self, rate):
        counts = [10, 25, 41, 0, 1]
        labels = np.repeat(np.arange(5), counts)
        noisy = plant(labels, names_of(5), exact("simplex", rate), 0)
        hit = np.bincount(labels[noisy != labels], minlength=5)
        assert hit.tolist() == [round(rate * count) for count in counts]

    def test_unlabelled_rows_stay_and_do_not_count(self):
        labels = draw(100, 4)
        labels[::2] = -1
        noisy = plant(labels, names_of(4), exact("symmetric-exclusive", 0.5), 0)
        assert (noisy[::2] == -1).all()
        assert (noisy != labels).sum() == 25

    def test_the_labels_given_are_not_touched(self):
        labels = draw(50, 4)
        before = labels.copy()
        labels.flags.writeable = False
        for kind in ROUND_KINDS:
            plant(labels, names_of(4), NoiseSpec(kind, 0.0), 0)[:] = 0
        np.testing.assert_array_equal(labels, before)


class TestSimplexShares:
    @pytest.mark.parametrize("num_classes", [2, 3, 10, 100])
    def test_a_zero_diagonal_and_rows_that_sum_to_one(self, num_classes):
        shares = simplex_shares(names_of(num_classes), 0)
        assert (np.diag(shares) == 0).all()
        assert (shares[~np.eye(num_classes, dtype=bool)] > 0).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
        asked = 0.7 * np.eye(num_classes) + 0.3 * shares
        np.testing.assert_allclose(asked.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(flip_rates(asked), 0.3, rtol=1e-12)

    def test_each_share_is_spread_as_in_a_flat_dirichlet(self):
        """A coordinate of Dirichlet(1, ..., 1) over K - 1 classes is Beta(1, K - 2)."""
        draws = np.stack([simplex_shares(names_of(5), seed) for seed in range(1500)])
        reference = stats.beta(1, 3)
        for row, column in np.argwhere(~np.eye(5, dtype=bool)):
            cell = draws[:, row, column]
            assert abs(cell.mean() - 1 / 4) < 4 * reference.std() / np.sqrt(len(cell))
            assert stats.kstest(cell, reference.cdf).pvalue > 1e-4

    def test_rows_are_drawn_independently(self):
        draws = np.stack([simplex_shares(names_of(4), seed) for seed in range(1500)])
        assert abs(np.corrcoef(draws[:, 0, 1], draws[:, 2, 1])[0, 1]) < 0.1
        # Within a row they compete: the correlation of two coordinates is -1 / (K - 2).
        assert np.corrcoef(draws[:, 0, 1], draws[:, 0, 2])[0, 1] == pytest.approx(-1 / 2, abs=0.1)

    def test_labels_follow_equation_1(self):
        labels = np.repeat(np.arange(4), 20_000)
        noisy = plant(labels, names_of(4), NoiseSpec("simplex", 0.4), 5)
        expected = 0.6 * np.eye(4) + 0.4 * simplex_shares(names_of(4), 5)
        np.testing.assert_allclose(realised_transition(labels, noisy, 4), expected, atol=0.012)
        assert expected[~np.eye(4, dtype=bool)].std() > 0.05

    def test_two_classes_swap(self):
        labels = draw(50, 2)
        noisy = plant(labels, names_of(2), NoiseSpec("simplex", 1.0), 0)
        np.testing.assert_array_equal(noisy, 1 - labels)


class TestConfusion:
    @given(labels_of_four, seeds, st.integers(0, 100), st.booleans())
    def test_pair_as_a_matrix_is_pair(self, labels, seed, percent, is_exact):
        rate = percent / 100
        matrix = (1 - rate) * np.eye(4) + rate * np.roll(np.eye(4), 1, axis=1)
        noisy = plant(labels, names_of(4), file_noise("confusion", is_exact=is_exact), seed, matrix)
        pair = NoiseSpec("pair", rate, is_exact=is_exact)
        np.testing.assert_array_equal(noisy, plant(labels, names_of(4), pair, seed))

    @given(labels_of_four, seeds, st.integers(0, 2**32))
    def test_counts_of_each_class_are_exact(self, labels, seed, matrix_seed):
        matrix = random_matrix(4, matrix_seed)
        noisy = plant(labels, names_of(4), file_noise("confusion", is_exact=True), seed, matrix)
        for label in range(4):
            members = noisy[labels == label]
            asked = np.where(np.arange(4) == label, 0, matrix[label]).sum()
            assert (members != label).sum() == round(asked * len(members))

    def test_labels_follow_the_matrix(self):
        matrix = random_matrix(5)
        labels = np.repeat(np.arange(5), 20_000)
        noisy = plant(labels, names_of(5), file_noise("confusion"), 0, matrix)
        np.testing.assert_allclose(realised_transition(labels, noisy, 5), matrix, atol=0.015)

    def test_a_zero_is_never_drawn_and_a_one_always(self):
        matrix = np.array([[1, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0.9, 0.1], [1, 0, 0, 0.0]])
        labels = draw(8_000, 4)
        noisy = plant(labels, names_of(4), file_noise("confusion"), 0, matrix)
        np.testing.assert_array_equal(realised_transition(labels, noisy, 4) > 0, matrix > 0)

    def test_flip_rates_by_hand(self):
        assert flip_rates(np.array([[0.5, 0.5], [0.25, 0.75]])).tolist() == [0.5, 0.25]
        assert flip_rates(np.array([0.5, 0.25])).tolist() == [0.5, 0.25]


class TestClassRates:
    RATES = np.array([0.0, 0.3, 1.0])

    @pytest.mark.parametrize("kind", ["symmetric-exclusive", "pair"])
    def test_exact_in_each_class(self, kind):
        labels = np.repeat([0, 1, 2], [10, 25, 41])
        noisy = plant(labels, names_of(3), file_noise(kind, is_exact=True), 0, self.RATES)
        assert np.bincount(labels[noisy != labels], minlength=3).tolist() == [0, round(0.3 * 25), 41]

    def test_symmetric_redraws_over_all_classes(self):
        labels = np.repeat([0, 1, 2], 20_000)
        noisy = plant(labels, names_of(3), file_noise("symmetric"), 0, self.RATES)
        expected = (1 - self.RATES)[:, None] * np.eye(3) + self.RATES[:, None] / 3
        np.testing.assert_allclose(realised_transition(labels, noisy, 3), expected, atol=0.015)

    @given(labels_of_four, rates, seeds, st.booleans())
    def test_one_rate_for_all_is_the_rate(self, labels, rate, seed, is_exact):
        noisy = plant(labels, names_of(4), file_noise("pair", is_exact=is_exact), seed, np.full(4, rate))
        pair = NoiseSpec("pair", rate, is_exact=is_exact)
        np.testing.assert_array_equal(noisy, plant(labels, names_of(4), pair, seed))


class TestRefused:
    @pytest.mark.parametrize(
        ("labels", "names", "noise", "seed", "message"),
        [
            (draw(20, 4), names_of(4), "asymmetric:0.4", 0,
             r"--noise asymmetric:0\.4.*pair:0\.4 .* or confusion:FILE"),
            (draw(20, 9), CIFAR10[:9], "asymmetric:0.4", 0, "pair"),
            (np.zeros(5, np.int64), ["a"], "symmetric:0.4", 0, "two classes, there are 1"),
            (draw(5, 2), ["a", "b"], "symmetric:0.4", -1, "--seed -1"),
        ],
    )  # fmt: skip
    def test_classes_and_seeds_that_do_not_fit(self, labels, names, noise, seed, message):
        with pytest.raises(InputError, match=message):
            plant(labels, names, parse_noise(noise), seed)

    def test_a_negative_seed_of_shares(self):
        with pytest.raises(InputError, match="--seed -1"):
            share_of_classes(np.zeros(3, np.int64), 0.4, 1, -1)


def assert_permuted(labels, names, noise, seed, order, asked=None):
    """Noise of classes in another order, their with their names and their matrix, is the same noise."""
    place = np.array([*np.argsort(order), -1])
    turned = asked if asked is None else asked[np.ix_(order, order)]
    permuted = plant(place[labels], [names[label] for label in order], noise, seed, turned)
    np.testing.assert_array_equal(permuted, place[plant(labels, names, noise, seed, asked)])


class TestProperties:
    @given(labels_of_four, st.sampled_from(ANY_CLASSES), rates, seeds, st.booleans())
    def test_same_seed_same_labels(self, labels, kind, rate, seed, is_exact):
        noise = NoiseSpec(kind, rate, is_exact=is_exact)
        first, second = (plant(labels, names_of(4), noise, seed) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert ((first == -1) == (labels == -1)).all()

    @pytest.mark.parametrize("kind", ANY_CLASSES)
    def test_another_seed_draws_other_rows(self, kind):
        labels = draw(200, 4)
        first, second = (plant(labels, names_of(4), NoiseSpec(kind, 0.5), seed) for seed in (0, 1))
        assert (first != second).any()

    @given(labels_of_four, st.sampled_from(ROUND_KINDS), st.lists(rates, min_size=4, max_size=4), seeds,
           st.integers(0, 3), st.booleans(), st.booleans())  # fmt: skip
    def test_rotating_the_classes_rotates_the_noise(self, labels, kind, asked, seed, turn, of_each, is_exact):
        order = np.roll(range(4), turn)
        place = np.array([*np.argsort(order), -1])
        noise = NoiseSpec(kind, None if of_each else asked[0], "asked.csv" if of_each else None, is_exact)
        first, second = (np.array(asked), np.array(asked)[order]) if of_each else (None, None)
        noisy = plant(labels, names_of(4), noise, seed, first)
        np.testing.assert_array_equal(plant(place[labels], names_of(4), noise, seed, second), place[noisy])

    @given(st.lists(st.integers(0, 9), max_size=80), rates, seeds, st.permutations(range(10)),
           st.booleans())  # fmt: skip
    def test_permuting_the_class_names_permutes_asymmetric_noise(self, drawn, rate, seed, order, is_exact):
        noise = NoiseSpec("asymmetric", rate, is_exact=is_exact)
        assert_permuted(np.array(drawn, np.int64), CIFAR10, noise, seed, order)

    @given(labels_of_four, rates, seeds, st.permutations(range(4)), st.booleans())
    def test_permuting_the_class_names_permutes_simplex_noise(self, labels, rate, seed, order, is_exact):
        noise = NoiseSpec("simplex", rate, is_exact=is_exact)
        assert_permuted(labels, ["fox", "Ape", "10", "9"], noise, seed, order)

    @given(labels_of_four, st.integers(0, 2**32), seeds, st.permutations(range(4)), st.booleans())
    def test_permuting_the_class_names_permutes_confusion_noise(
        self, labels, matrix_seed, seed, order, is_exact
    ):
        # Eighths: sums are exact in any order, so that no count is rounded differently.
        matrix = np.random.default_rng(matrix_seed).multinomial(8, np.full(4, 0.25), 4) / 8
        assert_permuted(labels, names_of(4), file_noise("confusion", is_exact=is_exact), seed, order, matrix)

    @given(labels_of_four, st.sampled_from(["symmetric-exclusive", "pair", "simplex"]), rates, seeds,
           st.permutations(range(4)), st.booleans())  # fmt: skip
    def test_which_rows_are_hit_does_not_depend_on_class_numbers(
        self, labels, kind, rate, seed, order, is_exact
    ):
        permuted, noise = np.array([*order, -1])[labels], NoiseSpec(kind, rate, is_exact=is_exact)
        hit = plant(labels, names_of(4), noise, seed) != labels
        np.testing.assert_array_equal(plant(permuted, names_of(4), noise, seed) != permuted, hit)

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

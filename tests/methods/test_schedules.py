from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies

from labelfix.methods.schedules import linear_steps, scaled_epochs, step_decay


def test_step_decay_has_the_rates_of_the_authors_schedule():
    """0.1 for epochs 1 to 99 (counted from 1), 0.01 for 100 to 249, 0.001 after."""
    rates = [step_decay(epoch - 1, 0.1, (99, 249)) for epoch in (1, 99, 100, 249, 250, 300)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@given(strategies.lists(strategies.integers(1, 200), min_size=1, max_size=4), strategies.integers(0, 300))
def test_scaled_epochs_sum_up_and_leave_no_phase_out(parts, extra):
    total = len(parts) + extra
    scaled = scaled_epochs(parts, total)
    assert sum(scaled) == total
    assert min(scaled) >= 1


def test_scaling_to_the_same_total_changes_nothing():
    assert scaled_epochs((105, 195), 300) == (105, 195)


def test_too_few_epochs_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        scaled_epochs((10, 20), 1)


def test_linear_steps_are_a_linspace_that_stays_at_its_end():
    found = [linear_steps(step, 1.0, 0.001, 89) for step in range(120)]
    np.testing.assert_allclose(found[:89], np.linspace(1, 0.001, 89), rtol=1e-12)
    assert found[88:] == [0.001] * 32


def test_a_single_linear_step_still_arrives():
    assert [linear_steps(step, 1.0, 0.0, 1) for step in range(3)] == [1.0, 0.0, 0.0]

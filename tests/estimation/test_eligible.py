"""The rule of eligible rows, on arrays and on a corrections table."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from labelfix.data.findings_schema import LABEL_TYPE
from labelfix.estimation.eligible import eligible_rows
from labelfix.results.corrections import eligible_in

STATES = np.array(list(product([False, True], repeat=3)))
EXPECTED = [state == (True, True, False) for state in map(tuple, STATES.tolist())]


def test_only_valid_labelled_untrusted_rows_are_eligible():
    assert eligible_rows(*STATES.T).tolist() == EXPECTED


@pytest.mark.parametrize("label_type", [LABEL_TYPE, pa.list_(pa.string())])
def test_a_table_answers_as_its_arrays_do(label_type):
    valid, labelled, trusted = STATES.T
    label = ["cat"] if pa.types.is_list(label_type) else "cat"
    given = pa.array([label if known else None for known in labelled], label_type)
    columns = {"is_valid": valid, "given_label": given, "is_trusted": trusted}
    batch = pa.record_batch({**columns, "corrected_label": given})
    table = pa.Table.from_batches([batch[:3], batch[3:]])
    assert eligible_in(batch).tolist() == eligible_in(table).tolist() == EXPECTED
    assert eligible_in(table[:0]).dtype == bool

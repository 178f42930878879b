"""The columns that every corrections file has: the one list of them, which also reserves their names in a source."""

from __future__ import annotations

import pyarrow as pa

LABEL_TYPE = pa.dictionary(pa.int32(), pa.string())


def findings_fields(num_classes: int) -> list[pa.Field]:
    """The fields in their order, for K classes."""
    probs = pa.list_(pa.float32(), num_classes)
    return [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("file_name", pa.string()),
        pa.field("given_label", LABEL_TYPE),
        pa.field("noise_score", pa.float32()),
        pa.field("label_score", pa.float32()),
        pa.field("is_label_issue", pa.bool_(), nullable=False),
        pa.field("corrected_label", LABEL_TYPE),
        pa.field("corrected_confidence", pa.float32()),
        pa.field("label_distribution", probs),
        pa.field("predicted_label", LABEL_TYPE),
        pa.field("predicted_probs", probs),
        pa.field("is_trusted", pa.bool_(), nullable=False),
        pa.field("is_valid", pa.bool_(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("duplicate_group", pa.int64()),
        pa.field("outlier_score", pa.float32()),
        pa.field("image_issue", LABEL_TYPE),
    ]


def multi_label_fields(num_classes: int) -> list[pa.Field]:
    """The same where a row may have several labels: lists of them, and what is found of every class."""
    labels, numbers = pa.list_(pa.string()), pa.list_(pa.float32(), num_classes)
    is_label = ("given_label", "corrected_label", "predicted_label")
    fields = [
        field.with_type(labels) if field.name in is_label else field for field in findings_fields(num_classes)
    ]
    added = {"class_noise_scores": numbers, "added_labels": labels, "removed_labels": labels}
    return [*fields, *(pa.field(name, kind) for name, kind in added.items())]


# Not in the files of earlier versions.
LATER_COLUMNS = ("duplicate_group", "outlier_score", "image_issue")


# Of findings on several labels a row, beside the others.
MULTI_COLUMNS = frozenset(field.name for field in multi_label_fields(1)[len(findings_fields(1)) :])

# What a person decided, beside the findings in an export with decisions.
REVIEWED_LABEL, REVIEW_STATUS = "reviewed_label", "review_status"
REVIEW_COLUMNS = (REVIEWED_LABEL, REVIEW_STATUS)

# No column of a source may pass through under one of these names.
RESERVED_COLUMNS = frozenset(field.name for field in findings_fields(1))

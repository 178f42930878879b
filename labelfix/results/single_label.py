"""Findings where every row has one label: what `multi_label` offers where it may have several."""

from labelfix.results.corrections import write
from labelfix.results.findings import find
from labelfix.results.summary import summarise

__all__ = ["find", "summarise", "write"]

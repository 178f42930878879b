"""Tables of the papers: their rows as methods of a bench, and our figures beside what they print."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from labelfix.benchmark.grid import Cell, listed_noises, make_cells
from labelfix.errors import InputError

_FILE = Path(__file__).parent / "paper_tables.toml"
_PREFIX = "paper:"
# What a row may print, and the column of bench.parquet that it is set beside.
_MEASURES = {"best": "test_accuracy_best", "last": "test_accuracy"}


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    Attributes:
        name: as the paper has it.
        methods: of each column, as bench takes it.
        published: figures in per cent of each column by measure, best or last; None where nothing is printed.
    """

    name: str
    methods: tuple[str, ...]
    published: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class PaperTable:
    """A published table, or the columns of it that are wanted.

    Attributes:
        name: as `--table` has it, without the prefix.
        source: the paper, its section and its table.
        settings: what all rows were measured with.
        is_error: whether figures are shares that are wrong, not right.
        columns: noises.
        rows: in the order of the paper.
    """

    name: str
    source: str
    settings: str
    is_error: bool
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]

    @classmethod
    def of(cls, text: str, noise: str | Sequence[str] | None = None) -> PaperTable:
        """The table of a text such as `paper:bmm-1`.

        Args:
            text: its name.
            noise: the columns that are wanted, as bench takes noises; None for all.

        Raises:
            InputError: no such table, or no such column of it.
        """
        name = text.removeprefix(_PREFIX)
        if name == text or name not in _tables():
            raise InputError(
                f"--table {text}: there is no such table; choose one of {', '.join(table_names())}"
            )
        table = _parsed(name, _tables()[name])
        return table if noise is None else table._with_columns(listed_noises(noise))

    def cells(self, seeds: str | Sequence[int], shared: Mapping[str, Any]) -> list[Cell]:
        """The runs of the table, by column, then row, then seed; see `grid.make_cells`."""
        pairs = [(noise, row.methods[place]) for place, noise in enumerate(self.columns) for row in self.rows]
        return make_cells(list(dict.fromkeys(pairs)), seeds, shared)

    def beside(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Our figures beside the printed ones, in per cent.

        Args:
            rows: of bench.parquet.

        Returns:
            JSON-able: table, source, settings, is_error, columns; figures, a dict for each row, measure and column with
            row, method, noise, measure, published, ours (a mean over seeds) and seeds.
        """
        figures = [
            {
                "row": row.name,
                "method": row.methods[place],
                "noise": noise,
                "measure": measure,
                "published": printed[place],
                **self._ours(rows, noise, row.methods[place], _MEASURES[measure]),
            }
            for row in self.rows
            for measure, printed in row.published.items()
            for place, noise in enumerate(self.columns)
        ]
        return {
            "table": self.name,
            "source": self.source,
            "settings": self.settings,
            "is_error": self.is_error,
            "columns": list(self.columns),
            "figures": figures,
        }

    def _ours(
        self, rows: Sequence[Mapping[str, Any]], noise: str, method: str, column: str
    ) -> dict[str, Any]:
        found = [
            row[column]
            for row in rows
            if (row["noise"], row["method"]) == (noise, method) and row[column] is not None
        ]
        if not found:
            return {"ours": None, "seeds": 0}
        share = sum(found) / len(found)
        return {"ours": round(100 * (1 - share if self.is_error else share), 2), "seeds": len(found)}

    def _with_columns(self, wanted: Sequence[str]) -> PaperTable:
        strangers = [noise for noise in wanted if noise not in self.columns]
        if strangers:
            raise InputError(
                f"--table {_PREFIX}{self.name}: it has no column {strangers[0]}; --noise takes some of"
                f" {', '.join(self.columns)}"
            )
        places = [self.columns.index(noise) for noise in wanted]
        rows = [
            replace(
                row,
                methods=tuple(row.methods[place] for place in places),
                published={
                    measure: tuple(figures[place] for place in places)
                    for measure, figures in row.published.items()
                },
            )
            for row in self.rows
        ]
        return replace(self, columns=tuple(wanted), rows=tuple(rows))


def table_names() -> list[str]:
    """Names of all tables, as `--table` takes them."""
    return [f"{_PREFIX}{name}" for name in _tables()]


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text("utf-8"))


def _parsed(name: str, table: Mapping[str, Any]) -> PaperTable:
    columns = tuple(table["columns"])
    return PaperTable(
        name=name,
        source=table["source"],
        settings=table["settings"],
        is_error=table.get("error", False),
        columns=columns,
        rows=tuple(_parsed_row(row, len(columns)) for row in table["rows"]),
    )


def _parsed_row(row: Mapping[str, Any], columns: int) -> PaperRow:
    methods = (row["method"],) * columns if isinstance(row["method"], str) else tuple(row["method"])
    published = {
        measure: tuple(None if math.isnan(figure) else figure for figure in row[measure])
        for measure in _MEASURES
        if measure in row
    }
    return PaperRow(row["name"], methods, published)

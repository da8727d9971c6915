"""What do stages pass to each other?

They pass tables: named columns of equal length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

    from tracekit import schema

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Table:
    """An immutable set of NumPy columns of equal length. Text and nullable columns have dtype `object`.

    Only `to_pandas` imports pandas, so an analysis without a DataFrame does not spend time on importing it.
    """

    columns: Mapping[str, Column]

    @staticmethod
    def empty(columns: Iterable[schema.Column]) -> Table:
        """A table with these columns and no rows. Each column has its type; a nullable one has dtype `object`."""
        return Table({column.name: np.empty(0, dtype=_dtype(column)) for column in columns})

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def take(self, rows: Column) -> Table:
        """The rows that an index array or a boolean mask selects, in the order of the selection."""
        return Table({name: column[rows] for name, column in self.columns.items()})

    def sorted_by(self, *names: str, descending: bool = False) -> Table:
        """The rows, sorted by the named columns. The first column counts most; rows that are equal keep their order."""
        order = np.arange(len(self))
        for name in reversed(names):
            column = self.columns[name][order]
            keys = np.unique(column, return_inverse=True)[1]
            order = order[np.argsort(-keys if descending else keys, kind="stable")]
        return self.take(order)

    def head(self, rows: int) -> Table:
        """The first `rows` rows."""
        return Table({name: column[:rows] for name, column in self.columns.items()})

    def records(self) -> list[dict[str, Any]]:
        """One dict of plain Python values for each row, in the order of the rows."""
        names = list(self.columns)
        values = zip(*(column.tolist() for column in self.columns.values()), strict=True)
        return [dict(zip(names, row, strict=True)) for row in values]

    def to_pandas(self) -> pd.DataFrame:
        """The same columns as a DataFrame."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(dict(self.columns))
        return frame


def _dtype(column: schema.Column) -> type:
    if column.nullable or column.type == "text":
        return object
    return np.int64 if column.type == "int" else np.float64

"""Sparse rows of linear constraints, as HiGHS takes them. Not what they mean."""

from __future__ import annotations

from typing import Any


class Rows:
    """Constraints low ≤ Σ value · column ≤ high over a fixed number of columns."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.values: list[float] = []
        self.row_of: list[int] = []
        self.column_of: list[int] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def add(self, terms: dict[int, float], low: float, high: float) -> None:
        """One row; `terms` is column → value."""
        self.row_of += [len(self.low)] * len(terms)
        self.column_of += terms
        self.values += terms.values()
        self.low.append(low)
        self.high.append(high)

    def constraint(self) -> Any:
        """scipy's LinearConstraint of all rows."""
        from scipy.optimize import LinearConstraint
        from scipy.sparse import csr_array

        places = (self.row_of, self.column_of)
        matrix = csr_array((self.values, places), shape=(len(self.low), self.columns))
        return LinearConstraint(matrix, self.low, self.high)

"""Cumulative sums of NCCL calls for metrics: a bounded number of series, and one for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from xtrace.model.nccl import (
    CallSum,
    CallTotals,
    ErrorSeries,
    NcclProcess,
    Operation,
    RunSums,
    Series,
)

MOST_SERIES = 500
"""Combinations of process, function and datatype with their own series."""
LONGEST_COMMAND = 64
OTHER = "other"


class Sums:
    """Adds up intervals. The series of an ended process are dropped after its last record."""

    def __init__(self, most: int = MOST_SERIES) -> None:
        self._most = most
        self._calls: dict[Series, CallSum] = {}
        self._errors: dict[ErrorSeries, int] = {}
        self._totals = CallTotals()
        self._ended: set[str] = set()

    def add(self, processes: Iterable[NcclProcess], totals: CallTotals) -> RunSums:
        """Add one interval; returns the sums at its end."""
        for ended in self._ended:
            self._calls = {series: calls for series, calls in self._calls.items() if series.pid != ended}
            self._errors = {series: count for series, count in self._errors.items() if series.pid != ended}
        self._ended.clear()
        self._totals += totals
        for process in processes:
            pid, command = str(process.pid), short_name(process.command)
            for operation in process.all_operations():
                self._add(Series(pid, command, operation.function, operation.datatype or ""), operation)
            if process.ended:
                self._ended.add(pid)
        return RunSums(dict(self._calls), dict(self._errors), self._totals)

    def _add(self, series: Series, operation: Operation) -> None:
        if series not in self._calls and len(self._calls) >= self._most:
            series = Series(OTHER, OTHER, OTHER, OTHER)
        known = self._calls.get(series, CallSum())
        self._calls[series] = known.plus(operation)
        for is_async, failures in ((False, operation.errors), (True, operation.async_errors)):
            for name, count in failures.items():
                where = ErrorSeries(series.pid, series.command, name, is_async)
                self._errors[where] = self._errors.get(where, 0) + count


def short_name(command: str) -> str:
    """The program of a command line, without path and arguments: `python3`."""
    first = command.split(" ", 1)[0]
    return (PurePath(first).name or first)[:LONGEST_COMMAND]

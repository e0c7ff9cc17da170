"""What the guests reported, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.vm.guest import Ended


@dataclass(frozen=True)
class Outcome:
    """One guest's reports, sorted."""

    suite: str
    ended: Ended
    kept: Path

    def first(self, field: str) -> Any:
        return next((record[field] for record in self.ended.records if field in record), None)

    @property
    def release(self) -> str:
        """The kernel's, as it says itself."""
        return str(self.first("release") or f"{self.suite} (did not boot)")

    @cached_property
    def tests(self) -> dict[str, dict[str, Any]]:
        """The report of each test."""
        return {record["test"]: record for record in self.ended.records if "test" in record}

    def count(self, outcome: str) -> int:
        """How many tests ended so."""
        return sum(record["outcome"] == outcome for record in self.tests.values())

    @property
    def runs(self) -> list[dict[str, Any]]:
        """What the tool did when it only loaded its programs."""
        return [record for record in self.ended.records if "run" in record]

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return not list(self.problems())

    def problems(self) -> Iterator[str]:
        """All that went wrong."""
        if not self.ended.in_time:
            begun = [record["begins"] for record in self.ended.records if "begins" in record]
            yield f"killed after {self.ended.seconds:.0f} s, in {begun[-1] if begun else 'no test'}"
        elif self.first("ended") is None:
            yield "ended before its tests did"
        yield from (f"the kernel said: {line.strip()}" for line in self.ended.complaints)
        for run in self.runs:
            if run["code"]:
                yield f"loading for {run['run']}: exit code {run['code']}: {run['said'].strip()}"
        by_reason: dict[str, list[str]] = {}
        for name, record in self.tests.items():
            if record["outcome"] == "failed":
                by_reason.setdefault(record["why"], []).append(name)
        for reason, names in by_reason.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield f"{names[0]}{more}\n{_indented(reason)}"
        if self.first("ended") is not None and not self.count("passed"):
            yield "no test passed"

    def summary(self) -> str:
        """One line."""
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in ("passed", "failed", "skipped"))
        return f"{self.suite}: {counts} in {self.ended.seconds:.0f} s{'' if self.passed else f': see {self.kept}'}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()


def _results(outcomes: Sequence[Outcome]) -> Iterator[str]:
    rows = [["kernel", "passed", "failed", "skipped", "boot", "whole run", ""]]
    for outcome in outcomes:
        counts = [str(outcome.count(name)) for name in ("passed", "failed", "skipped")]
        boot_s = outcome.first("boot_s")
        times = ["" if boot_s is None else f"{boot_s:.0f} s", f"{outcome.ended.seconds:.0f} s"]
        rows.append([outcome.release, *counts, *times, "ok" if outcome.passed else "FAILED"])
    yield from _columns(rows)


def _load(load: dict[str, Any]) -> str:
    if load["result"] < 0:
        return f"refused ({load['result']})"
    return f"{load['verified']} / {load['ms']:.0f} ms"


def _programs(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Of each program and kernel, the load for which the verifier had most to do."""
    most: dict[str, dict[str, dict[str, Any]]] = {}
    for outcome in outcomes:
        for run in outcome.runs:
            for load in run["loads"]:
                of_kernel = most.setdefault(load["program"], {})
                known = of_kernel.get(outcome.release)
                if known is None or (load["verified"] or 0) > (known["verified"] or 0):
                    of_kernel[outcome.release] = load
    releases = [outcome.release for outcome in outcomes]
    yield "instructions the verifier processed / load time in the emulated guest"
    rows = [["program", *releases]]
    for program, by_kernel in most.items():
        rows.append([program, *(_load(by_kernel[name]) if name in by_kernel else "-" for name in releases)])
    yield from _columns(rows)


def _skips(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        why = Counter(record["why"] for record in outcome.tests.values() if record["outcome"] == "skipped")
        yield from (f"{outcome.release}: {number} skipped: {reason}" for reason, number in why.most_common())


def _figures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What tests measured."""
    for outcome in outcomes:
        for name, record in outcome.tests.items():
            measured = record.get("figures") or {}
            yield from (f"{outcome.release}: {name}: {what}: {value}" for what, value in measured.items())


def _failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        yield from (f"{outcome.release}: {problem}" for problem in outcome.problems())


def table(outcomes: Sequence[Outcome]) -> str:
    """Everything; failures first, so that the table is what stays on the screen."""
    parts = (_failures, _skips, _figures, _programs, _results)
    return "\n\n".join(text for part in parts if (text := "\n".join(part(outcomes))))

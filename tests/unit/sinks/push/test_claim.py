"""Runs that would write the same series are refused."""

from __future__ import annotations

import pytest

from xtrace.errors import UsageError
from xtrace.sinks.push.claim import claimed

LABELS = (("host", "n1"), ("run", "a"))


def test_same_series_are_claimed_once_and_free_again_afterwards() -> None:
    with claimed("http://m/x", LABELS):
        with (
            pytest.raises(UsageError, match=r"^push to http://m/x: another .* the same series \(.*--label run=NAME\)$"),
            claimed("http://m/x", LABELS[::-1]),
        ):
            pytest.fail("claimed twice")
        with claimed("http://m/x", (("host", "n1"), ("run", "b"))), claimed("http://other/x", LABELS):
            pass
    with claimed("http://m/x", LABELS):
        pass

"""One Counter for all tests that need nothing special: loading the programs takes longer than most tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.counter import Counter, counting


@pytest.fixture(scope="package")
def shared_counter() -> Iterator[Counter]:
    with counting() as counter:
        yield counter


@pytest.fixture
def counter(shared_counter: Counter) -> Counter:
    """The program as the tool runs it on this kernel, with nothing counted yet."""
    shared_counter.empty()
    return shared_counter

"""What the tests of the static executable share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.image.chroot import EXECUTABLE, empty_root
from tests.support.net import Pair, veth_pair


@pytest.fixture(autouse=True)
def executable() -> Path:
    """It is built by its own target."""
    if not EXECUTABLE.exists():
        skip_or_fail("image", "tier image needs dist/xtrace-catch: make static first")
    return EXECUTABLE


@pytest.fixture
def root(executable: Path, tmp_path: Path) -> Path:
    return empty_root(tmp_path)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with veth_pair() as made:
        yield made

"""What tests of a pair share: the other guest, the tool, perftest on both ends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.rdma.pair import stop_all
from tests.rdma.peer import Peer

collect_ignore_glob = [] if "XTRACE_RDMA_PEER" in os.environ else ["test_*.py"]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """The other guest."""
    with Peer.connect(os.environ["XTRACE_RDMA_PEER"]) as connected:
        yield connected


@pytest.fixture(autouse=True)
def ends_what_it_started(leaves_nothing_behind: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Also where a test fails in the middle: nothing of it runs on into the next."""
    yield
    stop_all()
    if "peer" in request.fixturenames:
        request.getfixturevalue("peer").stop_all()

"""What tests of a pair share: the other guest, the tool, perftest on both ends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.rdma.peer import Peer

collect_ignore_glob = [] if "XTRACE_RDMA_PEER" in os.environ else ["test_*.py"]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """The other guest."""
    with Peer.connect(os.environ["XTRACE_RDMA_PEER"]) as connected:
        yield connected

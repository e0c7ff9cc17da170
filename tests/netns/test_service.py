"""The tool as a service manager runs it."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.netns.tool import LIMIT_S, bounded, environment
from tests.support.net import veth_pair


def test_a_manager_is_told_of_readiness_life_and_end_in_this_order(tmp_path: Path) -> None:
    with veth_pair() as pair, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT_S)
        variables = environment(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="400000")
        run = pair.far.catch("-i", "far0", "-t", "100ms", "-c", "2", "-o", "none", env=variables)
        with bounded(run) as process:
            said = [manager.recv(100)]
            while said[-1] != b"STOPPING=1":
                said.append(manager.recv(100))
            process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert said[0] == b"READY=1"
    assert said[1:-1] and set(said[1:-1]) == {b"WATCHDOG=1"}

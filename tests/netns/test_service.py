"""The tool as a service manager runs it."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.netns.load import flood
from tests.netns.test_ending import assert_complete, signal_before_exec
from tests.netns.test_live import controlled
from tests.netns.tool import LIMIT_S, XDP_ON_FAR0, Tool, bounded, environment, launched, running, started
from tests.support.background import in_background
from tests.support.manager import manager_socket
from tests.support.net import of_type, veth_pair
from tests.support.terminal import Terminal
from xtrace.kernel import confinement

FIXTURES = Path(__file__).parents[1] / "fixtures/tls"
RELOADS = 20
APART: dict[str, Any] = {"start_new_session": True}
"""How managers start services: without the terminal of these tests, if they have one."""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with manager_socket(tmp_path, LIMIT_S) as made:
        yield made


def heard(manager: socket.socket) -> list[str]:
    """The fields of the next message to the manager."""
    return manager.recv(4096).decode().splitlines()


def assert_reloads(manager: socket.socket, outcome: str) -> None:
    """The next two messages to the manager report a reload with this outcome."""
    begun, ended = heard(manager), heard(manager)
    assert [field.partition("=")[0] for field in begun] == ["RELOADING", "MONOTONIC_USEC"]
    assert ended[0] == "READY=1" and ended[1].endswith(f"Z: {outcome}"), ended


def test_a_manager_is_told_of_readiness_life_and_end_in_this_order(manager: socket.socket) -> None:
    with veth_pair() as pair:
        variables = environment(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="400000")
        run = pair.far.catch("-i", "far0", "-t", "100ms", "-c", "2", "-o", "none", env=variables, **APART)
        with bounded(run) as process:
            said = [manager.recv(100)]
            while said[-1] != b"STOPPING=1":
                said.append(manager.recv(100))
            process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert said[0] == b"READY=1"
    assert said[1:-1] and set(said[1:-1]) == {b"WATCHDOG=1"}


def test_reloads_during_traffic_change_no_count(manager: socket.socket, tmp_path: Path) -> None:
    """With files that are of use and, every other time, with those that are not; nothing interrupts an interval."""
    (tmp_path / "cert.pem").write_bytes((FIXTURES / "leaf.pem").read_bytes())
    config = tmp_path / "web.yml"
    config.write_text("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n")
    keys = [(FIXTURES / name).read_bytes() for name in ("leaf.key", "other.key")]
    (tmp_path / "key.pem").write_bytes(keys[0])
    options = ("--listen", f"unix:{tmp_path}/socket", "--listen-config", str(config))
    variables = {"NOTIFY_SOCKET": manager.getsockname()}
    with (
        veth_pair(addresses=False) as pair,
        running(pair.far, *XDP_ON_FAR0, "-t", "100", *options, variables=variables, **APART) as tool,
    ):
        assert heard(manager) == ["READY=1"]
        counting = threading.Thread(target=flood, args=(pair, 400_000))
        counting.start()
        for number in range(RELOADS):
            (tmp_path / "key.pem").write_bytes(keys[number % 2])
            tool.process.send_signal(signal.SIGHUP)
            outcomes = ("certificates and users read anew; settings need a restart", OF_NO_USE)
            assert_reloads(manager, outcomes[number % 2])
        counting.join()
        result = tool.stop()
        assert heard(manager) == ["STOPPING=1"]
        received = pair.far.statistics("far0")["packets"]
    assert result.code == 0
    assert result.said[: len(started())] == started()
    told = result.said[len(started()) :]
    files = ", ".join(str(tmp_path / name) for name in ("cert.pem", "key.pem"))
    assert told[::2] == [f"--listen-config {config}: read anew: {config}, {files}"] * (RELOADS // 2)
    assert told[1::2] == [
        f"--listen-config {config}: {files}: certificate and key do not match (PEM files, the key not encrypted);"
        " what was read before stays in use"
    ] * (RELOADS // 2)
    assert received >= 400_000
    assert_complete(result, received)
    (start,) = of_type(result.records, "start")
    assert start["landlock"] is (confinement.why_no_landlock() is None)


OF_NO_USE = "new files are of no use, the old ones stay in use; see the log"
NOTHING = "nothing to read anew; settings need a restart"


def block_hangup() -> None:
    """As the launchers do before Python starts: the static executable, and ./xtrace-catch."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])


def hanging_up(tool: Tool) -> AbstractContextManager[None]:
    """Send SIGHUP a thousand times a second during the block."""

    def send(ended: threading.Event) -> None:
        while not ended.wait(0.001):
            tool.process.send_signal(signal.SIGHUP)

    return in_background(send)


def test_signals_at_any_moment_from_start_to_end_only_reload(manager: socket.socket) -> None:
    variables = {"NOTIFY_SOCKET": manager.getsockname()}
    waiting: dict[str, Any] = {**APART, "preexec_fn": block_hangup, "variables": variables}
    said: list[str] = []
    with (
        veth_pair(addresses=False) as pair,
        launched(pair.far, *XDP_ON_FAR0, "-t", "100", "-c", "5", **waiting) as tool,
        hanging_up(tool),
    ):
        while "STOPPING=1" not in said:
            said += heard(manager)
        result = tool.wait()
    assert result.code == 0
    assert of_type(result.records, "end")[0]["intervals"] == 5
    told = [field for field in said if field in ("READY=1", "STOPPING=1") or field.startswith("RELOADING=1")]
    assert told[0] == "READY=1"
    assert told[1:-1] and told[1:-1] == ["RELOADING=1", "READY=1"] * (len(told[1:-1]) // 2)


def test_a_signal_that_waited_while_python_started_reloads_once_it_is_ready(manager: socket.socket) -> None:
    waiting: dict[str, Any] = {**APART, "preexec_fn": lambda: signal_before_exec(signal.SIGHUP)}
    variables = {"NOTIFY_SOCKET": manager.getsockname()}
    with (
        veth_pair(addresses=False) as pair,
        running(pair.far, *XDP_ON_FAR0, "-t", "100", variables=variables, **waiting) as tool,
    ):
        assert heard(manager) == ["READY=1"]
        assert_reloads(manager, NOTHING)
        tool.wait_for_intervals(2)
        result = tool.stop()
    assert result.code == 0
    assert result.said[len(started()) :] == [
        "SIGHUP: no certificates or users in files to read anew (settings: restart the service)"
    ]


def test_without_a_message_but_errors_a_reload_says_nothing(manager: socket.socket) -> None:
    variables = {"NOTIFY_SOCKET": manager.getsockname()}
    with (
        veth_pair(addresses=False) as pair,
        launched(pair.far, *XDP_ON_FAR0, "-t", "100", "-q", variables=variables, **APART) as tool,
    ):
        assert heard(manager) == ["READY=1"]
        tool.process.send_signal(signal.SIGHUP)
        assert_reloads(manager, NOTHING)
        result = tool.stop()
    assert (result.code, result.said) == (0, [])


def test_a_terminals_end_ends_a_run_that_has_inherited_a_managers_socket(manager: socket.socket) -> None:
    with veth_pair() as pair, closing(Terminal(24, 80)) as terminal:
        command = pair.far.command(sys.executable, "-m", "xtrace", "-i", "far0", "-o", "none")
        with bounded(controlled(terminal, *command, NOTIFY_SOCKET=manager.getsockname())) as process:
            assert heard(manager) == ["READY=1"]
            process.send_signal(signal.SIGHUP)
            assert process.wait(LIMIT_S) == 0
        assert heard(manager) == ["STOPPING=1"]

"""Queries of NCCL's RAS service, with a double of it on loopback; the whole tool's in tests/nccl."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from tests.nccl.ras_double import Service, communicator, document, missing, rank, serving
from xtrace.monitors.nccl import ras
from xtrace.monitors.nccl.ras import RasClient, RasPoller
from xtrace.monitors.nccl.ras_status import RasError

LIMIT_S = 60.0
STATUS = document(communicator(2, [rank(0, {"AllReduce": 12}), rank(1, {"AllReduce": 10})], []))


def address_of(service: Service) -> tuple[str, int]:
    return "127.0.0.1", service.server_address[1]


@contextmanager
def answering(*parts: bytes, ends: bool = True) -> Iterator[tuple[str, int]]:
    """A server that sends this to whoever connects, whatever is said to it."""
    held = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for part in parts:
                    connection.sendall(part)
                if ends:
                    connection.shutdown(socket.SHUT_WR)
                held.wait(LIMIT_S)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            held.set()
            thread.join()


def test_answer_is_all_that_the_service_sends_until_it_closes() -> None:
    with serving(STATUS) as service, RasClient(address_of(service)) as client:
        assert client.status() == STATUS
        assert service.commands == ["CLIENT PROTOCOL 2", "SET FORMAT json", "VERBOSE STATUS"]


def test_answers_may_come_in_any_pieces() -> None:
    with answering(b"SERVER PRO", b"TOCOL 2\nO", b"K\n{", b"}") as address, RasClient(address) as client:
        assert client.status() == b"{}"


@pytest.mark.parametrize(
    "parts, why",
    [
        ([b"HTTP/1.1 400 Bad Request\n"], "answered 'HTTP/1.1 400 Bad Request': not NCCL's RAS service"),
        ([b"SERVER PROTOCOL 2\nERROR\n"], "no JSON support: NCCL 2.28.7 or newer is needed"),
        ([b"SERVER PROTOCOL 2"], "closed the connection before the end of a line"),
        ([b"x" * 4097], "answered without a line end: not NCCL's RAS service"),
        ([b"SERVER PROTOCOL 2\nOK\n", b"x" * 101], "answer is longer than 100 bytes"),
    ],
    ids=["another service", "old NCCL", "cut line", "no line", "too long"],
)
def test_what_is_no_ras_service_is_told_in_a_few_words(
    parts: list[bytes], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ras, "MOST_BYTES", 100)
    monkeypatch.setattr(ras, "RECEIVE", 10)
    with answering(*parts) as address, RasClient(address) as client, pytest.raises(RasError) as caught:
        client.status()
    assert str(caught.value) == why


def test_answer_of_the_greatest_length_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ras, "MOST_BYTES", 100)
    monkeypatch.setattr(ras, "RECEIVE", 10)
    with answering(b"SERVER PROTOCOL 2\nOK\n", b"x" * 100) as address, RasClient(address) as client:
        assert client.status() == b"x" * 100


def test_service_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ras, "ANSWER_S", 0.05)
    with answering(ends=False) as address, RasClient(address) as client, pytest.raises((RasError, TimeoutError)):
        client.status()


def test_service_that_dribbles_is_given_up_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"SERVER PROTOCOL 2\nOK\n{", ends=False) as address, RasClient(address) as client:
        client._until = time.monotonic() - 1
        with pytest.raises(RasError, match=r"^no complete answer within 30 s$"):
            client.status()


@contextmanager
def polling(address: tuple[str, int], every_s: float = 3600.0) -> Iterator[RasPoller]:
    made = RasPoller(address, every_s)
    try:
        yield made
    finally:
        made.close()
        made._thread.join(LIMIT_S)
        assert not made._thread.is_alive()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_service_is_asked_at_once_and_its_report_is_taken_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with serving(STATUS) as service, polling(address_of(service)) as poller:
        eventually(lambda: poller.answers is not None)
        report = poller.take() or poller.take()
        eventually(lambda: bool(report) or (poller._latest is not None))
        report = report or poller.take()
        assert poller.take() is None
        assert len(service.commands) == 3, "the next query is an hour away"
    assert report is not None
    name = "127.0.0.1:{}".format(*service.server_address[1:])
    assert (report.address, report.nccl_version, poller.answers) == (name, "2.28.9", True)
    (found,) = report.communicators
    assert (found.ranks, found.skew, found.age_ns) == (2, 2, 0)
    assert abs(report.at_ns - time.time_ns()) < 3600 * 10**9
    assert caplog.messages == [f"RAS service {name} answers: NCCL 2.28.9"]


def test_service_is_asked_again_after_the_interval_and_a_change_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    with serving(STATUS) as service:
        address = address_of(service)
        with polling(address, every_s=0.001) as poller:
            eventually(lambda: len(service.commands) > 9)
            assert poller.answers
    with polling(address, every_s=0.001) as poller:
        eventually(lambda: poller.answers is False)
        assert poller.take() is None
        for _ in range(2):
            poller._ask()
    name = "{}:{}".format(*address)
    assert caplog.messages == [
        f"RAS service {name} answers: NCCL 2.28.9",
        f"RAS service {name}: Connection refused; retrying every 0 s",
    ]


def test_communicators_that_cannot_be_read_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    good, odd = communicator(2, [rank(0, {})], []), communicator(2, [{"rank": -1}], [])
    with serving(document(good, odd)) as service, polling(address_of(service), every_s=0.001):
        eventually(lambda: len(service.commands) > 9)
    warnings = [message for message in caplog.messages if "cannot parse" in message]
    assert warnings == ["RAS service 127.0.0.1:{}: cannot parse 1 communicators".format(*service.server_address[1:])]


def test_job_that_did_not_answer_this_time_is_kept_for_ten_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**communicator(2, [{**rank(0, {}), "pid": 77}], [missing(1)]), "hash": "0x77"}
    with serving(document(other)) as service, polling(address_of(service), every_s=3600.0) as poller:
        eventually(lambda: poller._latest is not None)
        poller.take()
        now = time.monotonic_ns()
        for hours, names in ((9, {"0x9f3c", "0x77"}), (11, {"0x9f3c"})):
            monkeypatch.setattr(time, "monotonic_ns", lambda hours=hours: now + hours * 3600 * 10**9)
            with serving(STATUS) as changed:
                monkeypatch.setattr(poller, "_address", address_of(changed))
                poller._ask()
            report = poller.take()
            assert report is not None
            assert {found.name.partition(":")[0] for found in report.communicators} == names


def test_ipv6_address_is_named_in_brackets() -> None:
    with polling(("::1", 1)) as poller:
        assert poller._name == "[::1]:1"


@pytest.mark.parametrize("takes_s, waits_s", [(0.0, 10.0), (4.0, 6.0), (10.0, 0.0), (25.0, 0.0)])
def test_the_time_that_a_query_takes_is_part_of_the_interval(
    takes_s: float, waits_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, waited = [100.0], list[float]()

    class Stop:
        def is_set(self) -> bool:
            return len(waited) == 2

        def wait(self, pause_s: float) -> None:
            waited.append(pause_s)

    def ask() -> None:
        now[0] += takes_s

    monkeypatch.setattr("xtrace.monitors.nccl.ras.time.monotonic", lambda: now[0])
    made = RasPoller.__new__(RasPoller)
    made._every_s, made._stop, made._ask = 10.0, cast("Any", Stop()), ask  # type: ignore[method-assign]
    made._run()
    assert waited == [waits_s, waits_s]

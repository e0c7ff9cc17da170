"""The health of TCP connections as text: what people read at night."""

from __future__ import annotations

import time

import pytest

from tests.unit.make import packed
from tests.unit.make_tcp import INTERVAL_NS, connection, snapshot, sums
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import Connection, Failure, NamespaceSums, Reason
from xtrace.model.tcp_health import judge
from xtrace.model.tcp_limits import LIMITS
from xtrace.model.words import Health
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.text.tcp import MOST_CONNECTIONS, TcpText, milliseconds


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.localtime", time.gmtime)


def lines(*connections: Connection, namespaces: tuple[NamespaceSums, ...] = (), top: int = 0) -> list[str]:
    text = TcpText(TextOptions(top))
    return "".join(text.lines(snapshot(*connections, namespaces=namespaces))).splitlines()


LOSSY = judge(
    connection(
        {lib.TCP_RETRANSMITTED: 31, lib.TCP_DATA_SENT: 1000, lib.TCP_BUSY: 4_900_000},
        {lib.TCP_RTT: 312},
        local=("10.0.0.2", 5201),
        remote=("fd00::1", 40000),
    ),
    INTERVAL_NS,
    LIMITS,
)


def test_connection_in_trouble_has_a_line_and_others_have_none() -> None:
    assert lines(connection(), LOSSY) == [
        "tcp 10.0.0.2:5201 -> [fd00::1]:40000 rtt=0.3ms warn: 3.1 % retransmitted (31 of 1000 data segments);"
        " limited by the network"
    ]


def test_worst_connections_come_first_and_the_rest_is_counted() -> None:
    worst = connection(health=Health.CRITICAL, reasons=("worst",))
    others = [connection(health=Health.WARN, reasons=("bad",)) for _ in range(MOST_CONNECTIONS + 1)]
    shown = lines(*others, worst)
    assert shown[0].endswith("critical: worst")
    assert len(shown) == MOST_CONNECTIONS + 1
    assert shown[-1] == "tcp and 2 more connections"
    assert lines(*others, top=1)[-1] == f"tcp and {MOST_CONNECTIONS} more connections"


def test_failures_and_sums_have_their_lines() -> None:
    broken = Failure(packed("fd00::9"), 443, Reason.RESET, True, 1)
    elsewhere = Failure(bytes(16), 0, Reason.TIMED_OUT, False, 7)
    both = sums(failures=(*sums().failures, broken, elsewhere), lost_ends=4)
    assert lines(namespaces=(both,)) == [
        "tcp connect to 10.0.0.1:81: refused, 3 times",
        "tcp connection with fd00::9 (port 443): reset",
        "tcp connect to other addresses: timed out, 7 times",
        "tcp 00:00:05 5.0s connections=812 began=3 ended=2 retransmitted=12 unseen=1 failed=10 broken=1"
        " rtt=0.3ms/1.3ms lost_ends=4 ok",
    ]


def test_what_is_not_known_is_no_number() -> None:
    unknown = sums(sums=(), retrans_segs=None, failures=(), rtts=(), health=Health.WARN, reasons=("failed: 4",))
    (line,) = lines(namespaces=(unknown,))
    assert "retransmitted=- unseen=- failed=0 broken=0 rtt=- warn: failed: 4" in line
    (line,) = lines(namespaces=(NamespaceSums(7, errors=("sock_diag: ENOENT",)),))
    assert line == "tcp 00:00:05 5.0s unavailable: sock_diag: ENOENT"


@pytest.mark.parametrize("us, text", [(None, "-"), (0, "0.000ms"), (99, "0.099ms"), (100, "0.1ms"), (12_345, "12.3ms")])
def test_round_trips_are_told_to_the_microsecond_where_that_is_much(us: int | None, text: str) -> None:
    assert milliseconds(us) == text


def test_the_middle_and_the_longest_round_trip_are_told() -> None:
    for rtts, text in (((100, 200), "0.2ms/0.2ms"), ((100, 200, 900), "0.2ms/0.9ms"), ((700,), "0.7ms/0.7ms")):
        assert f" rtt={text} " in lines(namespaces=(sums(rtts=rtts),))[-1]

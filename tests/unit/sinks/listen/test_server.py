"""The server on loopback: pages, keep-alive, limits on clients that are slow, many, or malformed."""

from __future__ import annotations

import gzip
import http.client
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from tests.unit.make import flow, key, snapshot
from xtrace.errors import UsageError
from xtrace.sinks import Run
from xtrace.sinks.identity import Identity
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.listen import connection as limits
from xtrace.sinks.listen import pages
from xtrace.sinks.listen import server as server_module
from xtrace.sinks.listen.connection import State
from xtrace.sinks.listen.endpoint import Endpoint
from xtrace.sinks.listen.http import Request, Response
from xtrace.sinks.listen.server import MOST_CONNECTIONS, Server
from xtrace.sinks.listen.sink import Listen
from xtrace.sinks.metrics.feed import Feed
from xtrace.sinks.metrics.latest import Latest
from xtrace.sinks.metrics.sample import Interval, Metric, Sample

GIVE_UP_S = 30.0
RUN = Run("0.1.0", 5.0, ("xdp",), {})


class Site:
    """A sink of --listen with the feed that fills it."""

    def __init__(self, where: tuple[str, int] | str = ("127.0.0.1", 0)) -> None:
        self.endpoint = Endpoint(where)
        self.listen = Listen(self.endpoint, Identity("n1"))
        self.feed = Feed(MetricsOptions(10), [self.listen.outlet])
        self.address = self.endpoint.socket.getsockname()

    def start(self, *modes: str) -> None:
        run = Run("0.1.0", 5.0, modes or ("xdp",), {})
        self.feed.start(run)
        self.listen.start(run)

    def tick(self, *flows: int) -> None:
        """End an interval in which flows from these ports had 1 packet of 100 bytes per unit of the port."""
        taken = snapshot([flow(key(ports=(port, 80)), port, 100 * port) for port in flows])
        for sink in (self.feed, self.listen):
            sink.write(taken)
        for sink in (self.feed, self.listen):
            sink.flush()

    def connect(self) -> socket.socket:
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        made = socket.socket(family)
        made.settimeout(GIVE_UP_S)
        made.connect(self.address)
        return made

    def get(self, target: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        with closing(http.client.HTTPConnection(self.address[0], self.address[1], timeout=GIVE_UP_S)) as client:
            client.request("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = client.getresponse()
            return answer.status, answer.read(), dict(answer.headers)

    @property
    def served(self) -> dict[str, int | float]:
        (sample,) = self.listen.outlet.own()
        return {name.split("_")[3]: value for name, value in sample.values.items()}


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with closing(made.listen):
        yield made


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_metrics_are_served_in_both_formats_and_compressed(site: Site) -> None:
    site.start()
    site.tick(3)
    status, text, headers = site.get("/metrics")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nxtrace_network_packets_total{" in text and b"_created" not in text
    status, packed, headers = site.get("/metrics", Accept="application/openmetrics-text", Accept_Encoding="gzip")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0;")
    assert headers["Content-Encoding"] == "gzip" and gzip.decompress(packed).endswith(b"# EOF\n")
    assert headers["Vary"] == "Accept, Accept-Encoding"
    eventually(lambda: site.served["requests"] == 2)


def test_flows_are_those_of_the_last_interval_the_largest_on_request(site: Site) -> None:
    site.start()
    assert site.get("/flows")[0] == 503
    site.tick(9)
    site.tick(1, 2, 3)
    status, body, headers = site.get("/flows")
    records = [orjson.loads(line) for line in body.splitlines()]
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    assert sorted(record["src_port"] for record in records if record["type"] == "flow") == [1, 2, 3]
    assert records[0]["host"] == "n1"
    records = [orjson.loads(line) for line in site.get("/flows?top=1")[1].splitlines()]
    assert [(record["type"], record["packets"]) for record in records] == [("flow", 3), ("other", 3), ("interface", 6)]
    assert [site.get(f"/flows?top={text}")[0] for text in ("x", "-1", "%C2%B2", "9" * 11)] == [400] * 4


def test_flows_exist_only_in_mode_xdp(site: Site) -> None:
    site.start("rdma")
    assert site.get("/flows")[0] == 404


def test_few_clients_read_flows_at_a_time(site: Site) -> None:
    site.start()
    site.tick(*range(1, 60000))  # more than the sockets buffer
    with ExitStack() as opened:
        clients = [opened.enter_context(closing(site.connect())) for _ in range(pages.MOST_STREAMS)]
        for client in clients:
            client.sendall(b"GET /flows HTTP/1.1\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert site.get("/flows")[0] == 503
        assert site.get("/metrics")[0] == 200
    eventually(lambda: site.get("/flows?top=1")[0] == 200)


def test_health_fails_if_intervals_stop_ending() -> None:
    now = 100.0
    made = pages.Pages(Identity("n1"), Latest(), clock=lambda: now)
    made.begin(5.0, True)

    def status() -> int:
        return made.answer(Request("GET", "/healthz", {})).status

    now = 119.0
    assert status() == 200
    now = 121.0
    assert status() == 503
    for number in (1, 2):
        made.tick()
        answer = made.answer(Request("GET", "/healthz", {}))
        assert (answer.status, answer.body) == (200, f"ok; intervals: {number}, the last ended 0.0 s ago\n".encode())


def test_connection_is_kept_and_requests_may_be_pipelined(site: Site) -> None:
    with closing(site.connect()) as client:
        client.sendall(
            b"GET /healthz HTTP/1.1\r\n\r\nHEAD /metrics HTTP/1.1\r\n\r\nGET /no HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        received = b"".join(iter(lambda: client.recv(4096), b""))
    assert [line.split()[1] for line in received.splitlines() if line.startswith(b"HTTP/1.1")] == [
        b"200",
        b"200",
        b"404",
    ]


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_large_header_is_refused_with_an_answer(site: Site, size: int) -> None:
    with closing(site.connect()) as client:
        try:
            client.sendall(b"GET / HTTP/1.1\r\nA: " + b"x" * size + b"\r\n\r\n")
        except (ConnectionResetError, BrokenPipeError):
            assert size > limits.MOST_LINGER
        else:
            assert client.recv(4096).startswith(b"HTTP/1.1 431 ")
    eventually(lambda: site.served["refused"] == 1)
    assert site.get("/healthz")[0] == 200


def test_slow_heads_and_idle_connections_are_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 0.3)
    monkeypatch.setattr(limits, "IDLE_S", 0.3)
    with closing(site.connect()) as slow, closing(site.connect()) as idle:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        idle.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        assert (slow.recv(1), idle.recv(1)) == (b"", b"")
    assert site.served["refused"] == 1, "only the slow one"


def test_reader_that_does_not_read_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPLY_S", 0.3)
    site.start()
    site.tick(*range(1, 60000))
    with closing(site.connect()) as client:
        client.sendall(b"GET /flows HTTP/1.1\r\n\r\n")
        eventually(lambda: site.served["refused"] == 1)


def test_500_connections_do_not_keep_others_out(site: Site) -> None:
    with ExitStack() as opened:
        for number in range(500):
            client = opened.enter_context(closing(site.connect()))
            client.sendall((b"", b"G", b"GET /metrics HTTP/1.1\r\n")[number % 3])
        assert site.get("/")[0] == 200
        eventually(lambda: site.served["refused"] >= 500 - MOST_CONNECTIONS)
        assert len(site.listen._server._connections) <= MOST_CONNECTIONS


def test_unix_socket_is_for_its_owner_replaces_a_leftover_and_disappears(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(path))
    leftover.close()
    site = Site(str(path))
    with closing(site.listen), closing(site.connect()) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
        with pytest.raises(UsageError, match=r"^--listen .*: Address already in use \("):
            Endpoint(str(path))
    assert not path.exists()


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("mine")
    with pytest.raises(UsageError, match="Address already in use"):
        Endpoint(str(path))
    assert path.read_text() == "mine"


def test_address_that_cannot_be_used_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"^--listen 192\.0\.2\.1:80: .+ \(choose an address of this host"):
        Endpoint(("192.0.2.1", 80))
    with pytest.raises(UsageError, match=r"^--listen nowhere\.invalid:80: "):
        Endpoint(("nowhere.invalid", 80))


def test_client_that_sends_more_than_one_request_gets_its_answer_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that closed at once would reset the connection, and with it what the client has not read yet."""
    monkeypatch.setattr(limits, "LINGER_S", GIVE_UP_S)
    site.start()
    with closing(site.connect()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := client.recv(4096):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            client.sendall(b"more")


class Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left, for a while."""

    def __init__(self, failures: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.setblocking(False)
        self.failures = failures
        self.failed_at: list[float] = []

    def accept(self) -> tuple[socket.socket, object]:
        if len(self.failed_at) < self.failures:
            self.failed_at.append(time.monotonic())
            raise OSError(24, "Too many open files")
        return super().accept()


def test_a_process_without_descriptors_tries_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PAUSE_S", 0.05)
    listener = Exhausted(3)
    with closing(Server(listener, lambda request: Response.text(HTTPStatus.OK, "here"))):
        for _ in range(2):  # it accepts again afterwards, for good
            with closing(socket.create_connection(listener.getsockname(), GIVE_UP_S)) as client:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
    first, second, third = listener.failed_at
    assert second - first >= 0.05 and third - second >= 0.05


def test_pages_say_what_there_is_and_what_is_wrong(site: Site) -> None:
    site.start()
    status, body, headers = site.get("/")
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert [line.split()[0] for line in body.decode().splitlines()] == [
        *("xtrace-catch", "/metrics", "/flows?top=N", "/healthz"),
    ]
    assert site.get("/nothing")[:2] == (404, b"not found; / lists what there is\n")
    status, body, headers = site.get("/flows")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert body == b"the first interval has not ended; it takes 5 s\n"
    site.tick(1)
    assert site.get("/flows?top=x")[:2] == (400, b"top must be a number of flows, such as /flows?top=10\n")
    assert [site.get(f"/flows?top={top}")[0] for top in (2147483648, 2147483649)] == [200, 400]


@pytest.mark.parametrize("since_s, status", [(0.0, 200), (11.0, 200), (11.1, 503)])
def test_health_lasts_for_three_intervals_and_five_seconds(since_s: float, status: int) -> None:
    now = [100.0]
    made = pages.Pages(Identity("n1"), Latest(), clock=lambda: now[0])
    made.begin(2.0, True)
    now[0] += 1
    made.tick()
    now[0] += since_s
    answer = made.answer(Request("GET", "/healthz", {}))
    assert answer.status == status
    told = (
        f"ok; intervals: 1, the last ended {since_s:.1f} s ago\n"
        if status == 200
        else "no interval has ended for 11 s\n"
    )
    assert answer.body.decode() == told


def test_a_scrape_is_rendered_and_packed_once_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    made, latest, packed = pages.Pages(Identity("n1"), Latest()), Latest(), list[bytes]()
    made._latest = latest

    def gzip_of(body: bytes) -> bytes:
        packed.append(body)
        return b"packed"

    monkeypatch.setattr(pages, "gzip", gzip_of)

    def scrape(number: int) -> list[Response]:
        latest.add([Sample((), {"a": number})], {"a": Metric("gauge", "", "A.")}, Interval(0, number))
        latest.publish()
        headers = [{}, {"accept-encoding": "gzip"}, {"accept-encoding": "gzip"}, {}]
        return [made.answer(Request("GET", "/metrics", {}, each)) for each in headers]

    for number in (1, 2):
        plain, first, second, again = scrape(number)
        assert plain.body.endswith(b'\na{host="n1"} %d\n' % number) and again.body is plain.body
        assert first.body == second.body == b"packed"
        assert "Content-Encoding" not in plain.headers and first.headers["Content-Encoding"] == "gzip"
        assert packed == [plain.body]
        packed.clear()


@pytest.mark.parametrize(
    "deadlines, accepts_at, waits_s",
    [([], 0.0, None), ([107.0, 103.5], 0.0, 3.5), ([99.0, 103.5], 0.0, 0.0), ([103.5], 101.0, 1.0), ([], 100.5, 0.5)],
)
def test_the_server_sleeps_until_the_next_deadline(
    deadlines: list[float], accepts_at: float, waits_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    made = Server.__new__(Server)
    made._connections = {at: SimpleNamespace(deadline=deadline) for at, deadline in enumerate(deadlines)}  # type: ignore[misc]
    made._accepts_at = accepts_at
    assert made._timeout() == waits_s


def test_connections_beyond_their_time_are_ended_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    made, ended = Server.__new__(Server), list[int]()
    made._connections = {at: SimpleNamespace(deadline=98.0 + at) for at in range(5)}  # type: ignore[misc]
    made._accepts_at = 0.0
    monkeypatch.setattr(made, "_end", ended.append)
    made._expire()
    assert ended == [0, 1, 2]


def test_the_connection_that_waits_longest_for_least_gives_way() -> None:
    made = Server.__new__(Server)
    states = [State.HEAD, State.REPLY, State.IDLE, State.LINGER, State.HANDSHAKE, State.IDLE]
    made._connections = {at: SimpleNamespace(state=state) for at, state in enumerate(states)}  # type: ignore[misc]
    assert list(made._giving_way()) == [3, 2, 5, 4, 0, 1]


def test_without_tls_its_module_is_not_loaded() -> None:
    code = """
import sys
from xtrace.sinks.identity import Identity
from xtrace.sinks.listen.endpoint import Endpoint
from xtrace.sinks.listen.sink import Listen
Listen(Endpoint(("127.0.0.1", 0)), Identity("n1")).close()
print([name for name in sys.modules if name == "ssl" or name.endswith("web_config")])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"

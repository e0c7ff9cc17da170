"""--listen, scraped by real servers: each scrape is exactly what the JSON Lines had printed by then."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.netns.tool import eventually
from tests.push.compare import FLOW_LABELS, LINES, ms
from tests.push.double import Answer, double
from tests.push.scrapers import scraping
from tests.push.server import Stores, free_port
from tests.push.shipped import DESCRIBED
from tests.push.test_outages import lateness
from tests.push.wire import wire
from tests.support.background import in_background
from tests.support.net import of_type
from xtrace.sinks.metrics.latest import Latest
from xtrace.sinks.metrics.sample import Interval, Sample
from xtrace.sinks.metrics.scrape import Renderer

END = "xtrace_catch_interval_end_timestamp_seconds"
AS_JSON = ("-o", "json", "-t", "500ms")


def fetch(port: int, target: str = "/metrics", **headers: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request("GET", target, headers=headers)
        return client.getresponse().read()


def cumulative(lines: LINES, kind: str, labels: tuple[str, ...], unit: str) -> dict[int, Counter[tuple[str, ...]]]:
    """Return sums over all intervals that had ended by a time, by that time and the values of labels."""
    sums: Counter[tuple[str, ...]] = Counter()
    found = {}
    ticks = sorted({ms(record["ts"]) for record in of_type(lines, "interface")})
    for at_ms in ticks:
        for record in of_type(lines, kind):
            if ms(record["ts"]) == at_ms and "opcode" not in record:
                sums[tuple(str(record[label]) for label in labels)] += record[unit]
        found[at_ms] = Counter(sums)
    return found


def assert_each_scrape_is_exact(server: Stores, lines: LINES, unit: str) -> int:
    """Assert that every value of every scrape is the sum of the records by then; return the number of scrapes."""
    (ends,) = server.export(END).values()
    tick_of = {at_ms: round(value * 1000) for at_ms, value in ends}
    checks = (
        ("flow", (*FLOW_LABELS, "interface", "direction"), f"xtrace_network_{unit}_total"),
        ("interface", ("interface", "direction"), f"xtrace_interface_{unit}_total"),
    )
    for kind, names, metric in checks:
        expected = cumulative(lines, kind, names, unit)
        seen: dict[int, Counter[tuple[str, ...]]] = {at_ms: Counter() for at_ms in tick_of}
        for labels, samples in server.export(metric).items():
            named = dict(labels)
            if "opcode" not in named:
                for at_ms, value in samples:
                    seen[at_ms][tuple(named[name] for name in names)] += int(value)
        for at_ms, found in seen.items():
            assert +found == +expected[tick_of[at_ms]], (kind, at_ms)
    return len(tick_of)


@pytest.mark.parametrize("name", ["prometheus", "victoria-metrics"])
def test_every_scrape_equals_the_json_lines_up_to_then(name: str) -> None:
    port, launched = free_port(), round(time.time() * 1000)
    with wire() as wired, wired.traffic(), scraping(name, f"127.0.0.1:{port}") as server:
        with wired.watching(*AS_JSON, "--listen", f"127.0.0.1:{port}") as tool:
            tool.wait_for_intervals(2)
            assert eventually(lambda: any(len(samples) >= 5 for samples in server.export(END).values()))
            tool.wait_for_intervals(1)
            result = tool.stop()
        assert result.code == 0, result.said
        for unit in ("packets", "bytes"):
            scrapes = assert_each_scrape_is_exact(server, result.records, unit)
            assert scrapes >= 5
        if name == "prometheus":  # which asks for OpenMetrics
            created = server.export("xtrace_interface_packets_created")
            first = min(ms(record["ts"]) for record in of_type(result.records, "interface"))
            found = {round(value * 1000) for samples in created.values() for _, value in samples}
            (began,) = found  # with the first interval
            assert launched <= began < first


def test_push_and_scrape_have_the_same_series() -> None:
    port = free_port()
    with (
        wire() as wired,
        wired.traffic(20),
        double(lambda n: Answer()) as server,
        wired.watching(*AS_JSON, "--push", server.base, "--listen", f"127.0.0.1:{port}") as tool,
    ):
        tool.wait_for_intervals(6)
        scraped = fetch(port).decode()
        assert tool.stop().code == 0

    def series(text: str) -> set[str]:
        return {line.rsplit("} ", 1)[0] for line in text.splitlines() if not line.startswith("#")}

    pushed = set().union(*(series(request.text) for request in server.requests))
    assert "xtrace_interface_packets_total" in scraped
    assert series(scraped) <= pushed


def lint(exposition: bytes) -> str:
    """Return what promtool says."""
    checked = subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True)
    return (checked.stdout + checked.stderr).decode()


def test_promtool_has_nothing_to_say_about_a_live_scrape() -> None:
    port = free_port()
    with wire() as wired, wired.traffic(20), wired.watching(*AS_JSON, "--listen", f"127.0.0.1:{port}") as tool:
        tool.wait_for_intervals(4)
        exposition = fetch(port)
        assert tool.stop().code == 0
    assert b"xtrace_network_bytes_total{" in exposition
    assert lint(exposition) == ""


def test_promtool_has_nothing_to_say_about_any_metric() -> None:
    latest = Latest()
    latest.add([Sample((), dict.fromkeys(DESCRIBED, 1))], DESCRIBED, Interval(0, 1))
    latest.publish()
    assert lint(Renderer(()).body(latest.view, False)) == ""


def hostile(port: int) -> AbstractContextManager[None]:
    """Slow heads, 10,000 bytes of headers and 500 connections, again and again during the block."""

    def attack(ended: threading.Event) -> None:
        while not ended.is_set():
            with ExitStack() as opened:
                for number in range(500):
                    with suppress(ConnectionError):
                        client = opened.enter_context(socket.create_connection(("127.0.0.1", port), 30))
                        client.sendall((b"G", b"GET / HTTP/1.1\r\nA: " + b"x" * 10_000, b"\x16\x03\x01")[number % 3])

    return in_background(attack)


def test_hostile_clients_disturb_neither_the_ticks_nor_the_scrapes() -> None:
    port = free_port()
    with (
        wire() as wired,
        wired.traffic(),
        wired.watching(*AS_JSON, "--listen", f"127.0.0.1:{port}") as tool,
        wired.watching(*AS_JSON, "--hook", "tc") as control,
        scraping("prometheus", f"127.0.0.1:{port}") as server,
    ):
        tool.wait_for_intervals(2)
        with hostile(port):
            assert eventually(lambda: any(len(samples) >= 5 for samples in server.export(END).values()))
            refused = re.findall(rb"\nxtrace_catch_listen_refused_total{.*} (\d+)\n", fetch(port))
        result, others = tool.stop(), control.stop()
        for unit in ("packets", "bytes"):
            assert_each_scrape_is_exact(server, result.records, unit)
    assert (result.code, others.code) == (0, 0), result.said
    assert int(refused[0]) > 500
    print(f"latest tick: {max(lateness(result.records))} ms, of a run without: {max(lateness(others.records))} ms")


def test_tls_with_client_certificates_by_the_exporters_configuration(tmp_path: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(tmp_path / "k.pem"))
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    made = ("openssl", "req", "-x509", *names, *key, "-out", str(tmp_path / "c.pem"))
    subprocess.run(made, check=True, capture_output=True)
    (tmp_path / "web.yml").write_text(
        "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n"
        "  client_ca_file: c.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
    )
    port = free_port()

    def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        ca = ("--cacert", str(tmp_path / "c.pem"))
        return subprocess.run(["curl", "-sS", *ca, *arguments, f"https://localhost:{port}/flows"], capture_output=True)

    with wire() as wired, wired.traffic():
        options = ("--listen", f"127.0.0.1:{port}", "--listen-config", str(tmp_path / "web.yml"))
        with wired.watching(*AS_JSON, *options) as tool:
            tool.wait_for_intervals(2)
            certificate = ("--cert", str(tmp_path / "c.pem"), "--key", str(tmp_path / "k.pem"))
            accepted, refused = curl(*certificate), curl()
            plain: Any = subprocess.run(["curl", "-sS", f"http://localhost:{port}/"], capture_output=True)
            assert tool.stop().code == 0
    assert accepted.returncode == 0 and accepted.stdout.startswith(b'{"type":"flow"')
    assert refused.returncode != 0 and plain.returncode != 0
    assert refused.stdout == plain.stdout == b""


def test_basic_authentication_by_the_exporters_configuration(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  alice: {SECRET}\n")
    port = free_port()

    def status(*arguments: str) -> str:
        shown = ("-sS", "-o", str(tmp_path / "page"), "-w", "%{http_code}")
        return subprocess.check_output(["curl", *shown, *arguments, f"http://localhost:{port}/metrics"], text=True)

    options = ("--listen", f"127.0.0.1:{port}", "--listen-config", str(tmp_path / "web.yml"))
    with wire() as wired, wired.traffic(), wired.watching(*AS_JSON, *options) as tool:
        tool.wait_for_intervals(2)
        assert [status("-u", "alice:U*U"), status(), status("-u", "alice:U*U")] == ["200", "401", "200"]
        assert b"xtrace_network_bytes_total" in (tmp_path / "page").read_bytes()
        assert status("-u", "alice:U*V") == "401"
        assert tool.stop().code == 0


SECRET = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
"""Of the password U*U."""

"""The recipes of docs/fleet.md, run as they stand, with other ports and a shorter scrape interval."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.netns.tool import bounded, eventually
from tests.push import otlp
from tests.push.compare import assert_server_has_all
from tests.push.double import Answer, double
from tests.push.scrapers import prometheus_server
from tests.push.server import free_port, victoria_metrics
from tests.push.test_scrape import AS_JSON, assert_each_scrape_is_exact
from tests.push.wire import wire
from tests.support.net import ROOT

DOCUMENT = (ROOT / "docs" / "fleet.md").read_text()
CREATED, COUNTER = '{__name__=~".*_created"}', "xtrace_interface_packets_total"


def block(name: str) -> str:
    """Return the text of a documented recipe."""
    found = re.search(rf"<!-- recipe: {name} -->\n((?:(?:    .*)?\n)+)", DOCUMENT)
    assert found is not None
    return re.sub(r"^    ", "", found.group(1), flags=re.MULTILINE).strip() + "\n"


def recipe(target: str) -> str:
    """Return the documented prometheus.yml for another target, with scrapes every second."""
    text = block("prometheus.yml")
    assert "127.0.0.1:9469" in text and "scrape_interval: 15s" in text
    return text.replace("127.0.0.1:9469", target).replace("scrape_interval: 15s", "scrape_interval: 1s")


@contextmanager
def configured(target: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
        config.write(recipe(target))
        config.flush()
        yield config.name


def documented_command(program: str) -> list[str]:
    found = re.search(rf"^    ({program} .*)$", DOCUMENT, flags=re.MULTILINE)
    assert found is not None
    return found.group(1).split()


def test_prometheus_takes_the_recipe_and_drops_times_of_creation() -> None:
    port = free_port()
    with configured(f"127.0.0.1:{port}") as config:
        checked = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        with (
            wire() as wired,
            wired.traffic(20),
            wired.watching(*AS_JSON, "--listen", f"127.0.0.1:{port}") as tool,
            prometheus_server(config=Path(config).read_text()) as server,
        ):
            assert eventually(lambda: any(len(samples) >= 3 for samples in server.export(COUNTER).values()))
            assert server.export(CREATED) == {}
            assert_each_scrape_is_exact(server, tool.stop().records, "packets")


def test_victoria_metrics_takes_the_recipe() -> None:
    port = free_port()
    with (
        configured(f"127.0.0.1:{port}") as config,
        victoria_metrics(f"-promscrape.config={config}") as server,
        wire() as wired,
        wired.traffic(20),
        wired.watching(*AS_JSON, "--listen", f"127.0.0.1:{port}") as tool,
    ):
        assert eventually(lambda: any(len(samples) >= 3 for samples in server.export(COUNTER).values()))
        assert_each_scrape_is_exact(server, tool.stop().records, "bytes")


CLUSTER = re.findall(r"--push http://vmauth:8427(\S+)", block("cluster"))


def single(path: str) -> str:
    """Return what a path of a cluster is without one."""
    reading = re.sub(r"^/select/[\d:]+/prometheus", "", path)
    return re.sub(r"^/insert/[\d:]+/(prometheus/|(?=opentelemetry))", "/", reading)


@pytest.mark.parametrize("path", CLUSTER, ids=lambda path: path.rpartition("/")[2])
def test_paths_of_a_cluster_are_those_of_its_parts(path: str) -> None:
    """A tenant gets everything; a batch whose answer was lost is found below /select and not sent again."""
    is_otlp = path.endswith(otlp.PATH)

    def answer(number: int) -> Answer | None:
        return None if number != 3 else Answer(is_lost=True)

    with (
        otlp.receiving() if is_otlp else victoria_metrics() as server,
        double(answer, server.base, rewrite=single) as between,
        wire() as wired,
        wired.traffic(20),
    ):
        with wired.watching(*AS_JSON, "--push", between.base + path) as tool:
            tool.wait_until_it_says(b"delivering again after")
            result = tool.stop()
        assert result.code == 0, result.said
        found = otlp.ByOtlp(server) if is_otlp else server
        assert_server_has_all(found, result.records)
        for samples in found.export("xtrace_network_flow_bytes").values():
            assert len({at_ms for at_ms, _ in samples}) == len(samples), "a sample is stored twice"
        reading = f"/select/{path.split('/')[2]}/prometheus/api/v1/export"
        assert {urlsplit(request.target).path for request in between.requests} == {path, reading}


def test_vmagent_forwards_scrapes_to_prometheus_in_order() -> None:
    port, own_port = free_port(), free_port()
    with (
        configured(f"127.0.0.1:{port}") as config,
        prometheus_server("--web.enable-remote-write-receiver") as server,
        tempfile.TemporaryDirectory() as queue,
        wire() as wired,
        wired.traffic(20),
        wired.watching(*AS_JSON, "--listen", f"127.0.0.1:{port}") as tool,
    ):
        command = [
            part.replace("prometheus.yml", config).replace("http://localhost:9090", server.base)
            for part in documented_command("vmagent")
        ]
        assert "-remoteWrite.queues=1" in command
        own = (f"-remoteWrite.tmpDataPath={queue}", f"-httpListenAddr=127.0.0.1:{own_port}")
        with bounded(subprocess.Popen([*command, *own], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)):
            assert eventually(lambda: any(len(samples) >= 3 for samples in server.export(COUNTER).values()))
            records = tool.stop().records
        assert_each_scrape_is_exact(server, records, "packets")
        assert server.log() == "", "nothing out of order"

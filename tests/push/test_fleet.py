"""The recipes of docs/fleet.md, run as they stand, with other ports and a shorter scrape interval."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.netns.tool import bounded, eventually
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

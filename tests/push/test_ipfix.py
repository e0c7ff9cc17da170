"""--ipfix: what collectors read equals the JSON Lines of the same run, to the packet, although they were away."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from tests.netns.tool import Result, Tool, eventually
from tests.push.collectors import Flows, collecting, is_read, receiving
from tests.push.wire import Wire, wire
from tests.support.net import of_type

FLOOD_FLOWS = 1 << 16
"""Of each source net."""
FLAGS = ("--max-flows", "200000", "-o", "json")
SENT = b"ipfix to 127.0.0.1:"


def printed(result: Result) -> Flows:
    """Return packets by flow, from JSON Lines. RoCE has no UDP source port, which the flow's key has no room for."""
    found: Flows = Counter()
    for record in of_type(result.records, "flow"):
        ports = (0, 4791) if record["traffic_type"] == "RoCE_v2" else (record["src_port"], record["dst_port"])
        found[(record["src_ip"], record["dst_ip"], *ports, record["protocol"])] += record["packets"]
    return found


def flood(wired: Wire, net: int) -> None:
    """Send at least a packet of each of very many flows, but for those that the veth drops."""
    arguments = ("--source-net", str(net), "--flows", str(FLOOD_FLOWS))
    assert wired.far.flood(wired.sender, 3 * FLOOD_FLOWS, *arguments).wait(60) == 0


def pause(tool: Tool, port: int) -> None:
    """Stop the tool once the collector has read everything: nothing is on its way."""
    tool.process.send_signal(SIGSTOP)
    assert eventually(lambda: is_read(port))


@pytest.mark.parametrize("name", ["nfdump", "pmacct"])
def test_collector_killed_in_between_has_every_packet_of_100_000_flows(name: str, tmp_path: Path) -> None:
    with collecting(name, tmp_path) as collector, wire() as wired:
        with wired.watching("-t", "4s", *FLAGS, "--ipfix", f"127.0.0.1:{collector.port}") as tool:
            flood(wired, 1)
            tool.wait_for_intervals(2)
            pause(tool, collector.port)
            collector.stop()
            tool.process.send_signal(SIGCONT)
            flood(wired, 2)
            tool.wait_until_it_says(SENT)
            collector.start()
            tool.wait_until_it_says(b"sending again")
            tool.wait_for_intervals(3)
            result = tool.stop()
        assert eventually(lambda: is_read(collector.port))
        collector.stop()
        expected = printed(result)
        found = collector.packets()
    assert result.code == 0, result.said
    assert len(expected) >= 100_000
    assert found == expected


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_tshark_finds_every_packet_and_no_fault(protocol: str, tmp_path: Path) -> None:
    options = ("--exclude-net", "10.1.128.0/17", "--max-flows", "1000")
    with receiving(protocol) as collector, wire() as wired:
        with wired.watching(
            "-t", "2s", "-o", "json", *options, "--ipfix", f"{protocol}:127.0.0.1:{collector.port}"
        ) as tool:
            flood(wired, 1)
            tool.wait_for_intervals(3)
            result = tool.stop()
        collector.stop()
        messages = collector.shown(tmp_path, "cflow.packets", "cflow.ignore_packets", *SELECTED)
    assert result.code == 0, result.said
    assert not [message for message in messages if "_ws.expert.message" in message]
    last = {name: int(message[name][-1]) for message in messages for name in message if name != "cflow.packets"}
    found = sum(int(packets) for message in messages for packets in message.get("cflow.packets", ()))
    assert found == sum(printed(result).values()) > 0
    interfaces = of_type(result.records, "interface")
    total, filtered, unattributed = (
        sum(record[name] for record in interfaces) for name in ("packets", "filtered_packets", "unattributed_packets")
    )
    assert filtered and unattributed
    assert last == dict(zip(("cflow.ignore_packets", *SELECTED), (unattributed, total, total - filtered), strict=True))


SELECTED = ("cflow.selector_id_total_pkts_observed", "cflow.selector_id_total_pkts_selected")

"""What the tool counts in a real run, against rxe's own counters and tcpdump, at both ends."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.rdma.pair import Capture, Opcodes, PeerCapture, PeerTool, Tool, hardware_counters, traffic
from tests.rdma.peer import Peer
from tests.support.schema import validate

BOTH = ("-m", "xdp,rdma", "-i", "eth0", "--direction", "both", "-t", "1s")

RUNS = {
    "send": ["ib_send_bw", "-n", "100", "-s", "4096"],
    "write": ["ib_write_bw", "-n", "100", "-s", "4096"],
    "read": ["ib_read_bw", "-n", "100", "-s", "4096"],
    "send-ud": ["ib_send_bw", "-c", "UD", "-n", "100", "-s", "1024"],
    "write-uc": ["ib_write_bw", "-c", "UC", "-n", "50", "-s", "4096"],
    "atomic": ["ib_atomic_bw", "-A", "FETCH_AND_ADD", "-n", "50"],
}


def seen(records: Sequence[dict[str, Any]]) -> Opcodes:
    """RoCE packets of mode xdp's records by direction and opcode."""
    found: Opcodes = Counter()
    for record in records:
        if record["type"] == "flow" and record["traffic_type"] == "RoCE_v2":
            found["tx" if record["direction"] == "egress" else "rx", record["opcode"]] += record["packets"]
    return found


def deltas(records: Sequence[dict[str, Any]]) -> Counter[str]:
    """Growth of each hardware counter, by mode rdma's records."""
    grown: Counter[str] = Counter()
    for record in records:
        if record["type"] == "rdma_port":
            grown.update({name: reading["delta"] for name, reading in record["hw_counters"].items()})
    return grown


def figure(records: Sequence[dict[str, Any]], name: str) -> int:
    """What all intervals add up to."""
    return sum(record[name] for record in records if record["type"] == "rdma_port")


def total(opcodes: Opcodes, direction: str) -> int:
    return sum(count for (way, _), count in opcodes.items() if way == direction)


@pytest.mark.parametrize("name", RUNS)
def test_deltas_equal_the_drivers_counters_and_the_captured_packets_by_opcode_at_both_ends(
    name: str, peer: Peer, tmp_path: Path
) -> None:
    if name == "atomic" and platform.release().startswith("5.10."):
        pytest.skip("rxe of Linux 5.10 leaves atomics unanswered; of the thousands of repetitions it counts not all")
    captures = Capture(tmp_path / "here.pcap"), PeerCapture(peer, f"/tmp/{name}.pcap")
    tool, other = Tool(tmp_path, *BOTH), PeerTool(peer, *BOTH)
    before = hardware_counters()
    traffic(peer, *RUNS[name])
    captured, captured_there = (capture.finish() for capture in captures)
    there = other.stop()
    tool.stop()
    after = hardware_counters()
    here = [record for kind in ("flow", "rdma_port") for record in tool.records(kind)]
    assert captured, "nothing captured"
    assert seen(here) == captured
    assert seen(there) == captured_there
    assert deltas(here) == Counter({counter: after[counter] - before[counter] for counter in after})
    for records, opcodes in ((here, captured), (there, captured_there)):
        assert figure(records, "rx_packets") == total(opcodes, "rx")
        assert figure(records, "tx_packets") == total(opcodes, "tx")
    print(
        f"{name}: here {dict(captured)}, there {dict(captured_there)}, rxe {after['rcvd_pkts'] - before['rcvd_pkts']}"
    )
    validate(there)


def test_needs_no_privilege(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    tool = Tool(tmp_path, "-m", "rdma", "-t", "200ms", "-c", "2", user="nobody")
    assert tool.process.wait() == 0, tool.errors.read_text()
    assert [record["status"] for record in tool.records("rdma_port")[-1]["hw_counters"].values()].count("ok") > 5

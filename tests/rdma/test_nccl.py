"""Mode nccl beside real queue pairs: a program that has NCCL mapped and sends by RDMA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.nccl.native import native
from tests.rdma.pair import DEVICE, UNTIL_STOPPED, Server, Tool, start_client, stop_traffic, wait_until
from tests.rdma.peer import Peer


def test_process_with_nccl_has_the_devices_of_its_queue_pairs(peer: Peer, tmp_path: Path) -> None:
    tool = Tool(tmp_path, "-m", "nccl", "-t", "500ms")
    assert tool.records("rdma_port") == [], "nobody uses NCCL yet"
    server = Server("env", f"LD_PRELOAD={native('libnccl.so.2')}", *UNTIL_STOPPED)
    start_client(peer, *UNTIL_STOPPED)

    def of_server() -> list[dict[str, Any]]:
        return [record for record in tool.records("nccl_process") if record["pid"] == server.pid]

    wait_until(lambda: [record for record in of_server() if record["queue_pairs"]], "queue pairs of the process")
    wait_until(lambda: tool.records("rdma_port"), "record of its port")
    stop_traffic(peer, server)
    tool.stop()
    record = next(record for record in of_server() if record["queue_pairs"])
    print(record)
    assert (record["devices"], record["queue_pairs"], record["probed"], record["calls"]) == ([DEVICE], 1, True, 0)
    # software RDMA counts no bytes before Linux 7: not known, and not 0
    counts_bytes = Path(f"/sys/class/infiniband/{DEVICE}/ports/1/counters").is_dir()
    assert [record[name] is not None for name in ("nic_tx_bytes", "nic_rx_bytes")] == [counts_bytes] * 2
    assert {record["device"] for record in tool.records("rdma_port")} == {DEVICE}

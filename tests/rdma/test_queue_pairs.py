"""Queue pairs of running programs: whose they are, and whose the RoCE rows are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.rdma.pair import (
    DEVICE,
    HERE,
    THERE,
    UNTIL_STOPPED,
    Server,
    Tool,
    start_client,
    stop_traffic,
    wait_until,
)
from tests.rdma.peer import Peer


def test_queue_pair_of_a_running_program_has_its_pid_command_and_remote_number(peer: Peer, tmp_path: Path) -> None:
    tool = Tool(tmp_path, "-m", "rdma", "--qps", "-t", "500ms")
    server = Server(*UNTIL_STOPPED)
    start_client(peer, *UNTIL_STOPPED)

    def of_server(kind: str) -> list[dict[str, Any]]:
        return [r for r in tool.records(kind) if r["pid"] == server.pid]

    wait_until(lambda: [r for r in of_server("rdma_qp") if r["remote_qpn"]], "record of the server's queue pair")
    wait_until(lambda: of_server("rdma_process"), "record of the server")
    stop_traffic(peer, server)
    tool.stop()
    record = [r for r in of_server("rdma_qp") if r["remote_qpn"]][-1]
    print(record)
    assert (record["device"], record["port"], record["qp_type"]) == (DEVICE, 1, "RC")
    assert record["state"] in ("RTR", "RTS")
    assert record["command"] == "ib_send_bw"
    assert of_server("rdma_process")[-1]["queue_pairs"] == 1
    assert {r["command"] for r in tool.records("rdma_qp") if r["pid"] is None} <= {"[ib_core]", None}


def test_roce_flows_have_source_queue_pair_and_process_of_the_join(peer: Peer, tmp_path: Path) -> None:
    tool = Tool(tmp_path, "-m", "xdp,rdma", "-i", "eth0", "--direction", "both", "--qps", "-t", "1s")
    server = Server(*UNTIL_STOPPED)
    start_client(peer, *UNTIL_STOPPED)
    wait_until(
        lambda: [r for r in tool.records("rdma_qp") if r["pid"] == server.pid and r["remote_qpn"]],
        "record of the server's queue pair",
    )

    def joined() -> list[dict[str, Any]]:
        return [r for r in tool.records("flow") if r["traffic_type"] == "RoCE_v2" and r["src_qpn"] is not None]

    wait_until(lambda: {r["direction"] for r in joined()} == {"ingress", "egress"}, "flows of both directions, joined")
    stop_traffic(peer, server)
    tool.stop()
    pair = next(r for r in tool.records("rdma_qp") if r["pid"] == server.pid and r["remote_qpn"])
    expected = {
        "ingress": (THERE, pair["remote_qpn"], pair["qpn"]),
        "egress": (HERE, pair["qpn"], pair["remote_qpn"]),
    }
    for flow in joined():
        assert (flow["src_ip"], flow["src_qpn"], flow["dst_qpn"]) == expected[flow["direction"]]
        assert (flow["pid"], flow["command"]) == (server.pid, "ib_send_bw")


def test_text_rows_name_the_source_queue_pair_and_the_process(peer: Peer, tmp_path: Path) -> None:
    tool = Tool(tmp_path, "-m", "xdp,rdma", "-i", "eth0", "-t", "1s", form="text")
    server = Server(*UNTIL_STOPPED)
    start_client(peer, *UNTIL_STOPPED)

    def rows() -> list[str]:
        lines = tool.output.read_text().splitlines()
        return [line for line in lines if f"pid={server.pid} ib_send_bw" in line and " -> " in line]

    wait_until(rows, "row of the server's process")
    stop_traffic(peer, server)
    tool.stop()
    assert not any(row.startswith("?") for row in rows())

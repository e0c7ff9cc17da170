"""Queue pairs of running programs: whose they are, and whose the RoCE rows are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.rdma.pair import DEVICE, HERE, THERE, Server, Tool, start_client, wait_until
from tests.rdma.peer import Peer

LONG = ["ib_send_bw", "-n", "1000", "-s", "4096"]


def test_queue_pair_of_a_running_program_has_its_pid_command_and_remote_number(peer: Peer, tmp_path: Path) -> None:
    tool = Tool(tmp_path, "-m", "rdma", "--qps", "-t", "500ms")
    server = Server(*LONG)
    client = start_client(peer, *LONG)

    def of_server(kind: str) -> list[dict[str, Any]]:
        return [r for r in tool.records(kind) if r["pid"] == server.pid]

    wait_until(lambda: [r for r in of_server("rdma_qp") if r["remote_qpn"]], "record of the server's queue pair")
    wait_until(lambda: of_server("rdma_process"), "record of the server")
    peer.wait(client)
    server.finish()
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
    server = Server(*LONG)
    client = start_client(peer, *LONG)
    wait_until(
        lambda: [r for r in tool.records("rdma_qp") if r["pid"] == server.pid and r["remote_qpn"]],
        "record of the server's queue pair",
    )
    peer.wait(client)
    server.finish()
    tool.stop()
    flows = [r for r in tool.records("flow") if r["traffic_type"] == "RoCE_v2"]
    pair = next(r for r in tool.records("rdma_qp") if r["pid"] == server.pid and r["remote_qpn"])
    expected = {
        "ingress": (THERE, pair["remote_qpn"], pair["qpn"]),
        "egress": (HERE, pair["qpn"], pair["remote_qpn"]),
    }
    joined = [r for r in flows if r["src_qpn"] is not None]
    print(*joined[:2], sep="\n")
    assert {r["direction"] for r in joined} == {"ingress", "egress"}
    for flow in joined:
        assert (flow["src_ip"], flow["src_qpn"], flow["dst_qpn"]) == expected[flow["direction"]]
        assert (flow["pid"], flow["command"]) == (server.pid, "ib_send_bw")


def test_text_rows_name_the_source_queue_pair_and_the_process(peer: Peer, tmp_path: Path) -> None:
    tool = Tool(tmp_path, "-m", "xdp,rdma", "-i", "eth0", "-t", "1s", form="text")
    server = Server(*LONG)
    client = start_client(peer, *LONG)
    peer.wait(client)
    server.finish()
    tool.stop()
    text = tool.output.read_text()
    rows = [line for line in text.splitlines() if f"pid={server.pid} ib_send_bw" in line and " -> " in line]
    print(text[-6000:])
    assert rows and not any(row.startswith("?") for row in rows)

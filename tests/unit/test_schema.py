"""The documented schema itself: complete, and strict enough to notice a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.schema import complaint, schema, validate
from tests.unit import make_paths, make_rdma, make_tcp
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.model.words import Direction, Health
from xtrace.sinks.jsonl import tcp_paths
from xtrace.sinks.jsonl.rdma import port_summary, rdma_records
from xtrace.sinks.jsonl.tcp import connection_record, sums_record

Record = dict[str, Any]

COMMON: Record = {
    "ts": "2026-01-01T00:00:05.000Z",
    "interval_s": 5.0,
    "host": "n1",
    "interface": "eth0",
    "direction": "ingress",
}
COUNTS: Record = {
    "packets": 12,
    "bytes": 1200,
    "unattributed_packets": 7,
    "unattributed_bytes": 700,
    "filtered_packets": 5,
    "filtered_bytes": 500,
}
FLOW: Record = {
    "type": "flow",
    **COMMON,
    "src_ip": "192.168.1.100",
    "src_port": 80,
    "dst_ip": "fd00::1",
    "dst_port": 12345,
    "protocol": 17,
    "traffic_type": "UDP",
    "packets": 10,
    "bytes": 1500,
    "units": "wire",
    "first_seen": "2026-01-01T00:00:01.000Z",
    "last_seen": "2026-01-01T00:00:02.000Z",
}
OWNER: Record = {
    "owner": "created",
    "pid": 4711,
    "command": "nginx",
    "uid": 33,
    "cgroup": "/system.slice/nginx.service",
    "unit": "nginx.service",
}
ROCE: Record = {
    **FLOW,
    "src_port": 0,
    "dst_port": 0,
    "traffic_type": "RoCE_v2",
    "src_qpn": None,
    "dst_qpn": 193,
    "opcode": 8,
    "opcode_name": "RDMA_WRITE_LAST",
}
ROCE_V1: Record = {**ROCE, "traffic_type": "RoCE_v1_IBoE", "protocol": None, "ethertype": 0x8915}
ARP: Record = {**FLOW, "traffic_type": "ARP", "src_port": 0, "dst_port": 0, "protocol": None, "ethertype": 0x0806}
ICMP: Record = {
    **FLOW,
    "traffic_type": "ICMP",
    "src_port": 0,
    "dst_port": 0,
    "protocol": 1,
    "icmp_type": 8,
    "icmp_code": 0,
}
HOST: Record = {"host": "n1"}
RDMA_SNAPSHOT = make_rdma.snapshot(
    [make_rdma.port({"local_ack_timeout_err": make_rdma.grew(3)}, make_rdma.traffic(4000, 8000))], [make_rdma.pair()]
)
RDMA: dict[str, Record] = {
    **{record["type"]: record for record in rdma_records(RDMA_SNAPSHOT, HOST)},
    "rdma_link": port_summary(RDMA_SNAPSHOT.ports[0], "n1"),
}
NO_ADDRESSES: Record = {"src_ip": None, "dst_ip": None}
TICK: Record = {"ts": COMMON["ts"], "interval_s": 5.0, "host": "n1"}
OPERATION: Record = {
    "function": "AllGather",
    "datatype": "bfloat16",
    "calls": 3,
    "elements": 30,
    "requested_bytes": None,
    "returned": 3,
    "errors": {"invalid_argument": 1},
    "async_errors": {},
    "in_progress": 0,
    "latency_ns": 9000,
    "latency_buckets": [{"below_ns": 4096, "calls": 2}, {"below_ns": None, "calls": 1}],
}
CALLS: Record = {"calls": 3, "requested_bytes": None, "returned": 3, "errors": 1, "async_errors": 0}

OF_TCP: Record = {"ts": "2026-01-01T00:00:05.000Z", "interval_s": 5.0, "host": "n1"}
PLACE = {"pid": 4711, "command": "python3 train.py", "container": None, "pod": None}
ARGUMENTS = {"function": "AllReduce", "datatype": "float32", "count": 1000, "root": None}

EXAMPLES: dict[str, Record] = {
    "start": {
        "type": "start",
        "ts": "2026-01-01T00:00:00.000Z",
        "schema": 1,
        "host": "n1",
        "version": "0.1.0",
        "interval_s": 5.0,
        "modes": ["xdp"],
        "landlock": True,
        "hooks": [{"interface": "eth0", "direction": "ingress", "hook": "xdp", "xdp_mode": "native"}],
        "features": ["btf"],
        "filters": ["port 53 443", "exclude-dns"],
        "max_flows": 65536,
        "map_memory_bytes": 20296336,
    },
    "flow": FLOW,
    "owner": {"type": "owner", **COMMON, "flows": 3, "packets": 6, "bytes": 600, "units": "wire", "owner": "not_local"},
    "other": {"type": "other", **COMMON, "flows": 3, "packets": 6, "bytes": 600},
    "interface": {
        "type": "interface",
        **COMMON,
        **COUNTS,
        "flows": 0,
        "unattributed": [{"traffic_type": "TCP", "packets": 7, "bytes": 700}],
        "units": "wire",
        "nic_packets": None,
        "nic_bytes": None,
        "hook": "xdp",
        "xdp_mode": "native",
        "coverage": None,
        "up": True,
    },
    "hook": {
        "type": "hook",
        "ts": "2026-01-01T00:00:05.000Z",
        "host": "n1",
        "interface": "eth0",
        "attached": False,
        "reason": "detached",
        "detail": "the program was detached by someone else",
    },
    "tcp_connection": connection_record(
        make_tcp.connection(seen=make_tcp.SEEN, health=Health.WARN, reasons=("why",)), 5_000_000_000, OF_TCP
    ),
    "tcp": sums_record(make_tcp.sums(), OF_TCP, not_shown=0),
    "tcp_path": tcp_paths.path_record(
        make_paths.path(
            make_paths.sent(),
            make_paths.sent(Direction.EGRESS),
            server_ns=1500,
            client_ns=20,
            health=Health.WARN,
            reasons=("why",),
        ),
        4_000_000,
        OF_TCP,
    ),
    "tcp_paths": tcp_paths.sums_record(make_paths.sums(), 4_000_000, OF_TCP, not_shown=0),
    "end": {
        "type": "end",
        "ts": "2026-01-01T00:00:10.000Z",
        "host": "n1",
        "intervals": 2,
        "interfaces": [{"interface": "eth0", "direction": "ingress", **COUNTS}],
    },
    "link": {
        "type": "link",
        "name": "eth0",
        "index": 2,
        "state": "up",
        "up": True,
        "link_type": "ethernet",
        "mtu": 1500,
        "mac": "02:00:00:00:00:01",
        "xdp": {"prog_id": 7, "mode": "native"},
        "tc": {"ingress": {"tcx": [5], "filters": ["cls_bpf"]}, "egress": {"tcx": [], "filters": []}},
        "rdma_device": "mlx5_0",
        "addresses": ["10.0.0.1/24", "fd00::1/64"],
    },
    "check": {
        "type": "check",
        "host": "n1",
        "name": "interface",
        "subject": "eth0",
        "status": "warn",
        "detail": "no carrier",
        "cure": "check the cable",
    },
    **RDMA,
    "nccl_process": {
        "type": "nccl_process",
        **TICK,
        "pid": 4711,
        "command": "python3 train.py",
        "container": None,
        "libraries": ["/usr/lib/libnccl.so.2"],
        "probed": True,
        "ended": False,
        **CALLS,
        "communicators": 1,
        "cuda_devices": [0],
        "operations": [OPERATION],
        "devices": ["mlx5_0"],
        "queue_pairs": 8,
        "queue_pairs_ts": "2026-01-01T00:00:04.000Z",
        "nic_tx_bytes": 100,
        "nic_rx_bytes": None,
    },
    "nccl_communicator": {
        "type": "nccl_communicator",
        **TICK,
        "pid": 4711,
        "communicator": "0x55d0",
        "nranks": 8,
        "rank": None,
        "cuda_device": None,
        **CALLS,
        "operations": [OPERATION],
    },
    "nccl_ras": {
        "type": "nccl_ras",
        **TICK,
        "address": "localhost:28028",
        "nccl_version": "2.28.9",
        "age_s": 0.0,
        "timeouts": 0,
        "communicator": "0x1:0x2:0x3",
        "known_as": "9dd4ab0ce5b40f1b",
        "nranks": 8,
        "ranks": 7,
        "missing_ranks": [3],
        "missing": [{"rank": 3, "host": "192.0.2.2", "pid": 9, "cuda_device": 0, "nvml_device": None, "dead": False}],
        "async_error_ranks": [],
        "skew": 2,
        "collectives": [{"function": "AllReduce", "least": 10, "most": 12}],
        "behind": [
            {
                "function": "AllReduce",
                "ranks": 1,
                "first": [{"rank": 1, "host": "192.0.2.1", "pid": None, "cuda_device": 1, "nvml_device": 1}],
            }
        ],
    },
    "nccl_rank": {
        "type": "nccl_rank",
        **TICK,
        **PLACE,
        "job": {"name": "slurm:7.0", "rank": 3, "world_size": 8, "local_rank": 3, "visible_devices": "3"},
        "gpus": [3],
        "communicator": "5c9bdb47be8414d5",
        "identity": "unique_id",
        "address": "0x55d0",
        "nranks": 8,
        "rank": 3,
        "whole": True,
        "joined": True,
        "begun": 12,
        "returned": 11,
        "last_begin": "2026-01-01T00:00:04.000Z",
        "last_return": None,
        "open": {
            **ARGUMENTS,
            "since": "2026-01-01T00:00:04.000Z",
            "open_s": 1.0,
            "thread": 4711,
            "number": 12,
            "other": False,
            "from_stack": False,
        },
        "open_known": True,
        "sleeps_in": "futex_wait_queue",
        "state": "S",
        "ended": False,
        "left": None,
        "exit": None,
        "calls": [{"number": 12, "begin_ns": 1767225604000000000, **ARGUMENTS}],
        "peers": [
            {"rank": 4, "sends": 1, "receives": 0, "last_send": "2026-01-01T00:00:04.000Z", "last_receive": None}
        ],
        "peers_whole": True,
        "lateness": [{"most_ns": 1_000_000, "calls": 3}, {"most_ns": None, "calls": 1}],
    },
    "verdict": {
        "type": "verdict",
        **TICK,
        "verdict": "missing",
        "communicator": "5c9bdb47be8414d5",
        "identity": "unique_id",
        "job": "slurm:7.0",
        "nranks": 8,
        "rank": 3,
        "peer": None,
        "rank_host": "n1",
        **PLACE,
        "number": 12,
        "function": "AllReduce",
        "waiting": [0, 1],
        "since": "2026-01-01T00:00:04.000Z",
        "evidence": "it has not made call 12, which ranks 0, 1 wait in",
    },
    "nccl": {
        "type": "nccl",
        **TICK,
        "processes": 1,
        "calls": 3,
        "unattributed_calls": 0,
        "unattributed_elements": 0,
        "unattributed_returns": 0,
        "nested_calls": 0,
        "waiting_processes": 0,
        "cut_processes": 0,
        "unprobed_files": 0,
    },
}


def definition(reference: Record) -> Record:
    """What a property says, references followed."""
    if "$ref" not in reference:
        return reference
    target: Record = schema()["$defs"][reference["$ref"].rpartition("/")[2]]
    return {**definition(target), **{name: value for name, value in reference.items() if name != "$ref"}}


def objects(node: Any, path: str = "$") -> Iterator[tuple[str, Record]]:
    """Every part of a record type that describes an object with fields of ours: a user names its labels."""
    if isinstance(node, dict):
        node = definition(node)
        if "object" in (node.get("type") or ()) and "propertyNames" not in node:
            yield path, node
        for name, member in node.get("properties", {}).items():
            yield from objects(member, f"{path}.{name}")
        if "items" in node:
            yield from objects(node["items"], f"{path}[]")


def record_types() -> Iterator[tuple[str, Record]]:
    for kind in EXAMPLES:
        yield from objects({"$ref": f"#/$defs/{kind}_record"}, kind)


def test_schema_is_a_valid_json_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_schema_has_these_record_types() -> None:
    assert schema()["properties"]["type"]["enum"] == list(EXAMPLES)


def test_every_field_of_every_record_is_described() -> None:
    silent = [
        f"{path}.{name}"
        for path, found in record_types()
        for name, member in found["properties"].items()
        if not definition(member).get("description")
    ]
    assert silent == []


def test_no_record_type_allows_unknown_fields() -> None:
    assert [path for path, found in record_types() if found.get("additionalProperties") is not False] == []


def test_traffic_types_are_those_of_the_tool() -> None:
    assert schema()["$defs"]["traffic_type"]["enum"] == list(TRAFFIC_TYPES)


def test_examples_of_every_record_type_are_valid() -> None:
    validate(EXAMPLES.values())


@pytest.mark.parametrize("kind, field", [(kind, field) for kind, record in EXAMPLES.items() for field in record])
def test_record_without_a_field_is_refused(kind: str, field: str) -> None:
    record = deepcopy(EXAMPLES[kind])
    del record[field]
    assert complaint(record) is not None


@pytest.mark.parametrize("kind, field", [(kind, field) for kind, record in EXAMPLES.items() for field in record])
def test_record_with_a_field_of_another_type_is_refused(kind: str, field: str) -> None:
    assert complaint({**EXAMPLES[kind], field: {"unexpected": 1}}) is not None


@pytest.mark.parametrize("kind", EXAMPLES)
def test_record_with_an_unknown_field_is_refused(kind: str) -> None:
    assert complaint({**EXAMPLES[kind], "surprise": 1}) is not None


@pytest.mark.parametrize(
    "kind, change",
    [
        ("flow", {"type": "flows"}),
        ("flow", {"traffic_type": "tcp"}),
        ("flow", {"direction": "in"}),
        ("flow", {"units": "packets"}),
        ("flow", {"src_port": 65536}),
        ("flow", {"protocol": 256}),
        ("flow", {"packets": 0}),
        ("flow", {"bytes": -1}),
        ("flow", {"bytes": 1.5}),
        ("flow", {"src_ip": "192.168.1.300"}),
        ("flow", {"src_ip": ""}),
        ("flow", {"ts": "2026-01-01T00:00:05Z"}),
        ("flow", {"ts": "2026-01-01 00:00:05.000Z"}),
        ("flow", {"first_seen": "2026-01-01T00:00:05.000+00:00"}),
        ("flow", {"fragment": False}),
        ("flow", {"tcp_flags": "SYN"}),
        ("flow", {"icmp_type": 8}),
        ("flow", {"ethertype": 0x0800}),
        ("flow", {"src_ip": None, "dst_ip": None, "protocol": None}),
        ("flow", {"src_ip": None, "ethertype": 0x0806}),
        ("flow", {"traffic_type": "TCP"}),
        ("flow", {"traffic_type": "TCP", "tcp_flags": "SYN,"}),
        ("flow", {"traffic_type": "TCP", "tcp_flags": "syn"}),
        ("flow", {"traffic_type": "ICMP", "icmp_type": 8, "icmp_code": 0}),
        ("flow", {"vlan": 0}),
        ("flow", {"vlan": 4096}),
        ("flow", {"opcode": 8}),
        ("flow", {"dst_qpn": 193}),
        ("flow", {"protocol": None}),
        ("flow", {"dst_ip": None}),
        ("start", {"filters": ["port"]}),
        ("start", {"filters": [""]}),
        ("start", {"filters": ["vlan 7"]}),
        ("start", {"hooks": [{"interface": "eth0", "direction": "ingress", "hook": "xdp", "xdp_mode": None}]}),
        ("start", {"hooks": [{"interface": "eth0", "direction": "ingress", "hook": "tc", "xdp_mode": "native"}]}),
        ("start", {"hooks": [{"interface": "eth0", "direction": "egress", "hook": "xdp", "xdp_mode": "native"}]}),
        ("interface", {"hook": "tc"}),
        ("interface", {"xdp_mode": None}),
        ("interface", {"direction": "egress"}),
        ("interface", {"xdp_mode": "generic"}),
        ("interface", {"hook": "tc", "xdp_mode": None, "units": "frame"}),
        ("start", {"schema": 2}),
        ("start", {"hooks": []}),
        ("interface", {"qdisc_drops": 0}),
        ("interface", {"xdp_mode": None, "hook": "tc", "direction": "egress"}),
        ("hook", {"attached": True}),
        ("hook", {"reason": "bored"}),
        ("hook", {"reason": None}),
        ("interface", {"hook": "ebpf"}),
        ("interface", {"xdp_mode": "offload"}),
        ("interface", {"unattributed": [{"traffic_type": "TCP", "packets": 0, "bytes": 0}]}),
        ("other", {"flows": 0}),
        ("owner", {"flows": 0}),
        ("owner", {"owner": "somebody"}),
        ("owner", {"cgroup": "nginx.service"}),
        ("flow", {"uid": 33}),
        ("flow", {"owner": "created"}),
        ("flow", {**OWNER, "owner": "kernel"}),
        ("link", {"state": "UP"}),
        ("link", {"mac": ""}),
        ("link", {"xdp": {"prog_id": 7}}),
        ("link", {"tc": {"ingress": {"tcx": [0], "filters": []}}}),
        ("link", {"addresses": ["10.0.0.1"]}),
        ("tcp_path", {"vlan": 0}),
        ("tcp_path", {"forward": {}}),
        ("tcp_path", {"reverse": {"direction": "ingress"}}),
        ("tcp_path", {"server_rtt_us": -1}),
        ("check", {"status": "OK"}),
        ("check", {"name": "weather"}),
    ],
)
def test_record_with_a_wrong_value_is_refused(kind: str, change: Record) -> None:
    assert complaint({**EXAMPLES[kind], **change}) is not None


@pytest.mark.parametrize(
    "kind, change",
    [
        ("flow", {"traffic_type": "TCP", "protocol": 6, "tcp_flags": ""}),
        ("flow", {"traffic_type": "TCP", "protocol": 6, "tcp_flags": "SYN,ACK"}),
        ("flow", {"traffic_type": "ICMP", "src_port": 0, "dst_port": 0, "icmp_type": 8, "icmp_code": 0}),
        ("flow", {"traffic_type": "ARP", "src_ip": None, "dst_ip": None, "protocol": None, "ethertype": 0x0806}),
        ("flow", {"fragment": True}),
        ("flow", {"vlan": 1}),
        ("flow", {"vlan": 4095, "fragment": True}),
        ("start", {"filters": []}),
        ("start", {"filters": ["types RoCE_v1_IBoE TCP", "net 10.0.0.0/8 fd00::/8", "exclude-net ::1/128"]}),
        ("start", {"hooks": [{"interface": "eth0", "direction": "egress", "hook": "tc", "xdp_mode": None}]}),
        ("interface", {"xdp_mode": None, "hook": "tc", "unattributed": []}),
        ("interface", {"xdp_mode": None, "hook": "tc", "direction": "egress", "qdisc_drops": 3}),
        ("interface", {"xdp_mode": None, "hook": "tc", "direction": "egress", "qdisc_drops": None}),
        ("hook", {"attached": True, "reason": None, "detail": None}),
        ("interface", {"xdp_mode": "generic", "units": "frame"}),
        ("interface", {"xdp_mode": "native", "units": "frame"}),
        ("tcp_path", {"forward": None, "server_rtt_us": None}),
        ("tcp_path", {"vlan": 7}),
        ("check", {"subject": None, "cure": None, "status": "ok"}),
        ("link", {"mac": None, "xdp": None, "rdma_device": None, "addresses": [], "tc": {}}),
        ("link", {"tc": {"ingress": {"tcx": None, "filters": []}}}),
    ],
)
def test_record_with_another_legal_value_is_taken(kind: str, change: Record) -> None:
    assert complaint({**EXAMPLES[kind], **change}) is None


@pytest.mark.parametrize(
    "record, change",
    [
        (ROCE, {}),
        (ROCE, {"src_qpn": 0}),
        (ROCE, {"src_qpn": 0xFFFFFF, "dst_qpn": 1, "opcode": 0x64, "opcode_name": "UD_SEND_ONLY"}),
        (ROCE, {"opcode": 0x1F, "opcode_name": "0x1f"}),
        (ROCE, {"opcode": 0x81, "opcode_name": "CNP", "vlan": 7}),
        (ROCE_V1, {}),
        (ROCE_V1, NO_ADDRESSES),
        (ARP, {}),
        (ARP, NO_ADDRESSES),
        (ICMP, {}),
        (ICMP, {"fragment": True}),
    ],
)
def test_flow_of_a_protocol_with_fields_of_its_own_is_taken(record: Record, change: Record) -> None:
    assert complaint({**record, **change}) is None


@pytest.mark.parametrize(
    "record, change",
    [
        (ROCE, {"src_qpn": "?"}),
        (ROCE, {"src_qpn": 0x1000000}),
        (ROCE, {"dst_qpn": None}),
        (ROCE, {"dst_qpn": 0x1000000}),
        (ROCE, {"opcode": 256}),
        (ROCE, {"opcode_name": ""}),
        (ROCE, {"opcode_name": "RDMA WRITE LAST"}),
        (ROCE, {"opcode_name": "_SEND"}),
        (ROCE, {"src_port": 4791}),
        (ROCE, {"dst_port": 4791}),
        (ROCE, {"traffic_type": "UDP"}),
        (ROCE, {"ethertype": 0x0800}),
        (ROCE_V1, {"ethertype": 0x0806}),
        (ROCE_V1, {"protocol": 17}),
        (ARP, {"ethertype": 0x0800}),
        (ARP, {"protocol": 1}),
        (ARP, {"src_ip": None}),
        (ARP, {"dst_ip": None}),
        (ICMP, {"src_port": 8}),
        (ICMP, {"dst_port": 1}),
        (ICMP, {"icmp_type": None}),
        (ICMP, {"icmp_type": 256}),
    ],
)
def test_flow_of_a_protocol_with_a_wrong_field_of_its_own_is_refused(record: Record, change: Record) -> None:
    assert complaint({**record, **change}) is not None


@pytest.mark.parametrize("field", ["src_qpn", "dst_qpn", "opcode", "opcode_name"])
@pytest.mark.parametrize("record", [ROCE, ROCE_V1], ids=["v2", "v1"])
def test_queue_pairs_and_opcode_come_together(record: Record, field: str) -> None:
    assert complaint({name: value for name, value in record.items() if name != field}) is not None


def test_only_roce_v1_may_be_cut_short_before_the_queue_pair() -> None:
    own = ("src_qpn", "dst_qpn", "opcode", "opcode_name")
    v1, v2 = ({name: value for name, value in record.items() if name not in own} for record in (ROCE_V1, ROCE))
    assert complaint(v1) is None
    assert complaint(v2) is not None


def test_only_fragments_may_not_tell_their_icmp_type() -> None:
    silent = {name: value for name, value in ICMP.items() if name not in ("icmp_type", "icmp_code")}
    assert complaint(silent) is not None
    assert complaint({**silent, "fragment": True}) is None
    for field in ("icmp_type", "icmp_code"):
        assert complaint({**silent, "fragment": True, field: 0}) is not None


def test_no_output_at_all_is_not_valid_output() -> None:
    with pytest.raises(AssertionError, match="no records"):
        validate([])


def test_complaint_names_the_record_and_the_field() -> None:
    with pytest.raises(AssertionError, match=r"record 2: \$\.src_port: 65536 is greater than the maximum"):
        validate([FLOW, {**FLOW, "src_port": 65536}])

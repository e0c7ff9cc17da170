"""Ports that disappear have a record each, and only one."""

from __future__ import annotations

from xtrace.kernel.rdma import RdmaDevice
from xtrace.model.rdma import PortId, PortInfo
from xtrace.monitors.rdma.gone import KnownPorts
from xtrace.monitors.rdma.ports import Found

INFO = PortInfo(
    "ACTIVE", "LINK_UP", "Ethernet", "100 Gb/sec", 10**11, "eth0", "mlx5_core", "28.1", "0000:3b:00.0", 1, 7
)


def found(name: str, index: int, port: int = 1) -> Found:
    return Found(PortId(name, port), RdmaDevice(index, name, 1), None)


def reasons(known: KnownPorts, monitored: list[Found], everything: list[Found]) -> dict[str, str]:
    records = known.gone({one.id for one in monitored}, everything)
    return {str(record.id): record.unavailable for record in records}


def test_port_that_is_gone_keeps_what_does_not_change_and_loses_its_state() -> None:
    known = KnownPorts()
    known.note(found("mlx5_0", 3), INFO)
    (record,) = known.gone(set(), [])
    assert (record.unavailable, record.gone, record.interval_ns) == ("the RDMA device is gone", True, None)
    kept = record.info
    assert (kept.netdev, kept.driver, kept.firmware, kept.pci, kept.numa_node) == (
        *("eth0", "mlx5_core", "28.1", "0000:3b:00.0", 1),
    )
    assert {kept.state, kept.physical_state, kept.rate, kept.rate_bps, kept.lid} == {None}


def test_port_that_is_there_has_no_other_record() -> None:
    known, one = KnownPorts(), found("mlx5_0", 3)
    known.note(one, INFO)
    assert reasons(known, [one], [one]) == {}
    assert reasons(known, [], [one]) == {"mlx5_0/1": "its interface is no longer one selected with -i"}


def test_renamed_device_is_one_whether_it_is_still_monitored_or_not() -> None:
    known, before, now = KnownPorts(), found("mlx5_0", 3), found("rocep1", 3)
    known.note(before, INFO)
    assert reasons(known, [], [now]) == {"mlx5_0/1": "renamed to rocep1"}
    known.note(now, INFO)
    assert reasons(known, [now], [now]) == {}
    assert reasons(known, [], []) == {"rocep1/1": "the RDMA device is gone"}, "and not under its old name, too"


def test_named_device_that_never_was_there_has_a_record_until_it_appears() -> None:
    known, one = KnownPorts(["mlx5_0", "mlx5_9"]), found("mlx5_0", 3)
    known.note(one, INFO)
    assert reasons(known, [one], [one]) == {"mlx5_9/1": "not found"}
    (record,) = known.gone({one.id}, [one])
    assert record.gone
    assert reasons(known, [one], [one, found("mlx5_9", 4)]) == {}, "it is there, and not chosen"
    known.note(found("mlx5_9", 4), INFO)
    assert reasons(known, [one], [one]) == {"mlx5_9/1": "the RDMA device is gone"}

"""Ports as sysfs shows them, for every driver: real files in a tree of ours, and real failures of the kernel.

The trees follow the drivers' sources; none was tried on hardware. Links to /sys/class/net/lo/speed fail with EINVAL.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.support.net import records
from tests.support.schema import validate
from tests.unit.make import NS
from tests.unit.make_rdma import EINVAL, counters, device, write
from tests.unit.make_samples import flat
from xtrace.errors import KernelError, RdmaError
from xtrace.kernel import infiniband, paths
from xtrace.kernel import rdma as kernel_rdma
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.model.rdma import Figure, PortId, PortRecord, RdmaSnapshot, Reading
from xtrace.model.words import Direction
from xtrace.monitors.backoff import FIRST_PAUSE_NS, LONGEST_PAUSE_NS, Backoff
from xtrace.monitors.rdma.inventory import inventory
from xtrace.monitors.rdma.monitor import RdmaMonitor, RdmaOptions, list_ports, netdevs_of
from xtrace.monitors.rdma.ports import Found, PortReader
from xtrace.sinks.jsonl.rdma import RdmaJson
from xtrace.sinks.kinds import JsonOptions
from xtrace.sinks.metrics.rdma import rdma_samples
from xtrace.sinks.text.rdma import rdma_lines

UNREADABLE = Reading(None, None, "unavailable", "EINVAL (Invalid argument)")
NO_PMA = "N/A (no PMA)"


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's /sys, empty; and no RDMA netlink, so that it is all there is."""

    def refused(protocol: int) -> None:
        raise KernelError("netlink socket(20)", 93)

    monkeypatch.setattr("xtrace.monitors.rdma.inventory.NetlinkSocket", refused)
    monkeypatch.setitem(paths._chosen, "sys", str(tmp_path))
    (tmp_path / "class/infiniband").mkdir(parents=True)
    return tmp_path


class Clock:
    """Advanced by the test."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def only(options: RdmaOptions | None = None) -> PortRecord:
    (record,) = list_ports(options or RdmaOptions())
    return record


def watch(reported: list[str] | None = None, options: RdmaOptions | None = None) -> RdmaMonitor:
    return RdmaMonitor(options or RdmaOptions(), (reported if reported is not None else []).append)


def by_name(snapshot: RdmaSnapshot) -> dict[str, PortRecord]:
    return {str(record.id): record for record in snapshot.ports}


def mlx5(sysfs: Path, name: str = "mlx5_0", pci: str = "0000:3b:00.0", netdev: str = "ens1np0") -> Path:
    directory = device(sysfs, name, driver="mlx5_core", pci=pci, netdevs=[netdev])
    words = {"port_rcv_data": 100, "port_xmit_data": 200, "port_rcv_packets": 30, "port_xmit_packets": 40}
    counters(directory, kind="counters", **words, symbol_error=0, link_downed=1, VL15_dropped=0, port_xmit_wait=0)
    counters(directory, local_ack_timeout_err=5, out_of_sequence=6, np_cnp_sent=7, rp_cnp_handled=8, lifespan=10)
    return directory


def test_mlx5_port(sysfs: Path) -> None:
    mlx5(sysfs)
    record = only()
    info = record.info
    assert (info.state, info.physical_state, info.link_layer) == ("ACTIVE", "LINK_UP", "Ethernet")
    assert (info.rate_bps, info.netdev, info.driver) == (100 * 10**9, "ens1np0", "mlx5_core")
    assert (info.pci, info.numa_node, info.lid) == ("0000:3b:00.0", 1, None)
    assert (record.total("rx_bytes"), record.total("tx_packets"), record.total("ack_timeout")) == (400, 40, 5)
    assert "lifespan" not in record.hardware, "a setting is no counter"


def test_one_broken_port_is_unavailable_and_the_others_are_complete(sysfs: Path) -> None:
    for number in range(4):
        mlx5(sysfs, f"mlx5_{number}", f"0000:{number:02x}:00.0", f"ens{number}")
    broken = sysfs / "class/infiniband/mlx5_2"
    for kind in ("counters", "hw_counters"):
        names = [path.name for path in (broken / "ports/1" / kind).iterdir()]
        counters(broken, dict.fromkeys(names, EINVAL), kind=kind)
    monitor = watch()
    found = by_name(monitor.tick())
    monitor.close()
    assert {name for name, record in found.items() if record.unavailable} == {"mlx5_2/1"}
    assert found["mlx5_2/1"].unavailable == "counters: EINVAL (Invalid argument)"
    assert found["mlx5_2/1"].health == "critical"
    assert found["mlx5_2/1"].total("rx_bytes") is None
    for name in ("mlx5_0/1", "mlx5_1/1", "mlx5_3/1"):
        assert found[name].delta("rx_bytes") == 0 and found[name].health == "ok"
        assert all(reading.status == "ok" for reading in found[name].hardware.values())


def test_one_unreadable_file_does_not_hide_the_others(sysfs: Path) -> None:
    counters(mlx5(sysfs), out_of_sequence=EINVAL)
    record = only()
    assert record.hardware["out_of_sequence"] == UNREADABLE
    assert record.total("ack_timeout") == 5 and not record.unavailable


def test_old_kernels_text_for_a_missing_counter_is_unavailable_and_not_zero(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    counters(directory, kind="counters", port_rcv_data=NO_PMA, symbol_error=NO_PMA)
    record = only()
    assert record.standard["symbol_error"].reason.startswith("not a number")
    assert record.total("rx_bytes") is None and record.total("tx_bytes") == 800


@pytest.mark.parametrize(
    "driver, hardware, figures",
    [
        ("bnxt_en", {"rx_bytes": 1, "tx_bytes": 2, "rx_pkts": 3, "to_retransmits": 4, "active_qps": 5},
         {"rx_bytes": 1, "tx_bytes": 2, "rx_packets": 3, "ack_timeout": 4}),
        ("bnxt_en", {"rx_bytes": 1, "local_ack_timeout_err": 4, "np_cnp_pkts": 6},
         {"rx_bytes": 1, "ack_timeout": 4, "cnp_tx": 6}),
        ("ice", {"ip4InOctets": 1, "ip6InOctets": 2, "cnpHandled": 3, "RNR received": 4},
         {"rx_bytes": 3, "cnp_rx": 3, "rnr_rx": 4}),
        ("efa", {"rx_bytes": 1, "tx_bytes": 2, "rx_drops": 3, "retrans_pkts": 4},
         {"rx_bytes": 1, "tx_bytes": 2, "no_rx_wqe": 3, "retrans": 4}),
        ("ionic", {"rx_rdma_ucast_bytes": 1, "rx_rdma_mcast_bytes": 2,
                   "tx_rdma_ucast_pkts": 3, "req_rx_pkt_seq_err": 4},
         {"rx_bytes": 3, "tx_packets": 3, "seq_nak_rx": 4}),
        ("hns3", {"rx_pkt": 1, "tx_pkt": 2, "rx_cnp_pkt": 3}, {"rx_packets": 1, "tx_packets": 2, "cnp_rx": 3}),
    ],
)  # fmt: skip
def test_driver_without_standard_counters(
    sysfs: Path, driver: str, hardware: dict[str, int | str], figures: dict[str, int]
) -> None:
    counters(device(sysfs, "dev0", driver=driver, netdevs=["eth7"]), hardware)
    record = only()
    assert {name: figure.reading.total for name, figure in record.figures.items()} == figures
    assert set(record.hardware) == set(hardware) and not record.standard
    assert (record.info.driver, record.info.netdev) == (driver, "eth7")


def test_device_counters_are_shown_with_its_first_port(sysfs: Path) -> None:
    directory = device(sysfs, "efa_0", driver="efa", ports=2)
    for number in (1, 2):
        counters(directory, port=number, rx_bytes=number, rx_pkts=5)
    for name, value in {"submitted_cmds": 90, "cmds_err": 2, "no_completion_cmds": 1, "lifespan": 12}.items():
        write(directory / "hw_counters" / name, str(value))
    first, second = list_ports(RdmaOptions())
    assert {name: reading.total for name, reading in first.hardware.items()} == {
        "submitted_cmds": 90, "cmds_err": 2, "no_completion_cmds": 1, "rx_bytes": 1, "rx_pkts": 5,
    }  # fmt: skip
    assert first.total("command_errors") == 3
    assert set(second.hardware) == {"rx_bytes", "rx_pkts"} and "command_errors" not in second.figures


def test_counters_of_the_device_that_cannot_be_read_leave_the_ports_alone(sysfs: Path) -> None:
    directory = device(sysfs, "efa_0", driver="efa")
    counters(directory, rx_bytes=1)
    (directory / "hw_counters").mkdir()
    (directory / "hw_counters/cmds_err").symlink_to(EINVAL)
    record = only()
    assert record.total("rx_bytes") == 1 and record.hardware["cmds_err"] == UNREADABLE


def test_levels_have_no_growth(sysfs: Path) -> None:
    counters(device(sysfs, "bnxt_re0", driver="bnxt_en"), active_qps=5)
    assert only().hardware["active_qps"] == Reading(5, None, "gauge")


def test_soft_roce_has_no_slot_and_its_netdev_is_in_the_gid_table(sysfs: Path) -> None:
    directory = device(sysfs, "rxe0")
    (directory / "parent").write_text("eth3\n")
    for slot, target in {"0": "eth3", "1": "", "2": EINVAL}.items():
        path = directory / "ports/1/gid_attrs/ndevs" / slot
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target) if target.startswith("/") else path.write_text(f"{target}\n")
    counters(directory, rcvd_pkts=1, sent_pkts=2, lifespan=12)
    info = only().info
    assert (info.netdev, info.driver, info.pci, info.numa_node) == ("eth3", "rdma_rxe", None, None)


def test_two_ports_of_one_function_have_their_own_netdevs(sysfs: Path) -> None:
    device(sysfs, "mlx4_0", driver="mlx4_core", netdevs=["ens1", "ens1d1"], ports=2)
    assert [record.info.netdev for record in list_ports(RdmaOptions())] == ["ens1", "ens1d1"]


@pytest.mark.parametrize(
    "text, bits",
    [("100 Gb/sec (4X EDR)", 100e9), ("2.5 Gb/sec (1X SDR)", 2.5e9), ("400 Gb/sec (4X NDR)", 400e9), ("fast", None)],
)
def test_rate_in_bits_per_second(sysfs: Path, text: str, bits: float | None) -> None:
    device(sysfs, "mlx5_0", rate=text)
    assert (only().info.rate, only().info.rate_bps) == (text, bits)


def test_growth_wrap_reset_and_saturation_from_tick_to_tick(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    counters(directory, out_of_sequence=(1 << 32) - 1, local_ack_timeout_err=500, np_cnp_sent=(1 << 32) - 1)
    monitor = watch()
    counters(directory, out_of_sequence=4, local_ack_timeout_err=3, np_cnp_sent=1 << 32)
    counters(directory, kind="counters", link_downed=255, port_rcv_data=150)
    (record,) = monitor.tick().ports
    monitor.close()
    assert record.hardware["out_of_sequence"] == Reading((1 << 32) + 4, 5, "wrapped")
    assert record.hardware["local_ack_timeout_err"] == Reading(3, None, "reset")
    assert record.hardware["np_cnp_sent"] == Reading(1 << 32, 1, "ok")
    assert record.standard["link_downed"] == Reading(255, 254, "saturated")
    assert record.delta("rx_bytes") == 200


def test_odd_values_are_unavailable_one_by_one(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    monitor = watch()
    counters(directory, kind="counters", port_rcv_data=1 << 62, port_xmit_data=210, symbol_error=70_000)
    counters(directory, out_of_sequence=-1, np_cnp_sent=(1 << 64) - 1, rp_cnp_handled="1_0", local_ack_timeout_err=7)
    (record,) = monitor.tick().ports
    counters(directory, kind="counters", port_rcv_data=110, symbol_error=1)
    counters(directory, np_cnp_sent=9)
    (later,) = monitor.tick().ports
    monitor.close()
    everything = {**record.standard, **record.hardware}
    reasons = {name: reading.reason for name, reading in everything.items() if reading.reason}
    assert reasons == {
        "port_rcv_data": "4611686018427387904: not a possible count",
        "symbol_error": "70000: more than the counter's 16 bits",
        "out_of_sequence": "not a number: -1",
        "np_cnp_sent": "all ones: the driver does not count it",
        "rp_cnp_handled": "not a number: 1_0",
    }
    assert (record.delta("tx_bytes"), record.delta("ack_timeout"), record.total("rx_bytes")) == (40, 2, None)
    assert (later.total("rx_bytes"), later.delta("rx_bytes"), later.total("cnp_tx")) == (440, None, 9)


def test_growth_beyond_the_line_rate_is_unavailable(sysfs: Path) -> None:
    directory = mlx5(sysfs)  # 100 Gbit/s
    (found,) = inventory(None)
    clock = Clock()
    reader = PortReader(found, None, clock)
    readings = []
    for data in (0, 10**9, 10**12, 1_500_000_000):
        counters(directory, kind="counters", port_rcv_data=data)
        readings.append(reader.read(found).standard["port_rcv_data"])
        clock.ns += NS
    assert readings[1:] == [
        Reading(10**9, 10**9, "ok"),
        Reading(None, None, "unavailable", "grew by 999000000000: more than 4 times the line rate"),
        Reading(1_500_000_000, None, "first"),
    ]


def test_port_that_has_just_gone_down_keeps_its_rate_limit(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    (found,) = inventory(None)
    clock = Clock()
    reader = PortReader(found, None, clock)
    reader.read(found)
    clock.ns += NS
    (directory / "ports/1/state").write_text("1: DOWN\n")
    (directory / "ports/1/rate").write_text("2.5 Gb/sec (1X SDR)\n")
    counters(directory, kind="counters", port_rcv_data=3 * 10**9)
    assert reader.read(found).standard["port_rcv_data"].status == "ok"


@pytest.mark.parametrize("rate", ["", "nonsense"])
def test_growth_of_a_port_of_unknown_rate_is_not_limited(sysfs: Path, rate: str) -> None:
    directory = mlx5(sysfs)
    (directory / "ports/1/rate").write_text(rate)
    (found,) = inventory(None)
    clock = Clock()
    reader = PortReader(found, None, clock)
    reader.read(found)
    clock.ns += NS
    counters(directory, kind="counters", port_rcv_data=100 + 10**9)
    assert reader.read(found).standard["port_rcv_data"] == Reading(100 + 10**9, 10**9, "ok")


def test_netlink_and_interface_counters_are_checked_too(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlx5(sysfs)
    found = Found(PortId("mlx5_0", 1), kernel_rdma.RdmaDevice(0, "mlx5_0", 1), None)
    monkeypatch.setattr(kernel_rdma, "counters", lambda socket, device, port: {"rdma_rx_bytes": (1 << 64) - 1, "y": 3})
    reader = PortReader(found, cast("NetlinkSocket", object()), Clock())
    monkeypatch.setattr(reader._ethernet, "read", lambda interface: {"rx_discards_phy": 1 << 63, "rx_pause": 4})
    record = reader.read(found)
    assert [reading.status for reading in record.hardware.values()] == ["unavailable", "first"]
    assert [reading.status for reading in record.ethernet.values()] == ["unavailable", "first"]


@pytest.mark.parametrize("odd", ["-1", "99999999999999999999", "1e9", "0x5", "\u0663", "", "nan", "+3", "1 2"])
def test_value_that_is_not_a_count_is_unavailable(sysfs: Path, odd: str) -> None:
    counters(mlx5(sysfs), out_of_sequence=odd)
    assert only().hardware["out_of_sequence"].status == "unavailable"


@pytest.mark.parametrize("rate", ["9" * 400 + " Gb/sec", "-1 Gb/sec", "Gb/sec", "1e400 Gb/sec"])
@pytest.mark.parametrize("lid", ["0x" + "f" * 40, "-5", "0x0", "five"])
def test_impossible_rate_and_lid_are_unknown(sysfs: Path, rate: str, lid: str) -> None:
    device(sysfs, "mlx5_0", rate=rate, lid=lid)
    assert (only().info.rate_bps, only().info.lid) == (None, None)


def test_lid_of_an_infiniband_port(sysfs: Path) -> None:
    device(sysfs, "mlx5_0", lid="0x1f", link_layer="InfiniBand")
    assert only().info.lid == 31


ODD = (0, 1, 255, 256, (1 << 32) - 1, *(1 << bits for bits in (32, 60, 61, 62, 63, 64)), (1 << 64) - 1, -1, -(1 << 63))


def odd_text(chance: random.Random) -> bytes:
    """What a broken driver may write: a number that cannot be, bytes that are no text, nothing."""
    number = chance.choice((chance.choice(ODD), chance.getrandbits(chance.randrange(1, 80)), chance.randrange(1000)))
    return chance.choice((b"%d\n" % number, b"%d\n" % number, chance.randbytes(chance.randrange(40)), b""))


@pytest.mark.parametrize("seed", range(8))
def test_every_record_of_every_tree_can_be_rendered(sysfs: Path, seed: int) -> None:
    chance = random.Random(seed)
    directory = mlx5(sysfs)
    counters(directory, {"active_qps": 3, "rdma_rx_bytes": 1})
    counters(mlx5(sysfs, "mlx5_1", "0000:5e:00.0"), rx_rdma_ucast_bytes=4)
    files = sorted(path for path in (sysfs / "class/infiniband").glob("*/ports/1/**/*") if path.is_file())
    monitor = watch()
    for _ in range(12):
        for path in chance.sample(files, chance.randrange(len(files))):
            path.write_bytes(odd_text(chance))
        snapshot = monitor.tick()
        lines = records(b"".join(RdmaJson(JsonOptions({"host": "n1"})).lines(snapshot)))
        assert [line["type"] for line in lines] == ["rdma_port", "rdma_port", "rdma_rails"]
        validate(lines)
        assert all(-(1 << 63) <= sample.value < 1 << 63 for sample in flat(rdma_samples(snapshot)))
        assert "".join(rdma_lines(snapshot))
    monitor.close()


def test_failing_read_backs_off_and_works_again_later() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    pauses = []
    for _ in range(9):
        backoff.failed("file", "EINVAL")
        begun = clock.ns
        while backoff.reason("file"):
            clock.ns += NS
        pauses.append(clock.ns - begun)
    assert pauses == [pause_s * NS for pause_s in (10, 20, 40, 80, 160, 320, 600, 600, 600)]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE_NS, LONGEST_PAUSE_NS)
    backoff.succeeded("file")
    backoff.failed("file", "EINVAL")
    clock.ns += FIRST_PAUSE_NS
    assert backoff.reason("file") is None


def test_file_that_fails_is_left_alone_for_a_while(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counters(mlx5(sysfs), out_of_sequence=EINVAL)
    tried = reads_of(monkeypatch, "out_of_sequence")
    monitor = watch()
    for _ in range(5):
        record = monitor.tick().ports[0]
    monitor.close()
    assert len(tried) == 1
    assert record.hardware["out_of_sequence"] == UNREADABLE, "and is unavailable meanwhile"


def test_pauses_of_a_file_begin_anew_after_it_was_read(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = mlx5(sysfs)
    counters(directory, out_of_sequence=EINVAL)
    tried = reads_of(monkeypatch, "out_of_sequence")
    (found,) = inventory(None)
    clock = Clock()
    reader = PortReader(found, None, clock)

    def attempts(seconds: int) -> list[int]:
        at = []
        for second in range(seconds):
            before = len(tried)
            reader.read(found)
            at += [second] if len(tried) > before else []
            clock.ns += NS
        return at

    assert attempts(35) == [0, 10, 30]
    counters(directory, out_of_sequence=6)
    assert attempts(37) == [35, 36], "70 s after the first"
    counters(directory, out_of_sequence=EINVAL)
    assert attempts(15) == [0, 10]


def test_growth_over_a_gap_is_no_rate_of_the_interval_that_ends_it(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    (found,) = inventory(None)
    clock = Clock()
    reader = PortReader(found, None, clock)
    rates = []
    for data in (0, 10, NO_PMA, 10_000, 10_010):
        counters(directory, kind="counters", port_rcv_data=data)
        record = reader.read(found)
        rates.append((record.total("rx_bytes"), record.bit_rate(Direction.INGRESS)))
        clock.ns += FIRST_PAUSE_NS
    assert rates == [(0, None), (40, 32.0), (None, None), (40_000, None), (40_040, 32.0)]


def test_port_keeps_to_the_counter_it_first_read_a_figure_from(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    counters(directory, rdma_rx_bytes=7)
    monitor = watch()
    counters(directory, kind="counters", port_rcv_data=EINVAL)
    (record,) = monitor.tick().ports
    monitor.close()
    assert record.figures["rx_bytes"] == Figure(UNREADABLE, ("port_rcv_data",))
    assert record.hardware["rdma_rx_bytes"] == Reading(7, 0, "ok")


def test_counter_that_was_not_there_for_a_while_has_no_rate_when_it_is_back(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlx5(sysfs)
    found = Found(PortId("mlx5_0", 1), kernel_rdma.RdmaDevice(0, "mlx5_0", 1), None)
    answers = iter([{"rdma_rx_bytes": 1}, {"rdma_rx_bytes": 2}, {}, {"rdma_rx_bytes": 9}, {"rdma_rx_bytes": 10}])
    monkeypatch.setattr(kernel_rdma, "counters", lambda socket, device, port: next(answers))
    reader = PortReader(found, cast("NetlinkSocket", object()), Clock())
    readings = [reader.read(found).hardware.get("rdma_rx_bytes") for _ in range(5)]
    assert readings[1:] == [Reading(2, 1, "ok"), None, Reading(9, None, "first"), Reading(10, 1, "ok")]


def test_counters_of_another_interface_are_not_compared_with_those_of_the_last(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlx5(sysfs)
    (found,) = inventory(None)
    values = iter([1, 2, 900, 901])
    reader = PortReader(found, None, Clock())
    monkeypatch.setattr(reader._ethernet, "read", lambda interface: {"rx_discards_phy": next(values)})
    readings = []
    for netdev in ("ens1np0", "ens1np0", "bond0", "bond0"):
        port = kernel_rdma.RdmaPort(1, "ACTIVE", "LINK_UP", netdev=netdev)
        readings.append(reader.read(replace(found, port=port)).ethernet["rx_discards_phy"])
    assert readings[1:] == [Reading(2, 1, "ok"), Reading(900, None, "first"), Reading(901, 1, "ok")]


def test_directory_whose_first_files_all_fail_is_given_up(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = device(sysfs, "mlx5_0", driver="mlx5_core")
    counters(directory, {f"counter{number:02d}": EINVAL for number in range(60)})
    tried = reads_of(monkeypatch, "counter")
    record = only()
    assert len(tried) == 3 + 2, "one in the middle and the last are tried before"
    assert set(record.hardware.values()) == {UNREADABLE} and len(record.hardware) == 60


def test_pauses_of_a_directory_begin_anew_after_it_was_read(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = device(sysfs, "mlx5_0", driver="mlx5_core")
    broken = {f"counter{number}": EINVAL for number in range(9)}
    tried = reads_of(monkeypatch, "counter8")
    counters(directory, broken)
    (found,) = inventory(None)
    clock = Clock()
    reader = PortReader(found, None, clock)

    def attempt(pause_ns: int) -> int:
        """How often the last file is read, after that time, if that works or not."""
        clock.ns += pause_ns
        before = len(tried)
        reader.read(found)
        return len(tried) - before

    assert [attempt(0), attempt(FIRST_PAUSE_NS - 1), attempt(1)] == [1, 0, 1]
    assert [attempt(2 * FIRST_PAUSE_NS - 1)] == [0], "twice as long"
    counters(directory, dict.fromkeys(broken, 7))
    assert attempt(LONGEST_PAUSE_NS) == 1
    counters(directory, broken)
    assert [attempt(1), attempt(FIRST_PAUSE_NS - 1), attempt(1)] == [1, 0, 1]


def test_firmware_is_what_netlink_or_sysfs_says(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    assert only().info.firmware is None
    write(directory / "fw_ver", "22.31.1014")
    assert only().info.firmware == "22.31.1014"
    known = kernel_rdma.RdmaDevice(0, "mlx5_0", 1, firmware="22.41.1000")
    reader = PortReader(Found(PortId("mlx5_0", 1), known, None), None)
    assert reader.read(Found(PortId("mlx5_0", 1), known, None)).info.firmware == "22.41.1000"


def test_state_of_a_port_is_what_netlink_says(sysfs: Path) -> None:
    mlx5(sysfs)
    port = kernel_rdma.RdmaPort(1, "INIT", "POLLING", lid=7, netdev="ib0")
    found = Found(PortId("mlx5_0", 1), kernel_rdma.RdmaDevice(0, "mlx5_0", 1), port)
    info = PortReader(found, None).read(found).info
    assert (info.state, info.physical_state, info.lid, info.netdev) == ("INIT", "POLLING", 7, "ib0")


def test_netlink_that_fails_is_left_alone_for_a_while(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlx5(sysfs)
    found = Found(PortId("mlx5_0", 1), kernel_rdma.RdmaDevice(0, "mlx5_0", 1), None)
    asked: list[int] = []

    def refused(socket: NetlinkSocket, device: kernel_rdma.RdmaDevice, port: int) -> dict[str, int]:
        assert (device, port) == (found.device, 1)
        asked.append(port)
        raise KernelError("RDMA_NLDEV_CMD_STAT_GET", 95)

    monkeypatch.setattr(kernel_rdma, "counters", refused)
    clock = Clock()
    reader = PortReader(found, cast("NetlinkSocket", object()), clock)
    for pause in (0, FIRST_PAUSE_NS - 1, 1):
        clock.ns += pause
        assert reader.read(found).hardware["out_of_sequence"].total == 6, "sysfs has it, too"
    assert len(asked) == 2


def test_first_files_that_cannot_be_read_do_not_hide_the_others(sysfs: Path) -> None:
    directory = device(sysfs, "mlx5_0", driver="mlx5_core")
    counters(directory, {f"a{number}": EINVAL for number in range(10)})
    counters(directory, z=7)
    record = only()
    assert record.hardware["z"].total == 7 and not record.unavailable
    assert all(record.hardware[f"a{number}"] == UNREADABLE for number in range(10))


def test_counters_that_come_after_their_device_are_found(sysfs: Path) -> None:
    directory = device(sysfs, "mlx5_0", driver="mlx5_core")
    monitor = watch()
    assert monitor.tick().ports[0].hardware == {}
    counters(directory, out_of_sequence=7)
    assert monitor.tick().ports[0].hardware == {"out_of_sequence": Reading(7, None, "first")}
    monitor.close()


def reads_of(monkeypatch: pytest.MonkeyPatch, part: str) -> list[str]:
    """The paths with `part` in their names that are read from now on."""
    tried: list[str] = []
    for name in ("read", "read_number"):
        read = getattr(infiniband, name)

        def noted(path: str | Path, read: Callable[[str | Path], str | int] = read) -> str | int:
            if part in Path(path).name:
                tried.append(str(path))
            return read(path)

        monkeypatch.setattr(infiniband, name, noted)
    return tried


def test_excluded_device_is_never_read(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlx5(sysfs)
    mlx5(sysfs, "mlx5_bond_0", "0000:5e:00.0")
    tried = reads_of(monkeypatch, "")
    records = list_ports(RdmaOptions(excluded=("mlx5_bond*",)))
    assert [record.id.device for record in records] == ["mlx5_0"]
    assert not [path for path in tried if "mlx5_bond_0" in path]


def test_devices_are_sorted_as_people_count(sysfs: Path) -> None:
    for number in (10, 2, 1):
        device(sysfs, f"mlx5_{number}")
    assert [found.id.device for found in inventory(None)] == ["mlx5_1", "mlx5_2", "mlx5_10"]


def test_no_rdma_device_is_one_line(sysfs: Path) -> None:
    with pytest.raises(RdmaError, match=r"^no RDMA device found \(ls "):
        watch()


def test_error_without_devices_hints_at_another_network_namespace(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Socket:
        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr("xtrace.monitors.rdma.monitor.open_netlink", Socket)
    monkeypatch.setattr(kernel_rdma, "devices", lambda socket: [])
    monkeypatch.setattr(kernel_rdma, "netns_mode", lambda socket: "exclusive")
    with pytest.raises(
        RdmaError, match=r"no RDMA device found .*exclusive to a network namespace here: run the tool in the device's"
    ):
        watch()


def test_error_for_an_unknown_device_lists_the_available_ones(sysfs: Path) -> None:
    mlx5(sysfs)
    with pytest.raises(RdmaError) as caught:
        watch(options=RdmaOptions(devices=("mlx5_9",)))
    assert str(caught.value) == "RDMA device mlx5_9 not found (available: mlx5_0/1 on ens1np0)"


def test_one_of_several_devices_that_is_named_is_not_missing(sysfs: Path, caplog: pytest.LogCaptureFixture) -> None:
    mlx5(sysfs)
    mlx5(sysfs, "mlx5_1", "0000:3c:00.0", "ens2np0")
    for devices, missing in ((("mlx5_0",), []), (("mlx5_*",), []), (("mlx5_1", "mlx5_7"), ["mlx5_7"])):
        caplog.clear()
        watch(options=RdmaOptions(devices=devices)).close()
        available = "(available: mlx5_0/1 on ens1np0, mlx5_1/1 on ens2np0)"
        assert caplog.messages == [f"RDMA device {name} not found {available}" for name in missing]


def test_device_that_is_named_and_not_found_is_critical_until_it_appears(
    sysfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mlx5(sysfs)
    monitor = watch(options=RdmaOptions(devices=("mlx5_9", "mlx5_0", "rocep*", "mlx5_8"), excluded=("mlx5_8",)))
    snapshot = monitor.tick()
    assert [str(record.id) for record in snapshot.ports] == ["mlx5_0/1", "mlx5_9/1"], "no record for a glob"
    missing = snapshot.ports[1]
    assert (missing.health, missing.reasons) == ("critical", ("unavailable: not found",))
    assert (snapshot.rails.down, snapshot.rails.unavailable) == ((missing.id,), (missing.id,))
    assert (snapshot.rails.health, monitor.netdevs()) == ("critical", {PortId("mlx5_0", 1): "ens1np0"})
    lines = records(b"".join(RdmaJson(JsonOptions({"host": "n1"})).lines(snapshot)))
    validate(lines)
    assert (lines[1]["device"], lines[1]["unavailable"]) == ("mlx5_9", "not found")
    values = {(sample.name, dict(sample.labels).get("device")): sample.value for sample in flat(rdma_samples(snapshot))}
    assert values["xtrace_rdma_port_available", "mlx5_9"] == 0 == values["xtrace_rdma_port_active", "mlx5_9"]
    assert "RDMA device mlx5_9 not found" in caplog.text
    mlx5(sysfs, "mlx5_9", "0000:5e:00.0", "ens2np0")
    assert by_name(monitor.tick())["mlx5_9/1"].health == "ok"
    (sysfs / "class/infiniband/mlx5_9").rename(sysfs / "gone")
    assert by_name(monitor.tick())["mlx5_9/1"].reasons == ("unavailable: the RDMA device is gone",)
    monitor.close()


def test_list_shows_only_devices_that_exist(sysfs: Path) -> None:
    mlx5(sysfs)
    assert only(RdmaOptions(devices=("mlx5_9", "mlx5_0"))).id.device == "mlx5_0"


def test_ports_can_be_chosen_by_their_interface(sysfs: Path) -> None:
    mlx5(sysfs)
    mlx5(sysfs, "mlx5_1", "0000:5e:00.0", "ens2np0")
    assert only(RdmaOptions(interfaces=("ens2*",))).id.device == "mlx5_1"
    with pytest.raises(RdmaError, match=r"no RDMA port has interface eth9 \(available: mlx5_0/1 on "):
        list_ports(RdmaOptions(interfaces=("eth9",)))


def test_interfaces_of_devices(sysfs: Path) -> None:
    mlx5(sysfs)
    device(sysfs, "mlx5_1", pci="0000:5e:00.0", driver="mlx5_core")
    assert netdevs_of(("mlx5_*",)) == ("ens1np0",)
    with pytest.raises(RdmaError, match=r"mlx5_1 has no network interface \(choose one with -i\)"):
        netdevs_of(("mlx5_1",))


def test_appearing_and_disappearing_devices_are_followed_and_reported(sysfs: Path) -> None:
    first = mlx5(sysfs)
    reported: list[str] = []
    monitor = watch(reported)
    mlx5(sysfs, "mlx5_1", "0000:5e:00.0", "ens2np0")
    came = by_name(monitor.tick())
    assert came["mlx5_1/1"].interval_ns is None and came["mlx5_1/1"].delta("rx_bytes") is None, "the first reading"
    assert came["mlx5_1/1"].total("rx_bytes") == 400
    first.rename(sysfs / "gone")
    left = by_name(monitor.tick())
    assert [(name, record.gone) for name, record in left.items()] == [("mlx5_0/1", True), ("mlx5_1/1", False)]
    (sysfs / "class/infiniband/mlx5_1").rename(sysfs / "gone_too")
    assert all(record.gone for record in monitor.tick().ports) and not monitor.ended
    (sysfs / "gone").rename(first)
    back = by_name(monitor.tick())
    assert (back["mlx5_0/1"].health, back["mlx5_0/1"].gone, back["mlx5_1/1"].gone) == ("ok", False, True)
    monitor.close()
    assert reported == [
        "mlx5_1/1: RDMA device appeared",
        "mlx5_0/1: the RDMA device is gone",
        "mlx5_1/1: the RDMA device is gone",
        "mlx5_0/1: RDMA device appeared",
    ]


def test_device_that_is_gone_is_critical_and_keeps_record_and_series(sysfs: Path) -> None:
    for number in range(3):
        mlx5(sysfs, f"mlx5_{number}", f"0000:{number:02x}:00.0", f"ens{number}")
    monitor = watch()
    (sysfs / "class/infiniband/mlx5_1").rename(sysfs / "gone")
    for _ in range(2):
        snapshot = monitor.tick()
    monitor.close()
    assert [str(record.id) for record in snapshot.ports] == ["mlx5_0/1", "mlx5_1/1", "mlx5_2/1"]
    gone = snapshot.ports[1]
    assert (gone.health, gone.reasons) == ("critical", ("unavailable: the RDMA device is gone",))
    assert (gone.info.state, gone.info.rate_bps) == (None, None)
    assert (gone.info.netdev, gone.info.pci) == ("ens1", "0000:01:00.0")
    assert monitor.netdevs() == {PortId("mlx5_0", 1): "ens0", PortId("mlx5_2", 1): "ens2"}
    rails = snapshot.rails
    assert (rails.health, rails.reasons[0]) == ("critical", "1 ports gone or unreadable: mlx5_1/1")
    assert (rails.down, rails.unavailable) == ((PortId("mlx5_1", 1),), (PortId("mlx5_1", 1),))
    lines = records(b"".join(RdmaJson(JsonOptions({"host": "n1"})).lines(snapshot)))
    validate(lines)
    assert (lines[1]["unavailable"], lines[1]["health"]) == ("the RDMA device is gone", "critical")
    assert lines[1]["interval_s"] is None
    assert lines[3]["unavailable"] == ["mlx5_1/1"]
    values = {(sample.name, dict(sample.labels).get("device")): sample.value for sample in flat(rdma_samples(snapshot))}
    assert values["xtrace_rdma_port_available", "mlx5_1"] == 0 == values["xtrace_rdma_port_active", "mlx5_1"]
    assert (values["xtrace_rdma_port_health", "mlx5_1"], values["xtrace_rdma_rails_down", None]) == (2, 1)
    assert ("xtrace_rdma_rate_bytes_per_second", "mlx5_1") not in values
    text = "".join(rdma_lines(snapshot))
    assert "mlx5_1/1" in text and "critical: unavailable: the RDMA device is gone" in text
    assert text.splitlines()[-1].endswith("down=mlx5_1/1 critical unavailable=mlx5_1/1")


def test_port_whose_interface_left_is_unavailable(sysfs: Path) -> None:
    mlx5(sysfs)
    mlx5(sysfs, "mlx5_1", "0000:5e:00.0", "ens2np0")
    monitor = watch(options=RdmaOptions(interfaces=("ens*",)))
    (sysfs / "devices/0000:5e:00.0/net/ens2np0").rename(sysfs / "devices/0000:5e:00.0/net/moved")
    record = by_name(monitor.tick())["mlx5_1/1"]
    monitor.close()
    assert record.reasons == ("unavailable: its interface is no longer one selected with -i",)


@pytest.mark.parametrize("wanted, reasons", [((), None), (("mlx5_0",), ("unavailable: renamed to roce3",))])
def test_renamed_device_is_not_gone_if_still_selected(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch, wanted: tuple[str, ...], reasons: tuple[str, ...] | None
) -> None:
    mlx5(sysfs)
    name = ["mlx5_0"]
    monkeypatch.setattr("xtrace.monitors.rdma.monitor.open_netlink", lambda: Closing())
    monkeypatch.setattr(kernel_rdma, "devices", lambda socket: [kernel_rdma.RdmaDevice(4, name[0], 1)])
    monkeypatch.setattr(kernel_rdma, "ports", lambda socket, device: [kernel_rdma.RdmaPort(1, "ACTIVE", "LINK_UP")])
    monkeypatch.setattr(kernel_rdma, "counters", lambda socket, device, port: {"rx_bytes": 1})
    monitor = watch(options=RdmaOptions(devices=wanted, queue_pairs=False))
    (sysfs / "class/infiniband/mlx5_0").rename(sysfs / "class/infiniband/roce3")
    name[0] = "roce3"
    for _ in range(2):
        found = {name: record.reasons for name, record in by_name(monitor.tick()).items()}
    monitor.close()
    assert found == ({"roce3/1": ()} if reasons is None else {"mlx5_0/1": reasons})


class Closing:
    """A netlink socket that is never used."""

    closed = 0

    def close(self) -> None:
        """Nothing is open."""
        self.closed += 1


def test_end_closes_what_was_opened(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlx5(sysfs)
    socket = Closing()
    monkeypatch.setattr("xtrace.monitors.rdma.monitor.open_netlink", lambda: socket)
    monkeypatch.setattr(kernel_rdma, "devices", lambda socket: [kernel_rdma.RdmaDevice(4, "mlx5_0", 1)])
    monkeypatch.setattr(kernel_rdma, "ports", lambda socket, device: [kernel_rdma.RdmaPort(1, "ACTIVE", "LINK_UP")])
    monkeypatch.setattr(kernel_rdma, "counters", lambda socket, device, port: {"rx_bytes": 1})
    monitor = watch(options=RdmaOptions(queue_pairs=False))
    assert (monitor.ended, socket.closed) == (False, 0)
    monitor.close()
    assert (monitor.ended, socket.closed) == (True, 1)


def test_broken_link_is_reported(sysfs: Path) -> None:
    mlx5(sysfs)
    (sysfs / "class/infiniband/mlx5_1").symlink_to("../../devices/nowhere")
    reported: list[str] = []
    monitor = watch(reported)
    for _ in range(2):
        snapshot = monitor.tick()
    (sysfs / "class/infiniband/mlx5_1").unlink()
    after = monitor.tick()
    monitor.close()
    record = by_name(snapshot)["mlx5_1/1"]
    assert (record.health, record.reasons) == ("critical", ("unavailable: broken link in /sys/class/infiniband",))
    assert snapshot.rails.health == "critical" and by_name(snapshot)["mlx5_0/1"].health == "ok"
    assert not record.gone, "nothing is known to have been there"
    assert reported == ["mlx5_1/1: broken link in /sys/class/infiniband"]
    assert list(by_name(after)) == ["mlx5_0/1"], "it never was there"
    validate(records(b"".join(RdmaJson(JsonOptions({"host": "n1"})).lines(snapshot))))


def test_broken_link_is_reported_if_netlink_does_not_know_the_device(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mlx5_0", "mlx5_1", "mlx5_2"):
        (sysfs / "class/infiniband" / name).symlink_to("../../devices/nowhere")
    monkeypatch.setattr(kernel_rdma, "devices", lambda socket: [kernel_rdma.RdmaDevice(4, "mlx5_0", 1)])
    monkeypatch.setattr(kernel_rdma, "ports", lambda socket, device: [kernel_rdma.RdmaPort(1, "ACTIVE", "LINK_UP")])
    found = inventory(cast("NetlinkSocket", object()), ["mlx5_2"])
    assert [(str(one.id), one.lost) for one in found] == [
        ("mlx5_0/1", ""),  # in a container without the machine's /sys/devices
        ("mlx5_1/1", "broken link in /sys/class/infiniband"),
    ]


def test_device_without_ports_is_reported(sysfs: Path) -> None:
    (sysfs / "class/infiniband/mlx5_0/ports").mkdir(parents=True)
    (sysfs / "class/infiniband/mlx5_1").mkdir()
    found = {str(record.id): record.unavailable for record in list_ports(RdmaOptions())}
    assert found == {
        "mlx5_0/1": "no ports",
        "mlx5_1/1": "ports cannot be read: ENOENT (No such file or directory)",
    }


def test_port_without_any_figure_is_never_ok_and_never_available(sysfs: Path) -> None:
    silent, strange, broken = (device(sysfs, name, driver="new", pci=name) for name in ("silent", "strange", "broken"))
    assert silent
    counters(strange, rx_frobs=1, tx_frobs=2)
    counters(broken, rx_frobs=1, rx_bytes=EINVAL)
    monitor = watch()
    snapshot = monitor.tick()
    monitor.close()
    found = by_name(snapshot)
    assert {name: (record.health, record.available, record.reasons) for name, record in found.items()} == {
        "broken/1": ("critical", False, ("unavailable: counters: EINVAL (Invalid argument)",)),
        "silent/1": ("warn", False, (
            "not judged: no counters (the driver has none, or none in this network namespace)",)),
        "strange/1": ("warn", False, ("not judged: none of its 2 counters has a known name",)),
    }  # fmt: skip
    available = [sample.value for sample in flat(rdma_samples(snapshot)) if sample.name == "xtrace_rdma_port_available"]
    assert available == [0, 0, 0]
    lines = records(b"".join(RdmaJson(JsonOptions({"host": "n1"})).lines(snapshot)))
    assert all(line["unavailable"] for line in lines)


def test_virtual_function_is_recognized_by_its_physfn_link(sysfs: Path) -> None:
    mlx5(sysfs)
    mlx5(sysfs, "mlx5_1", "0000:3b:00.1", "ens1v0")
    (sysfs / "devices/0000:3b:00.1/physfn").symlink_to("../0000:3b:00.0")
    assert [record.info.is_function for record in list_ports(RdmaOptions())] == [False, True]


def test_fixed_properties_are_read_again_when_the_state_changes(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = mlx5(sysfs)
    tried = reads_of(monkeypatch, "numa_node")
    monitor = watch()
    monitor.tick()
    assert len(tried) == 1
    (directory / "ports/1/state").write_text("1: DOWN\n")
    (sysfs / "devices/0000:3b:00.0/net/ens1np0").rename(sysfs / "devices/0000:3b:00.0/net/renamed")
    (record,) = monitor.tick().ports
    assert (record.info.netdev, len(tried)) == ("renamed", 2)
    monitor.tick()
    monitor.close()
    assert len(tried) == 2


def test_sysfs_counters_are_not_levels_and_do_not_wrap(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    counters(directory, kind="counters", active_lanes=4, unknown_errors=(1 << 32) - 1)
    monitor = watch()
    counters(directory, kind="counters", active_lanes=9, unknown_errors=3)
    (record,) = monitor.tick().ports
    monitor.close()
    assert record.standard["active_lanes"] == Reading(9, 5, "ok")
    assert record.standard["unknown_errors"] == Reading(3, None, "reset")


def test_counters_of_the_interface_do_not_wrap(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlx5(sysfs)
    (found,) = inventory(None)
    reader = PortReader(found, None, Clock())
    values = iter([(1 << 32) - 1, 3])
    monkeypatch.setattr(reader._ethernet, "read", lambda interface: {"rx_discards_phy": next(values)})
    reader.read(found)
    assert reader.read(found).ethernet["rx_discards_phy"] == Reading(3, None, "reset")


def test_another_device_of_the_same_name_starts_over(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlx5(sysfs)
    index = [4]
    monkeypatch.setattr("xtrace.monitors.rdma.monitor.open_netlink", lambda: Closing())
    monkeypatch.setattr(kernel_rdma, "devices", lambda socket: [kernel_rdma.RdmaDevice(index[0], "mlx5_0", 1)])
    monkeypatch.setattr(kernel_rdma, "ports", lambda socket, device: [kernel_rdma.RdmaPort(1, "ACTIVE", "LINK_UP")])
    monkeypatch.setattr(kernel_rdma, "counters", lambda socket, device, port: {"rx_pkts": 7})
    reported: list[str] = []
    monitor = watch(reported, RdmaOptions(queue_pairs=False))
    assert monitor.tick().ports[0].hardware["rx_pkts"].status == "ok"
    index[0] = 5
    (record,) = monitor.tick().ports
    monitor.close()
    assert (record.hardware["rx_pkts"].status, record.gone) == ("first", False)
    assert reported == ["mlx5_0/1: the RDMA device is gone", "mlx5_0/1: RDMA device appeared"]


def test_setting_among_netlink_counters_is_omitted(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlx5(sysfs)
    found = Found(PortId("mlx5_0", 1), kernel_rdma.RdmaDevice(0, "mlx5_0", 1), None)
    monkeypatch.setattr(kernel_rdma, "counters", lambda socket, device, port: {"lifespan": 10, "rx_pkts": 7})
    assert set(PortReader(found, cast("NetlinkSocket", object())).read(found).hardware) == {"rx_pkts"}


@pytest.mark.parametrize(
    "protocol, layer",
    [("roce", "Ethernet"), ("iw", "Ethernet"), ("roce|usnic", "Ethernet"), ("ib", "InfiniBand"), ("", None)],
)
def test_link_layer_by_protocol_without_sysfs(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, layer: str | None
) -> None:
    found = Found(PortId("x0", 1), kernel_rdma.RdmaDevice(0, "x0", 1, protocol), None)
    monkeypatch.setattr(kernel_rdma, "counters", lambda socket, device, port: {})
    assert PortReader(found, cast("NetlinkSocket", object())).read(found).info.link_layer == layer


def test_port_that_loses_its_link_is_critical(sysfs: Path) -> None:
    directory = mlx5(sysfs)
    monitor = watch()
    (directory / "ports/1/state").write_text("1: DOWN\n")
    (directory / "ports/1/phys_state").write_text("2: Polling\n")
    (record,) = monitor.tick().ports
    monitor.close()
    assert (record.health, record.reasons) == ("critical", ("port DOWN, link POLLING, was ACTIVE",))


def test_last_interval_is_the_end(sysfs: Path) -> None:
    mlx5(sysfs)
    monitor = watch()
    assert not monitor.ended
    assert len(monitor.finish().ports) == 1 and monitor.ended
    monitor.close()

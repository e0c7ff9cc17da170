"""Counters of a port's network interface: by ioctl and DCB netlink, played; the kernel's own answers in tests/netns."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.kernel.test_rtnetlink import FakeKernel as Netlink
from tests.unit.kernel.test_rtnetlink import ack, message
from xtrace.kernel import dcb, ethtool
from xtrace.kernel.netlink import pack_attribute, pack_nested
from xtrace.kernel.syscall import ffi
from xtrace.monitors.backoff import Backoff
from xtrace.monitors.rdma.ethernet import EthernetCounters

MLX5 = {
    "rx_packets": 11,
    "rx_prio3_pause": 5,
    "rx_prio3_pause_duration": 70,
    "rx_discards_phy": 3,
    "link_down_events_phy": 1,
    "rx_symbol_err_phy": 2,
    "ch0_events": 9,
}
WANTED = {name: value for name, value in MLX5.items() if name not in ("rx_packets", "ch0_events")}


class Driver(Netlink):
    """A network driver with these counters, below a kernel without DCB by default."""

    def __init__(self, counters: dict[str, int]) -> None:
        super().__init__()
        self.counters = counters
        self.commands: list[int] = []
        self.refuses = 0
        self.refuses_only: int | None = None
        self.pfc: list[bytes] = [ack(-errno.EOPNOTSUPP)]
        self.asked_for_pfc = 0

    def xt_netlink_send(self, fd: int, data: Any, length: int) -> int:
        self.asked_for_pfc += 1
        self.answers = [self.pfc]
        return super().xt_netlink_send(fd, data, length)

    def xt_ethtool(self, name: bytes, request: Any, length: int) -> int:
        (command,) = struct.unpack_from("=I", ffi.buffer(request))
        self.commands.append(command)
        if self.refuses and self.refuses_only in (None, command):
            return -self.refuses
        data = ffi.buffer(request)
        names = [name.encode().ljust(32, b"\0") for name in self.counters]
        answer = {
            ethtool.ETHTOOL_GSSET_INFO: struct.pack("=IIQI", command, 0, 2, len(names)),
            ethtool.ETHTOOL_GSTRINGS: struct.pack("=III", command, 1, len(names)) + b"".join(names),
            ethtool.ETHTOOL_GSTATS: struct.pack(f"=II{len(names)}Q", command, len(names), *self.counters.values()),
        }[command]
        if len(answer) > length:
            return -errno.EFAULT
        data[0 : len(answer)] = answer
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    played = Driver(dict(MLX5))
    monkeypatch.setattr("xtrace.kernel.syscall.lib", played)
    return played


def test_pause_discard_and_link_counters_of_the_driver(driver: Driver) -> None:
    assert EthernetCounters(Backoff()).read("ens1np0") == WANTED


def test_names_are_read_once(driver: Driver) -> None:
    counters = EthernetCounters(Backoff())
    for _ in range(3):
        counters.read("ens1np0")
    assert driver.commands.count(ethtool.ETHTOOL_GSTRINGS) == 1
    assert driver.commands.count(ethtool.ETHTOOL_GSTATS) == 3


def test_new_counters_are_found_at_the_next_reading(driver: Driver) -> None:
    counters = EthernetCounters(Backoff())
    counters.read("ens1np0")
    driver.counters["tx_prio3_pause"] = 4
    assert counters.read("ens1np0") == {}, "names and values belong together"
    assert counters.read("ens1np0") == {**WANTED, "tx_prio3_pause": 4}


def test_counters_that_appear_while_names_are_read_are_found_at_the_next_reading(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = EthernetCounters(Backoff())
    with monkeypatch.context() as patch:
        patch.setattr(ethtool, "statistics_names", lambda interface: None)
        assert counters.read("ens1np0") == {}
    assert counters.read("ens1np0") == WANTED


def test_driver_without_statistics_is_queried_once(driver: Driver) -> None:
    driver.refuses = errno.EOPNOTSUPP
    counters = EthernetCounters(Backoff())
    assert [counters.read("eth0") for _ in range(3)] == [{}, {}, {}]
    assert len(driver.commands) == 1


def test_driver_without_wanted_counters_is_queried_once(driver: Driver) -> None:
    driver.counters = {"rx_queue_0_drops": 1}
    counters = EthernetCounters(Backoff())
    assert [counters.read("eth0") for _ in range(3)] == [{}, {}, {}]
    assert len(driver.commands) == 2


def test_failure_is_reported_for_each_counter_and_not_retried_at_once(driver: Driver) -> None:
    counters = EthernetCounters(Backoff())
    counters.read("ens1np0")
    driver.refuses, driver.refuses_only = errno.EIO, ethtool.ETHTOOL_GSTATS
    why = "ETHTOOL_GSTATS(ens1np0): EIO (Input/output error)"
    assert [counters.read("ens1np0") for _ in range(3)] == [dict.fromkeys(WANTED, why)] * 3
    assert driver.commands.count(ethtool.ETHTOOL_GSTATS) == 2


def test_counters_follow_the_ports_interface(driver: Driver) -> None:
    counters = EthernetCounters(Backoff())
    counters.read("ens1np0")
    driver.counters = {"rx_pause": 2}
    assert counters.read("ens2np0") == {"rx_pause": 2}
    assert counters.read(None) == {}


def test_priority_flow_control_frames_by_dcb(driver: Driver) -> None:
    driver.refuses = errno.EOPNOTSUPP
    pfc = struct.pack("@3BH8Q8Q", 8, 8, 0, 0, *range(10, 18), *range(20, 28))
    table = pack_nested(dcb.ATTR_IEEE, pack_attribute(dcb.ATTR_IEEE_PFC, pfc))
    header = struct.pack("=BBH", 0, dcb.CMD_IEEE_GET, 0) + pack_attribute(dcb.ATTR_IFNAME, b"eth0\0")
    driver.pfc = [message(dcb.RTM_GETDCB, header + table), ack()]
    found = EthernetCounters(Backoff()).read("eth0")
    assert (found["pfc_requests_prio3"], found["pfc_indications_prio3"], len(found)) == (13, 23, 16)


class Clock:
    """Seconds, as nanoseconds."""

    def __init__(self) -> None:
        self.now = 1000

    def __call__(self) -> int:
        return self.now * 10**9


SECOND_BY_SECOND = range(1000, 1100)


def attempts(counters: EthernetCounters, clock: Clock, count: Callable[[], int], seconds: range) -> list[int]:
    """The seconds after the first at which a reading of each second asked the kernel."""
    found = []
    for clock.now in seconds:
        before = count()
        counters.read("eth0")
        if count() > before:
            found.append(clock.now - seconds[0])
    return found


def pfc_table(first: int) -> list[bytes]:
    pfc = struct.pack("@3BH8Q8Q", 8, 8, 0, 0, *range(first, first + 16))
    table = pack_nested(dcb.ATTR_IEEE, pack_attribute(dcb.ATTR_IEEE_PFC, pfc))
    header = struct.pack("=BBH", 0, dcb.CMD_IEEE_GET, 0) + pack_attribute(dcb.ATTR_IFNAME, b"eth0\0")
    return [message(dcb.RTM_GETDCB, header + table), ack()]


def test_driver_without_flow_control_is_asked_once_and_again_below_another_interface(driver: Driver) -> None:
    clock = Clock()
    counters = EthernetCounters(Backoff(clock))
    assert attempts(counters, clock, lambda: driver.asked_for_pfc, SECOND_BY_SECOND) == [0]
    counters.read("eth1")
    assert driver.asked_for_pfc == 2


def test_flow_control_that_fails_is_asked_for_less_and_less_often_until_it_answers(driver: Driver) -> None:
    clock = Clock()
    counters = EthernetCounters(Backoff(clock))
    driver.pfc = [ack(-errno.EIO)]
    assert attempts(counters, clock, lambda: driver.asked_for_pfc, range(1000, 1040)) == [0, 10, 30]
    driver.pfc = pfc_table(10)
    assert attempts(counters, clock, lambda: driver.asked_for_pfc, range(1040, 1073)) == [30, 31, 32]
    assert counters.read("eth0")["pfc_requests_prio0"] == 10
    driver.pfc = [ack(-errno.EIO)]
    assert attempts(counters, clock, lambda: driver.asked_for_pfc, range(1080, 1095)) == [0, 10]


def test_driver_whose_statistics_fail_is_asked_for_them_less_and_less_often_until_it_answers(driver: Driver) -> None:
    clock = Clock()
    counters = EthernetCounters(Backoff(clock))
    counters.read("eth0")
    driver.refuses, driver.refuses_only = errno.EIO, ethtool.ETHTOOL_GSTATS
    assert attempts(counters, clock, lambda: len(driver.commands), range(1000, 1040)) == [0, 10, 30]
    driver.refuses = 0
    assert attempts(counters, clock, lambda: len(driver.commands), range(1040, 1073)) == [30, 31, 32]
    driver.refuses = errno.EIO
    assert attempts(counters, clock, lambda: len(driver.commands), range(1080, 1095)) == [0, 10]


def test_driver_without_statistics_is_not_asked_again_later(driver: Driver) -> None:
    driver.refuses, clock = errno.EOPNOTSUPP, Clock()
    counters = EthernetCounters(Backoff(clock))
    assert attempts(counters, clock, lambda: len(driver.commands), SECOND_BY_SECOND) == [0]


def test_statistics_that_are_no_longer_supported_are_unavailable_and_not_gone(driver: Driver) -> None:
    counters = EthernetCounters(Backoff())
    counters.read("eth0")
    driver.refuses = errno.EOPNOTSUPP
    found = counters.read("eth0")
    assert {name: str(value).rpartition("(")[2].rstrip(")") for name, value in found.items()} == dict.fromkeys(
        WANTED, "Operation not supported"
    )

"""RDMA netlink as real kernels speak it: recorded answers of soft-RoCE, through the seam."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.kernel.test_rtnetlink import FakeKernel, ack, dump, message
from xtrace.errors import KernelError
from xtrace.kernel import rdma
from xtrace.kernel.netlink import NLM_F_DUMP_INTR, NetlinkSocket, pack_attribute, pack_nested
from xtrace.kernel.rdma import Connection, QueuePair, RdmaDevice, RdmaPort

FIXTURES = Path(__file__).parents[2] / "fixtures/rdma"
KERNELS = ("linux-5.10", "linux-7.3")


def recording(kernel: str, what: str) -> list[bytes]:
    """The datagrams that answered a request."""
    _, _, after = (FIXTURES / f"{kernel}.txt").read_text().partition(f"\n{what}\n")
    paragraph = after.partition("\n\n")[0]
    assert paragraph, f"{kernel} has no recording of {what}"
    return [bytes.fromhex(line) for line in paragraph.splitlines()]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    """A kernel whose answers the test chooses, and a socket to it."""
    kernel = FakeKernel()
    monkeypatch.setattr("xtrace.kernel.syscall.lib", kernel)
    yield kernel


def answering(kernel: FakeKernel, *answers: list[bytes]) -> NetlinkSocket:
    kernel.answers = list(answers)
    return NetlinkSocket(rdma.NETLINK_RDMA)


RXE = RdmaDevice(0, "rxe0", 1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_device_and_port(answered: FakeKernel, kernel: str) -> None:
    socket = answering(answered, recording(kernel, "RDMA GET"), recording(kernel, "RDMA PORT_GET(rxe0)"))
    (device,) = rdma.devices(socket)
    assert (device.index, device.name, device.ports, device.protocol, device.firmware) == (0, "rxe0", 1, "roce", "")
    assert rdma.ports(socket, device) == [RdmaPort(1, "ACTIVE", "LINK_UP", None, "eth0")]


@pytest.mark.parametrize("kernel", KERNELS)
def test_counters_come_together_under_the_drivers_names(answered: FakeKernel, kernel: str) -> None:
    socket = answering(answered, recording(kernel, "RDMA STAT_GET(rxe0/1) busy"))
    values = rdma.counters(socket, RXE, 1)
    assert {"sent_pkts", "rcvd_pkts", "rcvd_seq_err", "link_downed"} <= set(values)
    assert values["sent_pkts"] == {"linux-5.10": 30, "linux-7.3": 350}[kernel]
    assert ("sent_bytes" in values) == (kernel != "linux-5.10"), "rxe counts bytes only where it is new"


@pytest.mark.parametrize("value", [0, (1 << 32) - 1, 1 << 32, 0x0123_4567_89AB_CDEF, (1 << 64) - 1])
def test_counters_have_64_bits(answered: FakeKernel, value: int) -> None:
    entry = pack_nested(
        81,
        pack_attribute(rdma.STAT_HWCOUNTER_NAME, b"rx_bytes\0"),
        pack_attribute(rdma.STAT_HWCOUNTER_VALUE, value.to_bytes(8, sys.byteorder)),
    )
    reply = message(rdma.STAT_GET, pack_nested(rdma.STAT_HWCOUNTERS, entry))
    assert rdma.counters(answering(answered, [reply, ack()]), RXE, 1) == {"rx_bytes": value}


def test_counter_of_another_width_is_damage_and_no_smaller_number(answered: FakeKernel) -> None:
    entry = pack_nested(
        81,
        pack_attribute(rdma.STAT_HWCOUNTER_NAME, b"rx_bytes\0"),
        pack_attribute(rdma.STAT_HWCOUNTER_VALUE, b"\1\2\3\4"),
    )
    reply = message(rdma.STAT_GET, pack_nested(rdma.STAT_HWCOUNTERS, entry))
    with pytest.raises(KernelError) as caught:
        rdma.counters(answering(answered, [reply, ack()]), RXE, 1)
    assert caught.value.errno == errno.EBADMSG


@pytest.mark.parametrize("kernel", KERNELS)
def test_port_that_is_not_there_is_einval(answered: FakeKernel, kernel: str) -> None:
    socket = answering(answered, recording(kernel, "RDMA STAT_GET(rxe0/2)"))
    with pytest.raises(KernelError, match=r"RDMA STAT_GET\(rxe0/2\): EINVAL") as caught:
        rdma.counters(socket, RXE, 2)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("kernel", KERNELS)
def test_network_namespace_mode(answered: FakeKernel, kernel: str) -> None:
    assert rdma.netns_mode(answering(answered, recording(kernel, "RDMA SYS_GET"))) == "shared"


def test_exclusive_network_namespace_mode(answered: FakeKernel) -> None:
    reply = message(rdma.SYS_GET, pack_attribute(rdma.SYS_NETNS_MODE, b"\0"))
    assert rdma.netns_mode(answering(answered, [reply, ack()])) == "exclusive"


@pytest.mark.parametrize("kernel", KERNELS)
def test_idle_device_has_the_kernels_own_queue_pair(answered: FakeKernel, kernel: str) -> None:
    (pair,) = rdma.queue_pairs(answering(answered, recording(kernel, "RDMA RES_QP_GET(rxe0)")), RXE)
    assert (pair.number, pair.type, pair.state, pair.pid, pair.kernel) == (1, "GSI", "RTS", None, "ib_core")


@pytest.mark.parametrize("kernel", KERNELS)
def test_queue_pairs_of_a_running_program_point_at_each_other(answered: FakeKernel, kernel: str) -> None:
    pairs = rdma.queue_pairs(answering(answered, recording(kernel, "RDMA RES_QP_GET(rxe0) busy")), RXE)
    connected = {pair.number: pair for pair in pairs if pair.type == "RC" and pair.remote}
    # both programs run on this device: one's remote queue pair is the other's local one
    ends = [pair for pair in connected.values() if pair.remote in connected]
    assert len(ends) >= 2 and {pair.state for pair in ends} <= {"RTR", "RTS"}
    assert all(pair.pid and pair.kernel is None for pair in ends)
    assert len({pair.pid for pair in ends}) == 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_rdma_cm_has_the_remote_addresses_of_queue_pairs(answered: FakeKernel, kernel: str) -> None:
    found = rdma.connections(answering(answered, recording(kernel, "RDMA RES_CM_ID_GET(rxe0)")), RXE)
    assert found and {(c.source, c.destination) for c in found} == {("10.77.0.1", "10.77.0.1")}


def test_table_that_changed_while_it_was_read_is_read_again(answered: FakeKernel) -> None:
    entry = pack_nested(
        20,
        pack_attribute(rdma.RES_LQPN, b"\x11\0\0\0"),
        pack_attribute(rdma.RES_TYPE, b"\x02"),
        pack_attribute(rdma.RES_STATE, b"\x03"),
    )
    whole = message(rdma.RES_QP_GET, pack_nested(rdma.RES_QP, entry))
    disturbed = bytearray(whole)
    disturbed[6] |= NLM_F_DUMP_INTR
    socket = answering(answered, dump(bytes(disturbed), bytes(disturbed)), dump(whole))
    assert rdma.queue_pairs(socket, RXE) == [QueuePair(17, None, "RC", "RTS")]
    assert len(answered.sent) == 2


@pytest.mark.parametrize("state, remote", [(0, None), (1, None), (2, 0), (3, 0)])
def test_remote_number_of_an_unconnected_queue_pair_is_ignored(
    answered: FakeKernel, state: int, remote: int | None
) -> None:
    entry = pack_nested(
        20,
        pack_attribute(rdma.RES_LQPN, b"\x11\0\0\0"),
        pack_attribute(rdma.RES_RQPN, bytes(4)),
        pack_attribute(rdma.RES_TYPE, b"\x02"),
        pack_attribute(rdma.RES_STATE, bytes([state])),
    )
    socket = answering(answered, dump(message(rdma.RES_QP_GET, pack_nested(rdma.RES_QP, entry))))
    assert rdma.queue_pairs(socket, RXE)[0].remote == remote


def test_removed_device_has_no_ports(answered: FakeKernel) -> None:
    assert rdma.ports(answering(answered, [ack(-errno.ENODEV)]), RXE) == []


def test_unknown_types_and_states_are_their_numbers(answered: FakeKernel) -> None:
    entry = pack_nested(
        20,
        pack_attribute(rdma.RES_LQPN, b"\x11\0\0\0"),
        pack_attribute(rdma.RES_TYPE, b"\x2a"),
        pack_attribute(rdma.RES_STATE, b"\x2b"),
    )
    socket = answering(answered, dump(message(rdma.RES_QP_GET, pack_nested(rdma.RES_QP, entry))))
    assert rdma.queue_pairs(socket, RXE) == [QueuePair(17, None, "42", "43")]


def test_addresses_of_both_families_and_of_none(answered: FakeKernel) -> None:
    four = b"\x02\0\x12\xb7" + bytes((10, 0, 0, 2)) + bytes(8)
    six = b"\x0a\0\x12\xb7" + bytes(4) + b"\xfd" + bytes(14) + b"\x01" + bytes(4)
    native = b"\x1b\0" + bytes(46)  # AF_IB

    def entry(number: int, address: bytes) -> bytes:
        addresses = pack_attribute(rdma.RES_SRC_ADDR, address) + pack_attribute(rdma.RES_DST_ADDR, address)
        return pack_nested(31, pack_attribute(rdma.RES_LQPN, number.to_bytes(4, "little")) + addresses)

    table = pack_nested(rdma.RES_CM_ID, entry(1, four), entry(2, six), entry(3, native))
    socket = answering(answered, dump(message(rdma.RES_CM_ID_GET, table)))
    assert rdma.connections(socket, RXE) == [Connection(1, "10.0.0.2", "10.0.0.2"), Connection(2, "fd00::1", "fd00::1")]


@pytest.mark.parametrize("cut", range(20, 120, 7))
def test_damaged_answer_is_a_kernel_error(answered: FakeKernel, cut: int) -> None:
    datagram = recording("linux-7.3", "RDMA RES_QP_GET(rxe0) busy")[0]
    damaged = bytearray(datagram)
    damaged[cut] ^= 0xFF
    socket = answering(answered, [bytes(damaged), recording("linux-7.3", "RDMA RES_QP_GET(rxe0) busy")[1]])
    try:
        pairs = rdma.queue_pairs(socket, RXE)
    except KernelError as error:
        assert error.errno in (errno.EBADMSG, errno.ENOMSG)
    else:
        assert all(isinstance(pair, QueuePair) for pair in pairs)

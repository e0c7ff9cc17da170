"""The program that sees TCP sockets end, on this kernel: that it loads, and that it reads what the kernel has."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from errno import ECONNREFUSED, ECONNRESET
from pathlib import Path
from struct import pack

import pytest

from tests.netns.tool import LIMIT_S, eventually
from xtrace.kernel import abi, kernel_types
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.network_namespaces import TcpCounters, inode_of
from xtrace.kernel.sock_diag import NETLINK_SOCK_DIAG, Samples, dump_tcp
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import SAMPLE, Closer, Ends, Sample
from xtrace.monitors.tcp.destroyed import DestroyedSockets
from xtrace.monitors.tcp.ends import End, EndProbe
from xtrace.monitors.tcp.offsets import ABSENT, KEPT, find_layout

SENT, ANSWERED = 3000, 500
LOCALHOST = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


@pytest.fixture
def probe() -> Iterator[EndProbe]:
    if not kernel_types.PATH.exists():
        pytest.xfail(f"this kernel has no {kernel_types.PATH}")
    with closing(EndProbe(5)) as probe:
        probe.follow(inode_of())
        yield probe


def connected(address: str) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection: of the client, of the server."""
    with socket.create_server((address, 0), family=LOCALHOST[address]) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        return client, listener.accept()[0]


def mapped(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address if ":" in address else f"::ffff:{address}")


def ends_of(client: socket.socket) -> Ends:
    (local, local_port), (remote, remote_port) = client.getsockname()[:2], client.getpeername()[:2]
    return mapped(local), local_port, mapped(remote), remote_port


def samples(ends: Ends) -> list[Sample]:
    """What a dump has of the connection."""
    found = Samples()
    with NetlinkSocket(NETLINK_SOCK_DIAG) as netlink:
        dump_tcp(netlink, found)
    view = found.view()
    listed = (Sample.unpack(view, index * SAMPLE.size) for index in range(len(found)))
    return [sample for sample in listed if sample.ends == ends]


def exchange(client: socket.socket, server: socket.socket) -> None:
    client.sendall(bytes(SENT))
    server.recv(SENT, socket.MSG_WAITALL)
    server.sendall(bytes(ANSWERED))
    client.recv(ANSWERED, socket.MSG_WAITALL)


@pytest.mark.parametrize("address", LOCALHOST)
def test_end_of_a_socket_has_what_it_did(probe: EndProbe, address: str) -> None:
    client, server = connected(address)
    ends = ends_of(client)
    exchange(client, server)
    (alive,) = samples(ends)
    server.close()  # first, so that the client's socket is not kept in TIME_WAIT
    client.close()
    (end,) = [end for end in probe.drain() if end.sample.ends == ends and end.sample.event == lib.TCP_DESTROYED]
    assert end.sample.netns == inode_of()
    assert end.sample.cookie == alive.cookie != 0
    assert end.sample.value(lib.TCP_BYTES_RECEIVED) in (ANSWERED, ANSWERED + 1)  # with the server's FIN
    assert end.sample.value(lib.TCP_BYTES_SENT) == SENT
    assert end.sample.value(lib.TCP_RETRANSMITTED) == 0
    assert end.sample.congestion == alive.congestion != ""
    for level in (lib.TCP_RTT, lib.TCP_MIN_RTT, lib.TCP_SEND_MSS, lib.TCP_CWND):
        assert end.sample.value(level), level
    assert probe.lost() == 0


def closer_of(probe: EndProbe, ends: Ends) -> Closer | None:
    """Who closed the side of a connection with these ends, as its last end says."""
    return [end for end in probe.drain() if end.sample.ends == ends][-1].closer


def closers_of(probe: EndProbe) -> list[int]:
    """The processes that are kept for sockets that are not destroyed yet."""
    return [abi.U32.unpack_from(value)[0] for _, value in probe._collection.maps["closers"].entries()]


def myself() -> Closer:
    return Closer(os.getpid(), Path("/proc/thread-self/comm").read_text().strip())


@pytest.mark.parametrize("is_first", [True, False])
def test_end_names_the_process_that_closed_this_side(probe: EndProbe, is_first: bool) -> None:
    client, server = connected("127.0.0.1")
    ends = ends_of(client)
    for side in (client, server) if is_first else (server, client):
        side.close()
    assert closer_of(probe, ends) == myself()


def test_process_that_lets_a_socket_go_while_another_has_it_did_not_close_it(probe: EndProbe) -> None:
    client, server = connected("127.0.0.1")
    ends = ends_of(client)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[client.fileno()]) as heir:
        client.close()
        assert [end for end in probe.drain() if end.sample.ends == ends] == []
    server.close()
    assert closer_of(probe, ends) == Closer(heir.pid, "cat")


def test_side_that_resets_is_closed_by_its_process_and_the_other_by_none(probe: EndProbe) -> None:
    client, server = connected("127.0.0.1")
    ends, others = ends_of(client), ends_of(server)
    server.sendall(b"unread")
    client.close()
    server.close()  # its state is closed already
    found = {end.sample.ends: end.closer for end in probe.drain()}
    assert (found[ends], found[others]) == (myself(), None)


def test_closer_is_forgotten_with_its_socket(probe: EndProbe) -> None:
    client, server = connected("127.0.0.1")
    with client, server:
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:  # what nobody reads keeps the end from being sent, and the closed socket alive
                client.send(bytes(SENT))
        client.close()
        assert os.getpid() in closers_of(probe)
        probe.forget(inode_of())
    assert eventually(lambda: os.getpid() not in closers_of(probe), LIMIT_S)


def test_dump_has_what_a_living_socket_did() -> None:
    client, server = connected("127.0.0.1")
    with client, server:
        exchange(client, server)
        (sample,) = samples(ends_of(client))
    assert sample.state == lib.TCP_STATE_ESTABLISHED
    assert sample.value(lib.TCP_BYTES_RECEIVED) == ANSWERED
    assert sample.value(lib.TCP_BYTES_SENT) == SENT
    assert sample.value(lib.TCP_DATA_SENT) and sample.value(lib.TCP_RTT)


@pytest.mark.parametrize("address", LOCALHOST)
def test_sock_diag_tells_of_an_end_what_the_program_sees(address: str) -> None:
    with closing(DestroyedSockets(inode_of())) as told:
        client, server = connected(address)
        ends = ends_of(client)
        exchange(client, server)
        (alive,) = samples(ends)
        server.close()
        client.close()
        found: list[End] = []

        def is_told() -> bool:
            """The kernel tells a moment later, from a worker thread."""
            found.extend(end for end in told.drain() if end.sample.ends == ends)
            return bool(found)

        assert eventually(is_told, LIMIT_S)
    (end,) = found
    assert (end.sample.netns, end.sample.event, end.closer) == (inode_of(), lib.TCP_DESTROYED, None)
    assert end.sample.cookie == alive.cookie != 0
    assert end.sample.value(lib.TCP_BYTES_SENT) == SENT
    assert end.sample.value(lib.TCP_RETRANSMITTED) == 0
    assert end.sample.value(lib.TCP_RTT)


def dropped(netlink: NetlinkSocket) -> int:
    """How many messages found no room in the buffer of the socket."""
    inode = os.fstat(netlink.fileno()).st_ino
    rows = [row.split() for row in Path("/proc/net/netlink").read_text().splitlines()[1:]]
    return next(int(drops) for *_, drops, number in rows if int(number) == inode)


def test_ends_for_which_there_was_no_room_do_not_hide_those_that_found_some() -> None:
    """The kernel says first that some were lost; those before them wait in the buffer."""
    with closing(DestroyedSockets(inode_of())) as told:
        told._netlink.make_room(1)  # the least that the kernel allows

        def are_lost() -> bool:
            for side in connected("127.0.0.1"):
                side.close()
            return dropped(told._netlink) > 0

        assert eventually(are_lost, LIMIT_S)
        assert told.drain()


def test_socket_in_another_namespace_is_not_kept(probe: EndProbe) -> None:
    probe.forget(inode_of())
    client, server = connected("127.0.0.1")
    client.close()
    server.close()
    assert probe.drain() == []


def test_refused_connect_is_an_end_with_its_errno(probe: EndProbe) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == ECONNREFUSED
        (end,) = [end for end in probe.drain() if end.sample.remote_port == port]
    assert (end.sample.event, end.sample.state, end.sample.error) == (
        lib.TCP_CLOSED,
        lib.TCP_STATE_SYN_SENT,
        ECONNREFUSED,
    )
    assert end.sample.remote == mapped("127.0.0.1")
    assert end.sample.local_port != 0


def test_reset_by_the_remote_side_is_an_end_with_its_errno(probe: EndProbe) -> None:
    client, server = connected("127.0.0.1")
    ends = ends_of(client)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))  # close() sends a reset
    server.close()
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    first, second = (end.sample for end in probe.drain() if end.sample.ends == ends)
    assert (first.event, first.state, first.error) == (lib.TCP_CLOSED, lib.TCP_STATE_ESTABLISHED, ECONNRESET)
    assert second.event == lib.TCP_DESTROYED


def disconnect(client: socket.socket) -> None:
    """connect() to AF_UNSPEC, which Python's sockets cannot say."""
    unspecified = pack("H14x", socket.AF_UNSPEC)
    assert ctypes.CDLL(None).connect(client.fileno(), unspecified, len(unspecified)) == 0


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("is_half_closed", [False, True])
@pytest.mark.parametrize("take_off", [disconnect, reset])
def test_connection_that_its_process_takes_off_the_socket_is_an_end_with_what_it_did(
    probe: EndProbe, take_off: Callable[[socket.socket], None], is_half_closed: bool
) -> None:
    client, server = connected("127.0.0.1")
    ends = ends_of(client)
    exchange(client, server)
    if is_half_closed:
        client.shutdown(socket.SHUT_WR)
        server.recv(1)
    take_off(client)
    (end,) = [end for end in probe.drain() if end.sample.ends == ends]
    assert (end.sample.event, end.sample.error) == (lib.TCP_CLOSED, 0)
    assert end.closer == myself()
    assert end.sample.value(lib.TCP_BYTES_SENT) == SENT
    client.close()
    server.close()


def test_connection_with_unread_data_is_an_end_twice_between_which_the_reset_is_sent(probe: EndProbe) -> None:
    client, server = connected("127.0.0.1")
    ends = ends_of(client)
    server.sendall(b"unread")
    client.close()
    server.close()
    first, second = (end.sample for end in probe.drain() if end.sample.ends == ends)
    assert (first.event, second.event) == (lib.TCP_CLOSED, lib.TCP_DESTROYED)
    differing = {number for number in range(lib.TCP_VALUES) if first.values[number] != second.values[number]}
    assert differing == {lib.TCP_SEGMENTS_SENT}


def test_ends_beyond_the_room_are_counted(probe: EndProbe) -> None:
    room = probe.room
    extra = 3
    address = ("127.0.0.1", 0)
    for _ in range(room + extra):
        socket.socket().close()  # a socket that was never connected ends, too
    with socket.create_server(address):
        pass
    assert len(probe.drain()) == room
    assert probe.lost() >= extra + 1  # more if others in this namespace end meanwhile


def test_every_value_is_found_on_this_kernel() -> None:
    if not kernel_types.PATH.exists():
        pytest.xfail(f"this kernel has no {kernel_types.PATH}")
    # reord_seen and others came with Linux 4.19 to 5.4, so that every supported kernel has all of them
    layout = find_layout()
    assert set(layout.places) == set(KEPT), "there is room for all"
    assert ABSENT not in layout.constants.values()


def test_retransmissions_of_the_namespace_are_readable_again_and_again() -> None:
    with closing(TcpCounters()) as counters:
        first = counters.retrans_segs()
        assert counters.retrans_segs() >= first >= 0

"""TCP connections followed by their packets, fed by hand: what is told of crafted sequences, and what is not."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from tests.kernel.counter import MAX_FLOWS, TC, VERDICTS, present, read, skb_context
from tests.support.frames import (
    ACK,
    ARP,
    DST,
    DST6,
    FIN,
    ICMPV6,
    IPV4,
    IPV6,
    PSH,
    RST,
    SRC,
    SRC6,
    SYN,
    TCP,
    UDP,
    VLAN,
    ethernet,
    ipv4,
    ipv6,
    vlan,
)
from xtrace.errors import VerifierError
from xtrace.kernel import abi
from xtrace.kernel.bpf import BATCH_MARGIN, Program
from xtrace.kernel.syscall import lib
from xtrace.model.filters import Filters
from xtrace.model.flow import signed
from xtrace.model.tcp_path import COUNTERS, KEY, VALUE_SIZE, Missed, RawPath, RawWay
from xtrace.model.words import Direction
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import NO_FILTERS, FlowTables, Place
from xtrace.monitors.paths.follower import TcpFollower

MOST = 16
LIMIT_S = 30.0
CLIENT, SERVER = (SRC, 40000), (DST, 443)
MSS = 1000
WRAP = 1 << 32


@dataclass
class Follower:
    """The program at both directions of an interface, and what it keeps."""

    tables: FlowTables
    follower: TcpFollower
    programs: dict[Direction, Program]
    sent: int = 0
    missed_before: Missed = field(default_factory=Missed)

    def see(self, frame: bytes, direction: Direction = Direction.INGRESS, context: bytes = b"") -> None:
        """Let a frame pass."""
        result = self.programs[direction].test_run(frame, context=context)
        assert (result.verdict, result.frame) == (VERDICTS[TC], frame)
        self.sent += 1

    def paths(self) -> dict[bytes, RawPath]:
        """All that is kept, by key."""
        found = {}
        for keys, values, ticks in self.follower.read():
            for place in range(len(ticks)):
                key = bytes(keys[place * KEY.size : (place + 1) * KEY.size])
                found[key] = RawPath.unpack(values, place * VALUE_SIZE)
        return found

    def path(self) -> RawPath:
        """The only one."""
        (path,) = self.paths().values()
        return path

    def missed(self) -> Missed:
        """What was of no connection in this test."""
        return sum(self.follower.missed(), Missed()) - self.missed_before

    def clear(self) -> None:
        """Forget everything."""
        for key, path in self.paths().items():
            assert self.follower.forget(key, path.last)
        self.sent, self.missed_before = 0, sum(self.follower.missed(), Missed())


@contextmanager
def following(filters: Filters = NO_FILTERS, *, most: int = MOST, **place: object) -> Iterator[Follower]:
    with ExitStack() as owned:
        tables = owned.enter_context(closing(FlowTables(Plan.make(MAX_FLOWS), present(), filters)))
        follower = tables.follow_tcp(most)
        programs = {
            direction: owned.enter_context(tables.load(TC, Place(direction=direction, **place)))  # type: ignore[arg-type]
            for direction in Direction
        }
        yield Follower(tables, follower, programs)


@pytest.fixture(scope="module")
def shared() -> Iterator[Follower]:
    with following() as made:
        yield made


@pytest.fixture
def follower(shared: Follower) -> Iterator[Follower]:
    shared.clear()
    yield shared
    counted = read(shared.tables.collect(shared.tables.flip()))
    assert counted.total.packets >= shared.sent, "the packet program is called in the end, for every packet"


def segment(
    source: tuple[str, int],
    destination: tuple[str, int],
    sequence: int,
    ack: int,
    *,
    flags: int = ACK,
    length: int = 0,
    window: int = 500,
    options: bytes = b"",
) -> bytes:
    """A TCP segment."""
    data_offset = 5 + len(options) // 4 << 4
    numbers = (source[1], destination[1], sequence % WRAP, ack % WRAP)
    return struct.pack("!HHIIBBHHH", *numbers, data_offset, flags, window, 0, 0) + options + bytes(length)


def frame_of(source: tuple[str, int], destination: tuple[str, int], packet: bytes) -> bytes:
    if ":" in source[0]:
        return ethernet(IPV6, ipv6(TCP, packet, src=source[0], dst=destination[0]))
    return ethernet(IPV4, ipv4(TCP, packet, src=source[0], dst=destination[0]))


@dataclass
class Talk:
    """Both sides of a connection; sequence numbers are counted from the first byte of payload."""

    follower: Follower
    client: tuple[str, int] = CLIENT
    server: tuple[str, int] = SERVER
    client_start: int = 1000
    server_start: int = 9000

    def out(self, at: int, length: int = 0, *, ack: int = 0, flags: int = ACK, window: int = 500) -> None:
        """The client sends `length` bytes from `at` on."""
        sequence, ack = self.client_start + 1 + at, self.server_start + 1 + ack
        packet = segment(self.client, self.server, sequence, ack, flags=flags, length=length, window=window)
        self.follower.see(frame_of(self.client, self.server, packet), Direction.INGRESS)

    def back(self, at: int, length: int = 0, *, ack: int = 0, flags: int = ACK, window: int = 500) -> None:
        """The server does."""
        sequence, ack = self.server_start + 1 + at, self.client_start + 1 + ack
        packet = segment(self.server, self.client, sequence, ack, flags=flags, length=length, window=window)
        self.follower.see(frame_of(self.server, self.client, packet), Direction.EGRESS)

    def open(self) -> None:
        self.out(-1, flags=SYN, ack=-1 - self.server_start)
        self.back(-1, flags=SYN | ACK)
        self.out(0)

    def ways(self) -> tuple[RawWay, RawWay]:
        """The client's and the server's."""
        ((key, path),) = self.follower.paths().items()
        client = KEY.unpack(key)[2] == self.client[1]
        return (path.low, path.high) if client else (path.high, path.low)

    def client_counts(self, *names: str) -> tuple[int, ...]:
        return tuple(self.ways()[0].counters[COUNTERS.index(name)] for name in names)

    def server_counts(self, *names: str) -> tuple[int, ...]:
        return tuple(self.ways()[1].counters[COUNTERS.index(name)] for name in names)


AGAIN = ("retransmitted_packets", "retransmitted_bytes")
LATE = ("late_packets", "late_bytes")
UNTOLD = ("untold_packets", "untold_bytes")


@pytest.fixture(
    params=[
        (CLIENT, SERVER, 1000),
        (SERVER, CLIENT, 1000),
        ((SRC6, 40000), (DST6, 443), 1000),
        (CLIENT, SERVER, WRAP - 2500),
        (CLIENT, SERVER, (1 << 31) - 2500),
    ],
    ids=["ipv4", "other-order", "ipv6", "wraps", "sign-wraps"],
)
def talk(request: pytest.FixtureRequest, follower: Follower) -> Talk:
    """A connection between two addresses, whose numbers begin anywhere."""
    client, server, start = request.param
    return Talk(follower, client, server, start, (start + 77) % WRAP)


def test_what_comes_in_order_is_new(talk: Talk) -> None:
    talk.open()
    for at in range(0, 5000, MSS):
        talk.out(at, MSS)
        talk.back(0, ack=at + MSS)
    assert talk.client_counts("packets", "data_packets", "bytes") == (7, 5, 5000)
    assert talk.server_counts("packets", "data_packets", "bytes") == (6, 0, 0)
    others = (*AGAIN, *LATE, *UNTOLD, "gaps", "probes", "duplicate_acks", "zero_windows", "repeated_syns", "resets")
    assert not any(talk.client_counts(*others) + talk.server_counts(*others))
    assert (talk.client_counts("syns"), talk.server_counts("syns")) == ((1,), (1,))


@pytest.mark.parametrize(
    "client, server",
    [
        (("fd00:1::7", 40000), ("fd00:2::7", 443)),
        (("fd00:2::7", 40000), ("fd00:1::7", 443)),
        ((SRC6, 40000), (SRC6, 443)),
        ((SRC6, 443), (SRC6, 40000)),
        ((SRC, 40000), (SRC, 443)),
        ((SRC, 443), (SRC, 40000)),
    ],
    ids=["first-half", "first-half-other-order", "port", "port-other-order", "ipv4-port", "ipv4-port-other-order"],
)
def test_both_sides_are_one_connection_whatever_tells_their_ends_apart(
    client: tuple[str, int], server: tuple[str, int], follower: Follower
) -> None:
    talk = Talk(follower, client, server)
    talk.open()
    talk.out(0, MSS)
    talk.back(0, ack=MSS)
    assert (talk.client_counts("packets", "bytes"), talk.server_counts("packets", "bytes")) == ((3, MSS), (2, 0))


def test_what_was_seen_before_is_retransmitted(talk: Talk) -> None:
    talk.open()
    for at in range(0, 5000, MSS):
        talk.out(at, MSS)
    talk.out(1000, MSS)
    talk.out(4000, MSS)
    assert talk.client_counts(*AGAIN, *LATE, *UNTOLD) == (2, 2000, 0, 0, 0, 0)
    talk.out(4500, MSS)
    assert talk.client_counts(*AGAIN, "bytes") == (3, 2500, 8000), "the part that was seen"
    talk.out(5500, MSS)
    assert talk.client_counts(*AGAIN, "gaps") == (3, 2500, 0)


def test_what_fills_a_gap_is_late_and_the_second_time_retransmitted(talk: Talk) -> None:
    talk.open()
    talk.out(0, MSS)
    talk.out(2000, MSS)
    assert talk.client_counts("gaps", *LATE) == (1, 0, 0)
    talk.out(1000, MSS)
    assert talk.client_counts("gaps", *LATE, *AGAIN) == (1, 1, 1000, 0, 0)
    talk.out(1000, MSS)
    assert talk.client_counts(*LATE, *AGAIN) == (1, 1000, 1, 1000)


def test_gaps_are_filled_in_parts_from_any_side(talk: Talk) -> None:
    talk.open()
    talk.out(0, 100)
    talk.out(1000, 100)
    talk.out(400, 200)
    assert talk.client_counts(*LATE) == (1, 200)
    talk.out(100, 300)
    talk.out(900, 100)
    assert talk.client_counts(*LATE, *AGAIN) == (3, 600, 0, 0)
    talk.out(500, 400)
    assert talk.client_counts(*LATE, *AGAIN) == (3, 900, 1, 100), "100 bytes of it were seen"
    talk.out(0, 1100)
    assert talk.client_counts(*LATE, *AGAIN) == (3, 900, 2, 1200)


def test_of_more_gaps_than_are_remembered_the_lowest_cannot_be_told(talk: Talk) -> None:
    talk.open()
    talk.out(0, 100)
    for number in range(1, 6):
        talk.out(200 * number, 100)
    assert talk.client_counts("gaps") == (5,)
    talk.out(100, 100)
    assert talk.client_counts(*LATE, *AGAIN, *UNTOLD) == (0, 0, 0, 0, 1, 100)
    for number in range(1, 5):
        talk.out(200 * number + 100, 100)
    assert talk.client_counts(*LATE, *AGAIN, *UNTOLD) == (4, 400, 0, 0, 1, 100)
    talk.out(200, 100)
    assert talk.client_counts(*AGAIN) == (1, 100)


def test_what_was_sent_before_the_first_packet_seen_cannot_be_told(talk: Talk) -> None:
    talk.out(5000, MSS)
    talk.out(4000, MSS)
    assert talk.client_counts(*AGAIN, *LATE, *UNTOLD) == (0, 0, 0, 0, 1, 1000)
    talk.out(4500, MSS)
    assert talk.client_counts(*AGAIN, *UNTOLD) == (1, 500, 1, 1500)


def test_gigabytes_later_old_numbers_are_not_taken_for_new_ones(talk: Talk) -> None:
    """Of a side whose other one is not heard: how far it may go is not known."""
    talk.out(-1, flags=SYN)
    step = 1 << 29
    for at in range(0, 12 * step, step):
        talk.out(at, MSS)
    assert talk.client_counts("gaps", *UNTOLD) == (11, 0, 0)
    talk.out(11 * step, MSS)
    talk.out(11 * step - MSS, MSS)
    talk.out(9 * step, MSS)
    assert talk.client_counts(*AGAIN, *LATE, *UNTOLD) == (1, 1000, 1, 1000, 1, 1000)


BEYOND = (500 + 64 << 14) + 1
"""A sequence number that no window of 500 reaches, however it is scaled."""


@pytest.mark.parametrize("flags", [ACK, FIN | ACK], ids=["data", "fin"])
@pytest.mark.parametrize("at", [BEYOND, (1 << 30) + MSS, -(1 << 30) - 1, 1 << 31])
def test_what_no_window_reaches_moves_nothing(talk: Talk, at: int, flags: int) -> None:
    """It may be anybody's: what the side goes on to send is neither late nor sent again."""
    talk.open()
    talk.out(0, MSS)
    talk.back(0)
    talk.out(at, MSS, flags=flags, window=0)
    assert talk.client_counts("data_packets", "bytes", *UNTOLD) == (2, 2 * MSS, 1, MSS)
    talk.out(MSS, MSS)
    talk.out(2 * MSS, flags=FIN | ACK)
    named = (*AGAIN, *LATE, "gaps", "fins", "zero_windows", *UNTOLD)
    assert talk.client_counts(*named) == (0, 0, 0, 0, 0, 1, 0, 1, MSS)


def test_what_a_window_reaches_leaves_a_gap(talk: Talk) -> None:
    talk.open()
    talk.out(0, MSS)
    talk.back(0)
    talk.out(BEYOND - 1, MSS)
    assert talk.client_counts("gaps", *UNTOLD) == (1, 0, 0)


def test_side_that_goes_on_where_it_could_not_be_is_found_again(talk: Talk) -> None:
    """The acknowledgments come another way from some moment on, or the mirror lost much."""
    talk.open()
    talk.out(0, MSS)
    talk.back(0)
    far = BEYOND + MSS
    for number in range(4):
        talk.out(far + number * MSS, MSS)
    assert talk.client_counts(*UNTOLD) == (2, 2 * MSS)
    talk.out(far + 2 * MSS, MSS)
    talk.out(0, MSS)
    assert talk.client_counts(*AGAIN, *LATE, *UNTOLD, "gaps") == (1, MSS, 0, 0, 3, 3 * MSS, 0)


def test_syn_in_the_middle_of_a_connection_begins_another_one_if_it_is_answered(talk: Talk) -> None:
    """A side believes none that stands elsewhere (RFC 5961): it asks, and goes on."""
    talk.open()
    talk.out(0, MSS)
    talk.back(0, MSS, ack=MSS)
    first = talk.client_start, talk.server_start
    talk.client_start, talk.server_start = talk.client_start + 50000, talk.server_start + 70000
    talk.out(-1, flags=SYN)
    talk.back(-1, flags=SYN | ACK, ack=7)
    assert (talk.follower.path().opened, talk.follower.path().unanswered) == (1, 0)
    others = talk.client_start, talk.server_start
    talk.client_start, talk.server_start = first
    talk.out(MSS, MSS, ack=MSS)
    talk.back(MSS, MSS, ack=2 * MSS)
    named = ("gaps", *AGAIN, *LATE, *UNTOLD)
    assert not any(talk.client_counts(*named) + talk.server_counts(*named))
    talk.client_start, talk.server_start = others
    talk.out(-1, flags=SYN)
    talk.back(-1, flags=SYN | ACK)
    talk.out(0)
    talk.out(0, MSS)
    talk.back(0, MSS, ack=MSS)
    path = talk.follower.path()
    assert (path.opened, path.unanswered, path.server_ns) == (2, 0, 0)
    assert path.client_ns > 0
    assert not any(talk.client_counts(*named) + talk.server_counts(*named))
    assert (talk.client_counts("syns", "bytes"), talk.server_counts("syns", "bytes")) == ((3, 3 * MSS), (3, 3 * MSS))


def test_end_below_what_the_side_has_sent_is_none(talk: Talk) -> None:
    talk.open()
    talk.out(0, MSS)
    talk.out(MSS - 500, flags=FIN | ACK)
    talk.out(MSS, MSS)
    talk.out(2 * MSS, flags=FIN | ACK)
    talk.out(MSS, flags=FIN | ACK)
    assert talk.client_counts("fins", "gaps", *AGAIN) == (1, 0, 0, 0)
    talk.out(2 * MSS, flags=FIN | ACK)
    assert talk.client_counts("fins", "gaps", *AGAIN) == (1, 0, 1, 0)


def test_simultaneous_open_is_one_connection(talk: Talk) -> None:
    talk.out(-1, flags=SYN)
    talk.back(-1, flags=SYN)
    talk.out(-1, flags=SYN | ACK)
    talk.back(-1, flags=SYN | ACK)
    talk.out(0, MSS)
    talk.back(0, MSS, ack=MSS)
    path = talk.follower.path()
    assert (path.opened, path.unanswered, path.refused, path.server_ns, path.client_ns) == (1, 0, 0, 0, 0)
    assert (path.low if path.opener == lib.TCP_OPENER_LOW else path.high) == talk.ways()[0], "who was first"
    for counts in (talk.client_counts, talk.server_counts):
        assert counts("syns", "repeated_syns", "bytes", "gaps", *AGAIN, *UNTOLD) == (1, 0, MSS, 0, 0, 0, 0, 0)
    talk.out(-1, flags=SYN | ACK)
    assert talk.client_counts("syns", "repeated_syns") == (1, 1)


def test_probe_is_no_retransmission(talk: Talk) -> None:
    talk.open()
    talk.out(0, MSS)
    talk.back(0, ack=MSS)
    talk.out(MSS - 1)
    talk.out(MSS - 1, 1)
    talk.back(0, ack=MSS)
    assert talk.client_counts("probes", *AGAIN) == (2, 0, 0)
    assert talk.server_counts("duplicate_acks") == (0,)


def test_last_byte_that_was_not_acknowledged_is_retransmitted_unless_the_window_is_closed(talk: Talk) -> None:
    talk.open()
    talk.out(0, 1)
    talk.out(0, 1)
    assert talk.client_counts("probes", *AGAIN) == (0, 1, 1)
    talk.back(0, window=0)
    talk.out(0, 1)
    assert talk.client_counts("probes", *AGAIN) == (1, 1, 1)


def test_single_byte_without_the_other_side_cannot_be_told(talk: Talk) -> None:
    talk.out(0, 10)
    talk.out(9, 1)
    assert talk.client_counts("probes", *AGAIN, *UNTOLD) == (0, 0, 0, 1, 1)


@pytest.mark.parametrize("other_side", [False, True])
def test_byte_that_is_the_first_of_a_side_is_new_whatever_its_number(follower: Follower, other_side: bool) -> None:
    talk = Talk(follower, client_start=WRAP - 2)
    if other_side:
        talk.back(0)
    talk.out(0, 1)
    assert talk.client_counts("data_packets", "bytes", "probes", *AGAIN, *UNTOLD) == (1, 1, 0, 0, 0, 0, 0)


def test_acknowledgment_is_a_duplicate_only_with_more_under_way(talk: Talk) -> None:
    talk.open()
    talk.back(0)
    assert talk.server_counts("duplicate_acks") == (0,), "nothing is under way"
    talk.out(0, MSS)
    talk.back(0, ack=MSS)
    talk.out(2 * MSS, MSS)
    talk.back(0, ack=MSS)
    talk.back(0, ack=MSS)
    assert talk.server_counts("duplicate_acks") == (2,)
    talk.back(0, ack=MSS, window=600)
    talk.back(0, MSS, ack=MSS, window=600)
    assert talk.server_counts("duplicate_acks") == (2,), "a new window, and data"


def test_window_is_closed_until_it_is_opened(talk: Talk) -> None:
    talk.open()
    talk.back(0, window=0)
    talk.back(0, window=0)
    assert talk.ways()[1].is_closed
    assert talk.server_counts("zero_windows") == (2,)
    assert talk.client_counts("zero_windows") == (0,)
    talk.back(0, window=1)
    assert not talk.ways()[1].is_closed
    talk.back(0, window=0)
    talk.out(0, flags=RST)
    assert not talk.ways()[1].is_closed, "a reset ends it"


def wait_for_ticks(talk: Talk, number: int) -> int:
    """Let the kernel's tick go on; return it."""
    clock = talk.follower.tables.clock
    start = clock().tick
    while signed(clock().tick - start) < number:
        pass
    return clock().tick


def closed_ticks(talk: Talk) -> int:
    """How long the server's window was closed, by all that is known now."""
    return talk.ways()[1].until(talk.follower.tables.clock().tick)[COUNTERS.index("closed_ticks")]


@pytest.mark.parametrize("is_alone", [False, True])
def test_closed_time_is_kept_when_the_next_connection_begins(talk: Talk, is_alone: bool) -> None:
    """Of both sides, or of the server alone: that the first one ended was not seen."""
    if not is_alone:
        talk.open()
        talk.out(0, MSS)
    talk.back(0, MSS, ack=MSS, window=0)
    wait_for_ticks(talk, 3)
    before = closed_ticks(talk)
    assert before >= 3
    talk.client_start, talk.server_start = talk.client_start + 50000, talk.server_start + 70000
    if not is_alone:
        talk.out(-1, flags=SYN)
        assert talk.ways()[1].is_closed, "so far it may be anybody's"
    talk.back(-1, flags=SYN | ACK)
    assert not talk.ways()[1].is_closed
    (after,) = talk.server_counts("closed_ticks")
    assert signed(after - before) >= -1, "a packet's tick may be that of the moment before"
    wait_for_ticks(talk, 2)
    assert closed_ticks(talk) == after


@pytest.mark.parametrize("at", [-(1 << 20) - 1, (1 << 20) + 1])
def test_window_is_not_closed_by_what_stands_elsewhere(talk: Talk, at: int) -> None:
    """It may be anybody's: it is counted, and nothing waits for it."""
    talk.open()
    talk.back(0, MSS)
    talk.back(MSS + at, window=0)
    assert talk.server_counts("zero_windows") == (1,)
    assert not talk.ways()[1].is_closed
    talk.back(MSS + at - (at > 0) + (at < 0), window=0)
    assert talk.ways()[1].is_closed


@pytest.mark.parametrize("first", ["client", "server"])
@pytest.mark.parametrize("window", [0, 500])
def test_closed_time_ends_with_the_connection(talk: Talk, first: str, window: int) -> None:
    """By both ends that were said, one of them with the window still closed; or by a reset."""
    talk.open()
    talk.back(0, window=0)
    wait_for_ticks(talk, 3)
    before = closed_ticks(talk)
    if first == "server":
        talk.back(0, flags=FIN | ACK, window=0)
        talk.out(0, ack=1, flags=FIN | ACK)
    else:
        talk.out(0, flags=FIN | ACK)
        talk.back(0, ack=1, flags=FIN | ACK, window=window)
    talk.back(1, ack=1, window=0)
    assert not talk.ways()[1].is_closed
    (after,) = talk.server_counts("closed_ticks")
    assert signed(after - before) >= -1
    wait_for_ticks(talk, 2)
    talk.out(-1, flags=SYN)
    assert talk.server_counts("closed_ticks") == (after,)


def test_window_after_a_reset_is_none(talk: Talk) -> None:
    talk.open()
    talk.out(0, flags=RST)
    talk.back(0, MSS, window=0)
    assert talk.follower.path().has_ended
    assert not talk.ways()[1].is_closed


def test_reset_is_believed_only_where_the_other_side_may_believe_it(talk: Talk) -> None:
    talk.open()
    talk.out(0, 3 * MSS)
    talk.back(0, MSS, ack=MSS)
    for at in (-1, MSS - 1, 3 * MSS + 1, 100 * MSS, 1 << 30, 1 << 31):
        talk.out(at, flags=RST)
    for at in (-1, MSS + 1, -(1 << 30)):
        talk.back(at, flags=RST | ACK)
    path = talk.follower.path()
    assert (path.has_ended, path.refused) == (False, 0)
    assert (talk.client_counts("resets"), talk.server_counts("resets")) == ((6,), (3,)), "they passed, and are counted"
    talk.out(3 * MSS, MSS, ack=MSS)
    talk.back(MSS, MSS, ack=4 * MSS)
    assert not any(talk.client_counts(*AGAIN, *UNTOLD, "gaps") + talk.server_counts(*AGAIN, *UNTOLD, "gaps"))
    talk.back(2 * MSS, flags=RST)
    assert talk.follower.path().has_ended


@pytest.mark.parametrize("at", [MSS, 2 * MSS, 3 * MSS])
def test_reset_is_believed_from_what_was_acknowledged_to_what_was_sent(talk: Talk, at: int) -> None:
    talk.open()
    talk.out(0, 3 * MSS)
    talk.back(0, ack=MSS)
    talk.out(at, flags=RST)
    assert talk.follower.path().has_ended


@pytest.mark.parametrize("at, believed", [(0, True), (500, True), (501, False), (-1, False)])
def test_reset_of_a_side_without_data_is_believed_within_the_window(talk: Talk, at: int, believed: bool) -> None:
    talk.back(0, MSS, ack=0, window=500)
    talk.out(at, flags=RST)
    assert talk.follower.path().has_ended is believed


def test_reset_with_nothing_to_judge_by_is_believed(talk: Talk) -> None:
    talk.out(12345, flags=RST)
    assert talk.follower.path().has_ended


def test_reset_that_does_not_acknowledge_the_syn_refuses_nothing(talk: Talk) -> None:
    talk.out(-1, flags=SYN)
    talk.back(-1, flags=RST)
    talk.back(-1, ack=-1, flags=RST | ACK)
    talk.back(-1, ack=1, flags=RST | ACK)
    path = talk.follower.path()
    assert (path.refused, path.has_ended, path.unanswered) == (0, False, 1)
    talk.back(-1, flags=RST | ACK)
    path = talk.follower.path()
    assert (path.refused, path.has_ended, path.unanswered) == (1, True, 0)


def test_reset_after_an_answer_that_was_not_seen_stands_where_it_is_expected(talk: Talk) -> None:
    talk.out(-1, flags=SYN)
    talk.back(0, MSS)
    talk.back(MSS + 1, flags=RST)
    assert not talk.follower.path().has_ended
    talk.back(MSS, flags=RST)
    assert talk.follower.path().has_ended


def test_answers_alone_begin_a_connection_once(talk: Talk) -> None:
    """One direction: the SYN after a reset is not seen, its answers are."""
    talk.back(0, MSS)
    talk.back(MSS, flags=RST)
    assert talk.follower.path().has_ended
    talk.server_start += 70000
    for _ in range(3):
        talk.back(-1, flags=SYN | ACK)
    assert not talk.follower.path().has_ended
    assert talk.server_counts("syns", "repeated_syns") == (1, 2)


def test_window_of_a_syn_or_a_reset_is_none(talk: Talk) -> None:
    talk.out(-1, flags=SYN, window=0)
    talk.back(-1, flags=SYN | ACK, window=0)
    talk.out(0, flags=RST | ACK, window=0)
    assert (talk.client_counts("zero_windows"), talk.server_counts("zero_windows")) == ((0,), (0,))


def test_handshake_has_two_round_trips(talk: Talk) -> None:
    talk.out(-1, flags=SYN)
    path = talk.follower.path()
    assert (path.opened, path.unanswered, path.server_ns, path.client_ns) == (1, 1, 0, 0)
    talk.back(-1, flags=SYN | ACK)
    assert talk.follower.path().server_ns > 0
    assert talk.follower.path().client_ns == 0
    talk.out(0)
    path = talk.follower.path()
    assert path.client_ns > 0
    assert path.unanswered == 0
    assert (path.low if path.opener == lib.TCP_OPENER_LOW else path.high) == talk.ways()[0]
    before = path.client_ns
    talk.out(0, MSS)
    assert talk.follower.path().client_ns == before


def test_repeated_syn_leaves_the_round_trip_unknown(talk: Talk) -> None:
    talk.out(-1, flags=SYN)
    talk.out(-1, flags=SYN)
    assert talk.follower.path().unanswered == 2
    talk.back(-1, flags=SYN | ACK)
    talk.back(-1, flags=SYN | ACK)
    talk.out(0)
    path = talk.follower.path()
    assert (path.opened, path.unanswered, path.server_ns, path.client_ns) == (1, 0, 0, 0)
    assert talk.client_counts("syns", "repeated_syns", *AGAIN) == (1, 1, 0, 0)
    assert talk.server_counts("syns", "repeated_syns", *AGAIN) == (1, 1, 0, 0)


def test_answer_that_came_another_way_is_an_answer(talk: Talk) -> None:
    """One direction of a connection: the opener has the other side's answer, or it would not acknowledge anything."""
    for _ in range(3):
        talk.out(-1, flags=SYN)
    assert talk.follower.path().unanswered == 3
    talk.out(0, MSS)
    path = talk.follower.path()
    assert (path.opened, path.unanswered, path.server_ns, path.client_ns) == (1, 0, 0, 0)
    assert talk.client_counts("syns", "repeated_syns", *AGAIN) == (1, 2, 0, 0)


def test_other_sides_data_answers_only_if_it_acknowledges_the_syn(talk: Talk) -> None:
    """An acknowledgment of an earlier connection's data is none of this one's SYN."""
    talk.out(-1, flags=SYN)
    talk.back(0, ack=-5000)
    assert talk.follower.path().unanswered == 1
    talk.back(0, MSS)
    assert talk.follower.path().unanswered == 0
    talk.back(MSS, flags=RST)
    path = talk.follower.path()
    assert (path.refused, path.has_ended) == (0, True)


def test_answer_with_data_is_no_round_trip_to_the_client(talk: Talk) -> None:
    talk.out(-1, flags=SYN)
    talk.back(-1, flags=SYN | ACK)
    talk.out(0, MSS)
    talk.out(MSS)
    assert talk.follower.path().client_ns == 0


def test_refused_is_what_a_reset_answers(talk: Talk) -> None:
    talk.out(-1, flags=SYN)
    talk.back(-1, flags=RST | ACK)
    path = talk.follower.path()
    assert (path.opened, path.refused, path.has_ended) == (1, 1, True)
    talk.out(-1, flags=SYN)
    path = talk.follower.path()
    assert (path.opened, path.has_ended) == (2, False)
    assert talk.client_counts("syns", "repeated_syns") == (2, 0), "the same number after a reset is a new attempt"
    talk.back(-1, flags=SYN | ACK)
    talk.out(0)
    talk.back(0, flags=RST)
    assert talk.follower.path().refused == 1
    assert talk.server_counts("resets") == (2,)


def test_next_connection_of_the_same_ports_begins_anew(talk: Talk) -> None:
    talk.open()
    talk.out(0, 3 * MSS)
    talk.out(3 * MSS, flags=FIN | ACK)
    talk.back(0, ack=3 * MSS + 1, flags=FIN | ACK)
    assert talk.follower.path().has_ended
    talk.client_start, talk.server_start = talk.client_start + 2500, talk.server_start - 7000
    talk.open()
    assert not talk.follower.path().has_ended
    talk.out(0, MSS)
    talk.back(0, MSS, ack=MSS)
    assert talk.follower.path().opened == 2
    assert talk.client_counts(*AGAIN, *LATE, *UNTOLD, "gaps", "fins") == (0, 0, 0, 0, 0, 0, 0, 1)
    assert talk.server_counts(*AGAIN, *LATE, *UNTOLD, "gaps", "fins") == (0, 0, 0, 0, 0, 0, 0, 1)


def test_fin_takes_a_sequence_number(talk: Talk) -> None:
    talk.open()
    talk.out(0, MSS, flags=FIN | PSH | ACK)
    talk.out(MSS + 1)
    assert talk.client_counts("fins", "probes", *AGAIN) == (1, 0, 0, 0)
    talk.out(MSS, flags=FIN | ACK)
    assert talk.client_counts("fins", *AGAIN) == (1, 1, 0), "said again, without payload"
    talk.out(0, MSS, flags=FIN | PSH | ACK)
    assert talk.client_counts("fins", *AGAIN) == (1, 2, MSS)


def test_data_that_comes_after_the_fin_is_late(talk: Talk) -> None:
    talk.open()
    talk.out(MSS, flags=FIN | ACK)
    talk.out(0, MSS)
    assert talk.client_counts("gaps", "fins", *LATE, *AGAIN) == (1, 1, 1, MSS, 0, 0)


def test_merged_packet_is_as_many_as_it_was_made_of(follower: Follower) -> None:
    talk = Talk(follower)
    talk.open()
    packet = segment(CLIENT, SERVER, talk.client_start + 1, talk.server_start + 1, length=2500)
    merged = skb_context(gso_size=MSS, gso_segs=3)
    follower.see(frame_of(CLIENT, SERVER, packet), context=merged)
    assert talk.client_counts("packets", "data_packets", "bytes") == (5, 3, 2500)
    talk.out(3000, 500)
    packet = segment(CLIENT, SERVER, talk.client_start + 1 + 500, talk.server_start + 1, length=2500)
    follower.see(frame_of(CLIENT, SERVER, packet), context=merged)
    assert talk.client_counts("data_packets", *AGAIN, *LATE) == (7, 2, 2000, 1, 500)


def test_padding_is_no_payload_and_options_are_none(follower: Follower) -> None:
    talk = Talk(follower)
    talk.open()
    packet = segment(CLIENT, SERVER, 1001, 9001, length=3, options=bytes([1] * 12))
    follower.see(frame_of(CLIENT, SERVER, packet) + bytes(6))
    assert talk.client_counts("data_packets", "bytes") == (1, 3)
    follower.see(ethernet(IPV4, ipv4(TCP, packet, src=SRC, dst=DST, options=bytes([1] * 8))) + bytes(6))
    assert talk.client_counts("data_packets", "bytes", *AGAIN) == (2, 6, 1, 3)


@pytest.mark.parametrize("tag", [b"", b"\x81\x00\x00\x05"])
@pytest.mark.parametrize("made", [SRC, SRC6])
def test_packet_is_no_longer_than_its_frame(follower: Follower, made: str, tag: bytes) -> None:
    talk = Talk(follower) if made == SRC else Talk(follower, (SRC6, 40000), (DST6, 443))
    talk.open()
    follower.clear()
    frame = frame_of(talk.client, talk.server, segment(talk.client, talk.server, 1001, 9001, length=10))
    at, length = (16, 60000) if made == SRC else (18, 59980)
    frame = frame[:at] + struct.pack("!H", length) + frame[at + 2 :]
    follower.see(frame[:12] + tag + frame[12:])
    assert talk.client_counts("data_packets", "bytes") == (1, 10)
    frame = frame_of(talk.client, talk.server, segment(talk.client, talk.server, 1011, 9001, length=10))
    follower.see(frame[:12] + tag + frame[12:])
    assert talk.client_counts("data_packets", "bytes", *AGAIN) == (2, 20, 0, 0)


def test_vlans_are_apart(follower: Follower) -> None:
    packet = ipv4(TCP, segment(CLIENT, SERVER, 1, 1, length=10), src=SRC, dst=DST)
    for vlan_id in (0, 5, 6):
        follower.see(ethernet(VLAN, vlan(vlan_id, IPV4, packet)) if vlan_id else ethernet(IPV4, packet))
    assert sorted(KEY.unpack(key)[-1] for key in follower.paths()) == [0, 5, 6]


def test_connection_without_room_is_counted(follower: Follower) -> None:
    for port in range(1, 2 * MOST):
        follower.see(frame_of((SRC, port), SERVER, segment((SRC, port), SERVER, 1, 1, length=10)))
    assert len(follower.paths()) == MOST
    assert follower.missed() == Missed(no_room=MOST - 1)
    assert sum(path.low.counters[0] + path.high.counters[0] for path in follower.paths().values()) == MOST
    for key, path in follower.paths().items():
        assert follower.follower.forget(key, path.last)
    follower.see(frame_of(CLIENT, SERVER, segment(CLIENT, SERVER, 1, 1)))
    assert len(follower.paths()) == 1
    assert follower.path().last > 0


def test_readings_in_parts_have_every_connection_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtrace.monitors.paths.follower.AT_ONCE", 1)
    with following(most=256) as made:
        for port in range(1, 201):
            made.see(frame_of((SRC, port), SERVER, segment((SRC, port), SERVER, 1, 1)))
        sizes = [len(ticks) for _, _, ticks in made.follower.read()]
        assert max(sizes) <= 1 + BATCH_MARGIN
        assert sum(sizes) == len(made.paths()) == 200


def test_frame_is_counted_if_the_packet_program_cannot_be_called() -> None:
    with following() as made:
        made.follower._counting.delete(abi.U32.pack(0))
        made.see(frame_of(CLIENT, SERVER, segment(CLIENT, SERVER, 1, 1)), Direction.INGRESS)
        made.see(ethernet(ARP, bytes(64)), Direction.INGRESS)
        made.see(ethernet(ARP, bytes(64)), Direction.EGRESS)
        assert made.missed() == Missed(uncounted=2)


def test_connection_that_got_a_packet_is_not_forgotten(follower: Follower) -> None:
    follower.see(frame_of(CLIENT, SERVER, segment(CLIENT, SERVER, 1, 1)))
    ((key, path),) = follower.paths().items()
    assert not follower.follower.forget(key, path.last - 1)
    assert follower.paths()
    assert follower.follower.forget(key, path.last)
    assert not follower.paths()


def test_fragments_and_what_is_cut_short_is_counted(follower: Follower) -> None:
    packet = segment(CLIENT, SERVER, 1, 1, length=64)
    unread = [
        ethernet(IPV4, ipv4(TCP, packet, more=True)),
        ethernet(IPV4, ipv4(TCP, bytes(64), offset=8)),
        ethernet(IPV4, ipv4(TCP, packet[:12])),
        ethernet(IPV4, ipv4(TCP, packet[:12] + b"\x40" + packet[13:])),
        ethernet(IPV4, ipv4(TCP, packet[:12] + b"\xf0" + packet[13:40])),
        ethernet(IPV6, ipv6(TCP, packet[:19])),
    ]
    for frame in unread:
        follower.see(frame)
    assert follower.missed() == Missed(unread=len(unread))
    assert not follower.paths()


def test_merged_packet_that_is_cut_short_is_as_many_as_its_flow_counts(follower: Follower) -> None:
    packet = segment(CLIENT, SERVER, 1, 1, length=2500)
    packet = packet[:12] + b"\x40" + packet[13:]
    follower.see(frame_of(CLIENT, SERVER, packet), context=skb_context(gso_size=MSS, gso_segs=3))
    assert follower.missed() == Missed(unread=3)
    counted = read(follower.tables.collect(follower.tables.flip()))
    assert counted.total.packets == 3
    follower.sent = 0


def test_what_is_not_tcp_is_nothing(follower: Follower) -> None:
    follower.see(ethernet(IPV4, ipv4(UDP, bytes(64))))
    follower.see(ethernet(ARP, bytes(64)))
    follower.see(ethernet(IPV6, ipv6(ICMPV6, bytes(64))))
    assert follower.missed() == Missed()
    assert not follower.paths()


def test_packet_that_passes_both_directions_is_looked_at_once(follower: Follower) -> None:
    frame = frame_of(CLIENT, SERVER, segment(CLIENT, SERVER, 1, 1, length=10))
    for _ in range(2):
        follower.see(frame, Direction.INGRESS)
        follower.see(frame, Direction.EGRESS)
    assert Talk(follower).client_counts("packets", *AGAIN) == (2, 1, 10)
    assert follower.missed() == Missed(second_pass=2)


def test_side_that_is_quiet_where_it_was_first_seen_is_followed_in_the_other_direction(follower: Follower) -> None:
    """A packet that came the wrong way, or a host that has moved."""
    follower.see(frame_of(CLIENT, SERVER, segment(CLIENT, SERVER, 1, 1, length=10)), Direction.EGRESS)
    came = frame_of(CLIENT, SERVER, segment(CLIENT, SERVER, 11, 1, length=10))
    deadline = time.monotonic() + LIMIT_S
    while Talk(follower).client_counts("packets") == (1,):
        assert time.monotonic() < deadline, "it is never looked at"
        follower.see(came, Direction.INGRESS)
    missed = follower.missed()
    assert missed == Missed(second_pass=follower.sent - 2) and missed.second_pass > 0
    assert Talk(follower).client_counts("packets", "bytes", "gaps", *AGAIN) == (2, 20, 0, 0, 0)
    follower.see(came, Direction.INGRESS)  # it is not quiet there yet, however long all this took
    follower.see(came, Direction.EGRESS)
    assert follower.missed() - missed == Missed(second_pass=1)


def test_kernel_that_refuses_the_program_is_found_out_before_anything_is_attached() -> None:
    """A lock needs type information."""
    with closing(FlowTables(Plan.make(16), present()._replace(btf=False))) as tables:
        with pytest.raises(VerifierError, match=r"^BPF_PROG_LOAD\(follow_tcp\)"):
            tables.follow_tcp(MOST)
        assert tables.tcp_follower is None
        with tables.load(TC) as program:
            assert program.name == TC, "counting goes on without"


@pytest.mark.parametrize("plain", [True, False])
def test_filters_are_obeyed(plain: bool) -> None:
    with following(Filters(ports=frozenset({443})), plain=plain) as made:
        talk = Talk(made)
        talk.open()
        talk.out(0, MSS)
        other = (DST, 80)
        made.see(frame_of(CLIENT, other, segment(CLIENT, other, 1, 1, length=10)))
        assert talk.client_counts("data_packets") == (1,)
        assert made.missed() == Missed()


def other_frames() -> list[bytes]:
    """What has no whole TCP header, of port 80 and of port 443: both fragments of each, and what is cut short."""
    frames = []
    for port in (443, 80):
        packet = segment(CLIENT, (DST, port), 1, 1, length=64)
        frames += [
            ethernet(IPV4, ipv4(TCP, packet, more=True)),
            ethernet(IPV4, ipv4(TCP, packet[:12])),
            ethernet(IPV4, ipv4(TCP, packet[:12] + b"\x40" + packet[13:])),
            ethernet(IPV6, ipv6(TCP, packet[:19])),
        ]
    return [*frames, ethernet(IPV4, ipv4(TCP, bytes(64), offset=8))]


@pytest.mark.parametrize(
    "filters, later",
    [
        (NO_FILTERS, 0),
        (Filters(ports=frozenset({80})), 1),
        (Filters(ports=frozenset({22})), 0),
        (Filters(networks=(ip_network(SRC),)), 0),
        (Filters(excluded_networks=(ip_network(SRC),)), 0),
    ],
)
def test_filters_judge_what_is_unread_as_the_flows_do(filters: Filters, later: int) -> None:
    """But later fragments by port, of which the flows alone know the first."""
    with following(filters) as made:
        for frame in other_frames():
            made.see(frame)
        counted = read(made.tables.collect(made.tables.flip()))
        flows = sum(flow.packets for flow in counted.flows.values())
        assert made.missed() == Missed(unread=flows - later)

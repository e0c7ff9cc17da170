"""What --owners costs: per packet, connection and start; what it knows of 1,000 clients in 20 control groups."""

from __future__ import annotations

import resource
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from tests.netns.crowd import FIRST_PORT, crowd, judge
from tests.netns.tool import running
from tests.support.flood import frame
from tests.support.net import assert_sums_close, of_type
from xtrace.kernel import abi, features
from xtrace.kernel.bpf import Program
from xtrace.kernel.cgroups import Cgroups, mount_point
from xtrace.kernel.syscall import lib
from xtrace.model.flow import ENTRY, PROTOCOL_TCP, FlowTable
from xtrace.model.flow_owners import OWNER
from xtrace.model.words import Direction
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import BESIDE_XDP, FlowTables, Place
from xtrace.monitors.owners.seeding import seed

REPEAT, ROUNDS = 1_000_000, 9
CONNECTIONS, CONNECTION_ROUNDS = 2000, 9
SOCKETS = 5000
FLOWS = 65536
NAMESPACES, CLIENTS = 20, 50
"""Clients in each."""
CB_OFFSET = 48
"""Of struct __sk_buff's cb."""
GOAL, CONNECTION_GOAL = 1.10, 1.25


@contextmanager
def tables(recent_cpus: int | None = None, *, owners: bool) -> Iterator[FlowTables]:
    """Flow tables, with or without owners."""
    plan = Plan.make(65536)
    if recent_cpus is not None:
        plan = plan._replace(recent_cpus=recent_cpus)
    with ExitStack() as opening:
        made = opening.enter_context(closing(FlowTables(plan, features.probe())))
        if owners:
            made.find_owners(opening.enter_context(Cgroups()))
        yield made


@contextmanager
def programs(recent_cpus: int | None, direction: Direction) -> Iterator[dict[bool, Program]]:
    """The packet program without and with owners."""
    with tables(recent_cpus, owners=False) as without, tables(recent_cpus, owners=True) as with_owners:
        place = Place(direction=direction)
        with without.load("tc_packet", place) as first, with_owners.load("tc_packet", place) as second:
            yield {False: first, True: second}


def packets() -> Iterator[str]:
    """A line for each way that a packet may take, once its flow has been asked for."""
    yield f"packet cost in ns with --owners ({ROUNDS} interleaved rounds x {REPEAT:,} frames)"
    yield f"  {'packet':<40}{'without':>9}{'with':>8}{'ratio':>8}   goal"
    cases = (("egress, recent flow", None), ("egress, flow in the table alone", 0))
    for name, recent_cpus in cases:
        with programs(recent_cpus, Direction.EGRESS) as loaded:
            rounds = [
                {owners: program.test_run(frame(1), repeat=REPEAT).duration_ns for owners, program in loaded.items()}
                for _ in range(ROUNDS)
            ]
        without, with_owners = (statistics.median(each[owners] for each in rounds) for owners in (False, True))
        yield f"  {name:<40}{without:>9.0f}{with_owners:>8.0f}{with_owners / without:>8.2f}   {GOAL:.2f}"


def beside_xdp() -> Iterator[str]:
    """A line: a packet at XDP, and what the program at tc beside it takes once its flow has been asked for."""
    with tables(owners=True) as made, made.load("xdp_ingress") as counting, made.load(BESIDE_XDP) as beside:
        counting.test_run(frame(1))
        rounds = [
            [program.test_run(frame(1), repeat=REPEAT).duration_ns for program in (counting, beside)]
            for _ in range(ROUNDS)
        ]
    at_xdp, at_tc = (statistics.median(each) for each in zip(*rounds, strict=True))
    yield f"  {'enters, counted at XDP':<40}{at_xdp:>9.0f}{at_xdp + at_tc:>8.0f}{(at_xdp + at_tc) / at_xdp:>8.2f}"


def local_frame(port: int) -> bytes:
    """A datagram to a port of this host."""
    made = bytearray(frame(1))
    made[26:34] = socket.inet_aton("127.0.0.1") * 2
    made[36:38] = port.to_bytes(2, "big")
    return bytes(made)


def asking() -> Iterator[str]:
    """A line for each way to find the owner of a flow: its first packets take them, OWNER_MOST_ASKED an interval."""
    yield f"what is asked for the owner of a flow, ns beside its packet's own ({ROUNDS} rounds x {REPEAT:,})"
    cases = (
        ("enters, to a socket", Direction.INGRESS, True, lib.OWNER_SOCKET),
        ("enters, to no socket", Direction.INGRESS, False, lib.OWNER_UNKNOWN),
        ("leaves", Direction.EGRESS, True, lib.OWNER_CGROUP),
    )
    for name, direction, has_socket, expected in cases:
        with tables(owners=True) as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            packet = local_frame(receiver.getsockname()[1])
            if not has_socket:
                receiver.close()
            probe = made.owner_probe
            assert probe is not None
            with made.load("tc_packet", Place(direction=direction)) as program:
                program.test_run(packet)  # the flow's entry is the first
            with probe.load(direction.bit, None) as asked:
                context = bytes(CB_OFFSET) + abi.U32.pack(0)
                spent = [asked.test_run(packet, repeat=REPEAT, context=context).duration_ns for _ in range(ROUNDS)]
            found = OWNER.unpack(probe.owners.lookup(abi.U32.pack(0)) or bytes(OWNER.size))[4]
            assert found == expected, (name, found)
        yield f"  {name:<40}{statistics.median(spent):>9.0f}"


def connect(address: tuple[str, int], listener: socket.socket) -> float:
    """us per connection that is opened, accepted and closed."""
    begun = time.perf_counter()
    for _ in range(CONNECTIONS):
        client = socket.create_connection(address)
        server, _ = listener.accept()
        server.close()
        client.close()
    return (time.perf_counter() - begun) / CONNECTIONS * 1e6


def connections() -> Iterator[str]:
    """A line: connections over loopback without and with the program that notes creators."""
    times: dict[bool, list[float]] = {False: [], True: []}
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        address = listener.getsockname()
        for _ in range(CONNECTION_ROUNDS):
            times[False].append(connect(address, listener))
            with tables(owners=True):
                times[True].append(connect(address, listener))
    without, with_owners = (min(times[owners]) for owners in (False, True))
    yield f"connection over loopback, both ends, by one Python process ({CONNECTION_ROUNDS} x {CONNECTIONS:,})"
    yield (
        f"  {without:.1f} us without, {with_owners:.1f} us with: {with_owners / without:.2f}"
        f"   goal {CONNECTION_GOAL:.2f}"
    )


def seeding() -> Iterator[str]:
    """A line: sockets from before the start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kept = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
    try:
        with Cgroups() as cgroups, tables(owners=True) as made:
            assert made.owner_probe is not None
            begun = time.perf_counter()
            found = seed(made.owner_probe.creators, cgroups)
            spent = time.perf_counter() - begun
            memory = made.memory()
        with tables(owners=False) as made:
            memory -= made.memory()
    finally:
        for each in kept:
            each.close()
    yield f"sockets from before the start: {found.sockets} of all processes in {spent * 1e3:.0f} ms"
    yield f"maps for owners: {memory / 1e6:.1f} MB"


def behind_nat() -> Iterator[str]:
    """A line: finding the flows that NAT may have translated, and those at veths that may be the same."""
    entries, owners = bytearray(), bytearray()
    for number in range(FLOWS):
        key = (bytes(16), bytes(16), 443, number & 0xFFFF, 0, 0, 0x0800, number % 4, PROTOCOL_TCP, 0, 0)
        entries += ENTRY.pack(*key, 1, 60, 0, 0, 0, 0, 1, 0)
        owners += OWNER.pack(1, 1, 0, b"", lib.OWNER_SOCKET if number % 2 else lib.OWNER_UNKNOWN, 0)
    flows = FlowTable(memoryview(entries), FLOWS, memoryview(owners))
    searches = (({lib.OWNER_UNKNOWN}, {0, 2}, None), ({lib.OWNER_SOCKET}, {1, 3}, {443, *range(1000)}))
    spent: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for search, times in zip(searches, spent, strict=True):
            begun = time.thread_time()
            flows.owned_as(*search)
            times.append((time.thread_time() - begun) * 1e3)
    first, second = map(statistics.median, spent)
    yield f"behind NAT, of {FLOWS:,} flows: those to ask for in {first:.1f} ms, those at veths in {second:.1f} ms"


def known() -> Iterator[str]:
    """A line each: the tool is there from the start, and from the middle on."""
    mount = mount_point()
    if mount is None:
        yield "control groups of version 2 are not mounted: no clients in them"
        return
    yield f"{NAMESPACES * CLIENTS:,} clients in {NAMESPACES} namespaces and control groups, 5 services, IPv4 and IPv6"
    for when, before, hook in (
        ("from the start", 0, "auto"),
        ("from the middle on", CLIENTS, "auto"),
        ("what enters counted at XDP", 0, "native"),
    ):
        with crowd(NAMESPACES, mount) as made:
            if before:
                made.run(before, 2 * FIRST_PORT)
            options = ("-i", "c*,s0", "--owners", "--direction", "both", "-o", "json", "-t", "1s", "--xdp-mode", hook)
            with running(made.router, *options, programs=made.programs) as tool:
                clients = made.run(CLIENTS)
                tool.wait_for_intervals(made.programs)
                result = tool.stop()
            services = f"/{made.groups[0].name.rpartition('-')[0]}-s"
        assert_sums_close(result.records)
        verdict = judge(made, clients, of_type(result.records, "flow"), group=services)
        lives = sorted(client.life_us for client in clients)
        p95 = lives[len(lives) * 95 // 100]
        yield (
            f"  {when}: {verdict.named:,} of {verdict.bytes:,} bytes named"
            f" ({100 * verdict.named / verdict.bytes:.3f} %), {verdict.wrong} wrong;"
            f" clients lived {lives[len(lives) // 2] / 1e3:.1f} ms, 95 % of them less than {p95 / 1e3:.1f} ms"
        )


def measure() -> Iterator[str]:
    """All of it."""
    yield from known()
    yield from packets()
    yield from beside_xdp()
    yield from asking()
    yield from connections()
    yield from seeding()
    yield from behind_nat()

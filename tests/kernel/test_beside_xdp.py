"""The program at tc beside XDP: of each packet it finds the flow that XDP has counted, and it counts nothing."""

from __future__ import annotations

from collections import Counter as Packets
from collections.abc import Iterator, Sequence

import pytest

from tests.kernel.cases import GROUPS
from tests.kernel.counter import TC, VERDICTS, Counter, present, skb_context, takes_skb
from tests.kernel.stripped import stripping_before
from tests.support.frames import IPV4, UDP, VLAN, ethernet, ipv4, udp, vlan
from xtrace.kernel.bpf import Program
from xtrace.kernel.syscall import lib
from xtrace.model.flow import ENTRY
from xtrace.monitors.flows.tables import BESIDE_XDP, Place


@pytest.fixture(autouse=True)
def kernel_has_what_owners_need() -> None:
    if not present().cmpxchg:
        pytest.xfail("this kernel has no compare-and-swap in BPF")


@pytest.fixture(scope="module")
def shared_program(shared_counter: Counter) -> Iterator[Program]:
    with shared_counter.tables.load(BESIDE_XDP) as program:
        yield program


@pytest.fixture
def program(shared_program: Program, counter: Counter) -> Program:
    """The program beside that of `counter`."""
    return shared_program


def asked(counter: Counter) -> list[int]:
    """How often each flow of the interval was asked for, from its end on."""
    drained = counter.tables.collect(counter.tables.flip(last=True))
    return [entry[-1] for entry in ENTRY.iter_unpack(drained.flows.entries)]


def show(program: Program, frames: Sequence[bytes], context: bytes = b"") -> None:
    """Let it see frames; they pass unchanged."""
    for frame in frames:
        result = program.test_run(frame, context=context)
        assert (result.verdict, result.frame) == (VERDICTS[TC], frame)


@pytest.mark.parametrize("group", GROUPS)
def test_every_flow_is_found_by_its_packets_and_one_that_was_not_counted_is_not_made(
    counter: Counter, program: Program, group: str
) -> None:
    frames = [case.frame for case in GROUPS[group] if counter.takes(case.frame) and takes_skb(case.frame)]
    show(program, frames)
    assert asked(counter) == []
    for frame in frames:
        counter.count(frame)
    show(program, frames)
    found = asked(counter)
    packets = Packets(counter.parse(frame).key for frame in frames)
    assert sorted(found) == sorted(min(number, lib.OWNER_MOST_ASKED) for number in packets.values())


def test_a_flow_is_asked_for_a_few_times_and_counted_as_often_as_it_came(counter: Counter, program: Program) -> None:
    frame = ethernet(IPV4, ipv4(UDP, udp(5, 6)))
    for _ in range(3 * lib.OWNER_MOST_ASKED):
        counter.count(frame)
        show(program, [frame])
    drained = counter.tables.collect(counter.tables.flip(last=True))
    (entry,) = ENTRY.iter_unpack(drained.flows.entries)
    (flow,) = drained.flows
    assert (flow.packets, entry[-1]) == (3 * lib.OWNER_MOST_ASKED, lib.OWNER_MOST_ASKED)


@pytest.mark.parametrize("hides_tags", [False, True])
def test_a_tag_that_the_nic_took_off_is_not_in_the_flow_that_xdp_counted(counter: Counter, hides_tags: bool) -> None:
    inside = ipv4(UDP, udp(5, 6))
    bare, tagged = ethernet(IPV4, inside), ethernet(VLAN, vlan(7, IPV4, inside))
    with (
        counter.tables.load(BESIDE_XDP, Place(hides_tags=hides_tags)) as program,
        stripping_before(program) as stripping,
    ):
        for counted, times in ((bare, int(hides_tags)), (tagged, 1)):
            counter.count(counted)
            show(stripping, [bare], skb_context(mark=VLAN, priority=7))
            assert asked(counter) == [times]

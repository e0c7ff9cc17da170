"""Every frame is counted once, with its whole length, under the flow its headers name, and passes unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.kernel.case import Case
from tests.kernel.cases import CASES, GROUPS, IPOIB_CASES, NETWORK_CASES, RAW_CASES, UNKNOWN_CASES
from tests.kernel.counter import INGRESS, TC, XDP, Counter, Sums, counting, skb_context
from tests.kernel.damage import numbered
from tests.kernel.reference import parse, parse_ipoib, parse_network, parse_raw_ip
from tests.support.frames import ACK, IPV4, TCP, ethernet, ipv4, tcp
from xtrace.kernel.syscall import lib
from xtrace.model.flow import NO_ADDRESS, InterfaceCounts, PacketCount

EVERY_GROUP = pytest.mark.parametrize("group", GROUPS)


OTHER_CASES = {
    (XDP, lib.LINK_LAYER_NONE): UNKNOWN_CASES,
    (TC, lib.LINK_LAYER_NONE): NETWORK_CASES,
    (XDP, lib.LINK_LAYER_IPOIB): IPOIB_CASES,
    (TC, lib.LINK_LAYER_IPOIB): IPOIB_CASES,
    (XDP, lib.LINK_LAYER_IP): RAW_CASES,
}
LAYER_NAMES = {lib.LINK_LAYER_NONE: "no link layer", lib.LINK_LAYER_IPOIB: "IPoIB", lib.LINK_LAYER_IP: "IP"}


@pytest.fixture(
    scope="module", params=list(OTHER_CASES), ids=[f"{LAYER_NAMES[layer]}, {hook}" for hook, layer in OTHER_CASES]
)
def any_not_ethernet(request: pytest.FixtureRequest) -> Iterator[Counter]:
    program, link_layer = request.param
    with counting(program=program, link_layer=link_layer) as counter:
        yield counter


@pytest.fixture
def not_ethernet(any_not_ethernet: Counter) -> Counter:
    """A program at an interface with another link layer."""
    any_not_ethernet.empty()
    return any_not_ethernet


def written(counter: Counter, cases: Sequence[Case]) -> Sums:
    """What is counted of the cases' frames, as it is written down."""
    sums: Sums = {}
    for case in cases:
        key, size = counter.here(case.key), counter.size(case.frame)
        packets, before, flags = sums.get(key, (0, 0, 0))
        sums[key] = (packets + 1, before + size, flags | case.tcp_flags)
    return sums


def frames_of(cases: Sequence[Case]) -> list[bytes]:
    return [case.frame for case in cases]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_frame_is_counted_under_its_flow(counter: Counter, case: Case) -> None:
    if not counter.takes(case.frame):
        pytest.skip("this kernel gives XDP programs no frames longer than a page (Linux 5.18)")
    interval = counter.measure([case.frame])
    assert interval.sums == {case.key: (1, len(case.frame), case.tcp_flags)}
    assert interval.counts == {INGRESS: InterfaceCounts(PacketCount(1, len(case.frame)))}
    assert [key.traffic_type for key in interval.flows] == [case.traffic_type]


def taken(counter: Counter, cases: Sequence[Case]) -> list[Case]:
    """The cases whose frames BPF_PROG_TEST_RUN takes: not all bare or long ones."""
    return [case for case in cases if counter.takes(case.frame)]


@EVERY_GROUP
def test_frame_is_counted_under_its_flow_at_every_hook(hook: Counter, group: str) -> None:
    cases = taken(hook, GROUPS[group])
    interval = hook.measure(frames_of(cases))
    assert interval.sums == written(hook, cases)
    assert set(interval.counts) <= {(0, hook.place.direction)}
    assert cases or group == "bare"


def other_cases(counter: Counter) -> list[Case]:
    """Those for this program and link layer."""
    return taken(counter, OTHER_CASES[counter.program.name, counter.place.link_layer])


def test_packet_of_another_link_layer_is_counted_under_its_flow(not_ethernet: Counter) -> None:
    for case in other_cases(not_ethernet):
        interval = not_ethernet.measure([case.frame])
        assert interval.sums == written(not_ethernet, [case]), case.name
        assert [key.traffic_type for key in interval.flows] == [case.traffic_type], case.name


def test_reference_parser_knows_every_flow() -> None:
    assert {case.name: parse(case.frame) for case in CASES} == {case.name: (case.key, case.tcp_flags) for case in CASES}
    network = {case.name: parse_network(case.frame) for case in NETWORK_CASES}
    assert network == {case.name: (case.key, case.tcp_flags) for case in NETWORK_CASES}
    raw = {case.name: parse_raw_ip(case.frame) for case in RAW_CASES}
    assert raw == {case.name: (case.key, case.tcp_flags) for case in RAW_CASES}
    over_infiniband = {case.name: parse_ipoib(case.frame) for case in IPOIB_CASES}
    assert over_infiniband == {case.name: (case.key, case.tcp_flags) for case in IPOIB_CASES}


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 250


def cuts_of(case: Case, link_layer: int) -> list[bytes]:
    """The case's frame cut at every length, each cut with its own source address where it has one."""
    return [numbered(case.frame, length, link_layer)[:length] for length in range(14, len(case.frame) + 1)]


def assert_cuts_are_counted(counter: Counter, cases: Sequence[Case]) -> None:
    cuts = [cut for case in cases for cut in cuts_of(case, counter.place.link_layer) if counter.takes(cut)]
    interval = counter.measure(cuts)
    assert interval.total == PacketCount(len(cuts), sum(map(counter.size, cuts)))
    sums = counter.expected(cuts)
    assert {key: found for key, found in interval.sums.items() if sums.get(key) != found} == {}
    assert interval.sums == sums
    assert {key.dst for key in interval.flows} <= {NO_ADDRESS, *(case.key.dst for case in cases)}
    assert {key.vlan_id for key in interval.flows} <= {0, *(case.key.vlan_id for case in cases)}


@EVERY_GROUP
def test_frame_cut_anywhere_is_counted_with_what_is_left(hook: Counter, group: str) -> None:
    assert_cuts_are_counted(hook, taken(hook, GROUPS[group]))


def test_packet_of_another_link_layer_cut_anywhere_is_counted_with_what_is_left(not_ethernet: Counter) -> None:
    assert_cuts_are_counted(not_ethernet, other_cases(not_ethernet))


@pytest.mark.parametrize("number", [0, 3], ids=["number unknown", "number known"])
def test_no_segment_has_the_bytes_before_the_network_header_of_a_tunnel(number: int) -> None:
    """2,500 bytes in segments of 1,000 on an interface without a link layer: three packets of IPv4 and TCP."""
    with counting(program=TC, link_layer=lib.LINK_LAYER_NONE) as counter:
        frame = ethernet(IPV4, ipv4(TCP, tcp(5, 6, ACK, bytes(2500))))
        counter.count(frame, context=skb_context(gso_size=1000, gso_segs=number))
        key, flags = counter.parse(frame)
        assert counter.take().sums == {key: (3, 2500 + 3 * (20 + 20), flags)}

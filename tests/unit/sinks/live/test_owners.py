"""The pane of owners: its keys on a pseudoterminal, sums that close, and owners in the details of flows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.unit.make import ETH0, NS, UDP, counts_of, flow, key, snapshot
from tests.unit.sinks.live.conftest import Begin, Session
from tests.unit.sinks.live.test_live import ETH0_OUT, ETH1, TYPED, interval, is_selected, selected
from xtrace.kernel.syscall import lib
from xtrace.model.flow import EGRESS, FlowRecord, FlowSnapshot, FlowTable, PacketCount
from xtrace.model.flow_owners import OWNER, FlowOwner, How
from xtrace.sinks.live import owned as owned_module
from xtrace.sinks.live.owners import OwnerPane
from xtrace.sinks.live.pane import View

ID = "0123456789abcdef" * 4
NGINX = FlowOwner(How.LISTENED, 9, 33, "nginx", "/system.slice/nginx.service", unit="nginx.service")
CURL = FlowOwner(How.CREATED, 7, 1000, "curl", f"/docker/{ID}", container=ID, container_name="shop")
KERNEL, FORWARDED, UNKNOWN = FlowOwner(How.KERNEL), FlowOwner(How.NOT_LOCAL), FlowOwner(How.UNKNOWN)
BY_PID = {9: NGINX, 7: CURL}
NO_PROCESSES = {1: lib.OWNER_KERNEL, 2: lib.OWNER_NOT_LOCAL, 3: lib.OWNER_UNKNOWN, 4: lib.OWNER_LISTENER}
"""Kinds of those that have a number here, but no process."""
BY_KIND = {
    lib.OWNER_KERNEL: KERNEL,
    lib.OWNER_NOT_LOCAL: FORWARDED,
    lib.OWNER_UNKNOWN: UNKNOWN,
    lib.OWNER_LISTENER: UNKNOWN,
}
"""Two of the programs' owners have the same name."""

Place = tuple[FlowRecord, int]


def of(port: int, pid: int, size: int, *, flags: int = 0, slot: int = 0, packets: int = 10) -> Place:
    """A flow of a process, or of NO_PROCESSES."""
    ends = ("10.0.0.2", "10.0.0.1") if flags else ("10.0.0.1", "10.0.0.2")
    return flow(key(*ends, (port, 443), UDP, flags=flags, slot=slot), packets, size), pid


FLOWS = (
    of(1, 9, 600_000),
    of(2, 9, 100_000, flags=EGRESS),
    of(3, 9, 50_000, slot=1),
    of(4, 7, 5_000, packets=1000),
    of(5, 7, 200_000, flags=EGRESS),
    of(6, 1, 1_000),
    of(7, 2, 30_000, slot=1),
    of(8, 3, 7_000),
    of(9, 4, 7_000),
)


def owned(flows: Sequence[Place] = FLOWS, number: int = 0) -> FlowSnapshot:
    """An interval of these flows, on eth0 in both directions and on eth1."""
    records = [record for record, _ in flows]
    parts = [
        (interface, [record for record in records if (record.key.slot, record.key.flags & EGRESS) == place])
        for interface, place in ((ETH0, (0, 0)), (ETH0_OUT, (0, EGRESS)), (ETH1, (1, 0)))
    ]
    counts = [(interface, counts_of(some, filtered=PacketCount(1, 100))) for interface, some in parts]
    plain = snapshot(records, counts, start_ns=5 * NS * number, end_ns=5 * NS * (number + 1))
    owners = b"".join(OWNER.pack(0, pid, 0, b"", NO_PROCESSES.get(pid, lib.OWNER_SOCKET), 0) for _, pid in flows)
    table = FlowTable(plain.flows.entries, len(flows), memoryview(owners))
    return replace(plain, flows=table, name_owner=named)


def named(packed: bytes) -> FlowOwner:
    """The owner that the programs' one means."""
    _, pid, _, _, kind, _ = OWNER.unpack(packed)
    return BY_PID[pid] if kind == lib.OWNER_SOCKET else BY_KIND[kind]


@pytest.fixture
def session(begin: Begin) -> Session:
    """A run with one interval shown."""
    made = begin("xdp", columns=120, owners=True)
    made.tick(owned())
    made.press("\t")
    made.terminal.until_shown("[owners 5]", "nginx.service")
    return made


def test_there_is_no_pane_of_owners_without_them(begin: Begin) -> None:
    session = begin("xdp")
    session.tick(interval())
    session.press("\t")
    session.terminal.until_shown("[interfaces 2]")


def test_rows_are_sorted_by_rate_and_say_who_it_is(session: Session) -> None:
    lines = session.terminal.lines()
    assert lines[3].split() == ["OWNER", "IN", "BIT/S*", "OUT", "BIT/S*", "PACKETS/S", "FLOWS"]
    cells = [line.strip("> ").split() for line in lines[4:9]]
    assert [row[0] for row in cells] == ["nginx.service", "shop", "not_local", "unknown", "kernel"]
    assert lines[4].split()[1:] == [
        "1.0",
        "M",
        "160.0",
        "k",
        "6.0",
        "3",
        "pid=9",
        "nginx",
        "(listener)",
        "unit=nginx.service",
    ]
    assert lines[5].split()[1:] == ["8.0", "k", "320.0", "k", "202", "2", "pid=7", "curl", "container=shop"]
    assert lines[6].endswith("forwarded or bridged") and lines[8].endswith("the kernel's own")


@pytest.mark.parametrize("view", [View(), replace(View(), way=ETH0_OUT.direction)])
def test_owners_and_what_is_none_add_up_to_what_the_interfaces_carried(view: View) -> None:
    pane, shown = OwnerPane(), owned()
    pane.note(shown)
    pane.take(shown)
    parts = [part for entry in pane.entries(view, "rate") for part in entry.parts]
    for interface, counts in shown.interfaces:
        own = [row for at, row in parts if at.interface == interface]
        in_no_flow = sum(count.bytes for count in counts.in_no_flow.values())
        expected = counts.total.bytes - in_no_flow if view.shows(interface.direction) else 0
        assert sum(row.bytes for row in own) == expected
        assert (sum(row.packets for row in own) + 1 == counts.total.packets) is view.shows(interface.direction)


def test_the_summary_says_how_much_is_named(session: Session) -> None:
    assert session.terminal.lines()[1] == (
        "by bytes: named 95.5 %, kernel 0.1 %, not local 3.0 %, unknown 1.4 %, group only 0.0 %, in no flow 0.0 %"
    )


EFFECTS = {
    "down": ((), is_selected("shop")),
    "up": (("down", "down"), is_selected("shop")),
    "end": ((), is_selected("kernel")),
    "home": (("end",), is_selected("nginx.service")),
    "page down": ((), is_selected("kernel")),
    "page up": (("end",), is_selected("nginx.service")),
    "tab": ((), lambda screen: "[interfaces 2]" in screen.lines()[2]),
    "shift-tab": ((), lambda screen: "[flows 9]" in screen.lines()[2]),
    "s": ((), lambda screen: "PACKETS/S*" in screen.lines()[3] and is_selected("shop")(screen)),
    "d": ((), lambda screen: "IN BIT/S*" in screen.lines()[3] and "OUT BIT/S" not in screen.lines()[3]),
    "b": ((), lambda screen: "IN BYTE/S*" in screen.lines()[3] and is_selected("130.0 k")(screen)),
    "p": ((), lambda screen: "PAUSED" in screen.lines()[0]),
    "enter": ((), lambda screen: any("rate over the last 5 s: now 1.2 Mbit/s" in line for line in screen.lines())),
    "esc": (("enter",), is_selected("nginx.service")),
}  # fmt: skip


@pytest.mark.parametrize("pressed", EFFECTS)
def test_keys_do_what_they_do_in_other_panes(pressed: str, session: Session) -> None:
    before, shows = EFFECTS[pressed]
    for name in (*before, pressed):
        session.press(TYPED.get(name, name))
    session.terminal.until(shows)


@pytest.mark.parametrize("presses, order", [(2, "flows"), (3, "name"), (4, "rate")])
def test_orders_follow_each_other(presses: int, order: str, session: Session) -> None:
    session.press("s" * presses)
    session.terminal.until_shown(f"sorted by {order}")
    first = {"flows": "nginx.service", "name": "kernel", "rate": "nginx.service"}[order]
    session.terminal.until(is_selected(first))


@pytest.mark.parametrize(
    "typed, count, rate",
    [("nginx*", 1, "1.0 M"), ("shop", 1, "8.0 k"), ("eth1", 2, "80.0 k"), ("not_local,kernel", 2, "48.0 k")],
)
def test_names_select_owners_or_what_they_carried_on_an_interface(
    typed: str, count: int, rate: str, session: Session
) -> None:
    session.press("/")
    session.press(f"{typed}\r")
    lines = session.terminal.until_shown(f"[owners {count}/5]")
    assert f" {rate} " in selected(lines)


def test_detail_has_all_names_each_interface_and_the_largest_flows(session: Session) -> None:
    session.press("\x1b[B\r")
    lines = session.terminal.until_shown("owner: pid=7 curl container=shop, uid 1000")
    text = [line.strip() for line in lines]
    assert f"container {ID}" in text and f"control group /docker/{ID}" in text
    assert "eth0 in  8.0 kbit/s, 5000 bytes, 1000 packets in 5.0 s, 1 flow" in text
    assert "UDP 10.0.0.2:5 -> 10.0.0.1:443  eth0 out 320.0 kbit/s" in text
    assert not any(":443" in line and ":5 " not in line and ":4 " not in line for line in text)


def test_detail_of_an_owner_goes_on_when_it_is_silent(session: Session) -> None:
    session.press("\r")
    session.terminal.until_shown("owner: pid=9 nginx")
    session.tick(owned(FLOWS[3:], 1))
    session.terminal.until_shown("no packets in this interval", "now 0 bit/s, mean 600.0 kbit/s")


def test_a_paused_detail_survives_the_memory_of_the_table(session: Session) -> None:
    shown = owned(number=1)
    session.tick(shown)
    session.press("p")
    shown.flows.release()
    session.press("\r")
    session.terminal.until_shown("UDP 10.0.0.1:1 -> 10.0.0.2:443", "owner: pid=9 nginx")


def test_more_owners_than_are_listed_share_a_row_and_nothing_is_lost(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_module, "LISTED", 1)
    session = begin("xdp", columns=120, owners=True)
    session.tick(owned())
    session.press("\t\x1b[F")
    lines = session.terminal.until_shown("[owners 2]", "4 more owners", "by bytes: named 95.5 %")
    # forwarded, unknown and the kernel's: 45,000 bytes in 5 s, to which shop adds 5,000
    assert selected(lines).split() == [">4", "more", "owners", "80.0", "k", "320.0", "k", "210", "6"]
    session.press("\r")
    session.terminal.until_shown("the owners that have no row of their own")


def test_a_flow_s_detail_says_whose_it_is(begin: Begin) -> None:
    session = begin("xdp", owners=True)
    session.tick(owned())
    session.press("\r")
    session.terminal.until_shown("owner: pid=9 nginx (listener) unit=nginx.service, uid 33", "group /system.slice")


def test_frames_fit_with_names_of_any_length(begin: Begin) -> None:
    session = begin("xdp", owners=True)
    shown = owned()
    long = CURL._replace(container_name="c" * 200, pod_name="n/" + "p" * 300)
    session.tick(replace(shown, name_owner=lambda packed: long))
    session.press("\t")
    lines = session.terminal.until_shown("[owners 1]")
    assert max(map(len, lines)) <= 80 and "1.1 M" in selected(lines)


def test_an_owner_is_remembered_by_its_name_not_its_bytes() -> None:
    pane = OwnerPane()
    for number in range(2):
        shown = owned([of(8, 3 + number, 5_000)], number)  # by unlike structs
        pane.note(shown)
        pane.take(shown)
    assert list(pane.detail(UNKNOWN, View()).series[0].rates) == [1000, 1000]


def test_an_owner_that_is_no_longer_among_the_largest_keeps_its_history_and_its_detail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owned_module, "LISTED", 1)
    pane = OwnerPane()
    for number, flows in enumerate(([of(1, 7, 5_000)], [of(1, 7, 5_000), of(2, 9, 9_000), of(3, 7, 10)])):
        shown = owned(flows, number)
        pane.note(shown)
        pane.take(shown)
    assert [entry.name for entry in pane.entries(View(), "rate")] == ["nginx.service", "1 more owner"]
    detail = pane.detail(CURL, View(in_bits=False))
    assert list(detail.series[0].rates) == [1000, 1002]
    assert [line for line in detail.lines if "5010 bytes" in line and "2 flows" in line]
    assert [line.split()[1] for line in detail.lines if line.startswith("  UDP")] == ["10.0.0.1:1", "10.0.0.1:3"]


def test_ranks_have_every_row_once_in_the_order_of_their_bytes() -> None:
    rows = owned().flows.owner_rows()
    ranked = rows.ranked
    assert (len(ranked), ranked.nobodies) == (6, 4)
    sizes = [sum(row.bytes for row in ranked[rank].rows) for rank in range(len(ranked))]
    assert sizes == [30_000, 7_000, 7_000, 1_000, 750_000, 205_000]
    numbers = [number for rank in range(len(ranked)) for number in ranked[rank].numbers]
    assert sorted(numbers) == list(range(len(rows.rows)))
    for rank in range(len(ranked) + 1):
        own = [row for each in range(rank, len(ranked)) for row in ranked[each].rows]
        assert sum(row.bytes for row in ranked.rest(rank)) == sum(row.bytes for row in own)
        assert sum(row.flows for row in ranked.rest(rank)) == sum(row.flows for row in own)
        assert {(row.slot, row.egress) for row in ranked.rest(rank)} == {(row.slot, row.egress) for row in own}
    assert ranked.of(OWNER.pack(1, 2, 3, b"none", lib.OWNER_SOCKET, 0)).rows == []

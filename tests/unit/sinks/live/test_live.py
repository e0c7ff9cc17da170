"""Every key of the full-screen view on a pseudoterminal, and what the screen shows then."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.make import BOOT, ETH0, NS, UDP, counts_of, flow, key, roce, snapshot
from tests.unit.make_rdma import grew, port, traffic
from tests.unit.make_rdma import snapshot as rdma_snapshot
from tests.unit.make_tcp import connection
from tests.unit.make_tcp import snapshot as tcp_snapshot
from tests.unit.sinks.live.conftest import Begin, Session
from xtrace.kernel.syscall import lib
from xtrace.model.flow import EGRESS, FlowRecord, FlowSnapshot, Interface
from xtrace.model.nccl import CallTotals, Communicator, Counters, NcclProcess, NcclSnapshot, Operation
from xtrace.model.nccl_ranks import Job, Rank
from xtrace.model.nccl_verdicts import Kind, Verdict
from xtrace.model.rdma import PortId
from xtrace.model.tcp import Closer
from xtrace.model.words import Direction, Health
from xtrace.sinks.live.actions import ACTIONS, BY_KEY
from xtrace.sinks.live.flows import LISTED
from xtrace.sinks.live.terminal import Terminal
from xtrace.sinks.registry import Totals

ETH0_OUT = ETH0._replace(direction=Direction.EGRESS)
ETH1 = Interface("eth1", slot=1)

TYPED = {
    "up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D", "home": "\x1b[H", "end": "\x1b[F",
    "page up": "\x1b[5~", "page down": "\x1b[6~", "tab": "\t", "shift-tab": "\x1b[Z", "enter": "\r", "esc": "\x1b",
}  # fmt: skip
"""What a terminal sends for keys with names; all others send themselves."""


def interval(number: int = 0, flows: int = 40) -> FlowSnapshot:
    """Flows of TCP that enter eth0, each larger than the next, of ports 1 to `flows`; two that leave; one on eth1."""
    found = [
        flow(key("10.0.0.1", "10.0.0.2", (1000 + rank, 443)), 1000 - rank, 1_000_000 - 1000 * rank)
        for rank in range(1, flows + 1)
    ]
    leaving = [
        flow(key("10.0.0.2", "10.0.0.1", (53, 9999), UDP, flags=EGRESS), 2000, 500),
        flow(roce(src="10.0.0.2", dst="10.0.0.1")._replace(flags=roce().flags | EGRESS), 1, 400),
    ]
    other = [flow(key("fd00::1", "fd00::2", (1, 2), slot=1), 1, 300)]
    watched = [(ETH0, counts_of(found)), (ETH0_OUT, counts_of(leaving)), (ETH1, counts_of(other))]
    return snapshot([*found, *leaving, *other], watched, start_ns=5 * NS * number, end_ns=5 * NS * (number + 1))


def selected(lines: list[str]) -> str:
    """The line with the mark."""
    (found,) = [line for line in lines if line.startswith(">")]
    return found


def is_selected(text: str) -> Callable[..., bool]:
    """Whether the selected row contains this."""
    return lambda screen: any(line.startswith(">") and text in line for line in screen.lines())


@pytest.fixture
def session(begin: Begin) -> Session:
    """A run with one interval shown."""
    made = begin("xdp", "tcp")
    made.tick(interval(), tcp_snapshot())
    made.terminal.until_shown("10.0.0.1:1001")
    return made


PAGE = 24 - 3 - 2 - 1
"""Rows on 24 lines: without head, foot and headings."""

EFFECTS: dict[str, tuple[tuple[str, ...], Callable[..., object]]] = {
    "up": (("down", "down"), is_selected(":1002 ")),
    "k": (("down", "down"), is_selected(":1002 ")),
    "down": ((), is_selected(":1002 ")),
    "j": ((), is_selected(":1002 ")),
    "page up": (("end",), is_selected(f":{1040 - PAGE + 3} ")),
    "page down": ((), is_selected(f":{1001 + PAGE} ")),
    "home": (("end",), is_selected(":1001 ")),
    "g": (("end",), is_selected(":1001 ")),
    "end": ((), is_selected("[fd00::1]:1")),
    "G": ((), is_selected("[fd00::1]:1")),
    "tab": ((), lambda screen: "[interfaces 2]" in screen.lines()[2]),
    "right": ((), lambda screen: "[interfaces 2]" in screen.lines()[2]),
    "shift-tab": ((), lambda screen: "[TCP in trouble 0]" in screen.lines()[2]),
    "left": ((), lambda screen: "[TCP in trouble 0]" in screen.lines()[2]),
    "enter": ((), lambda screen: any("now 1.6 Mbit/s" in line for line in screen.lines())),
    "esc": (("enter",), is_selected(":1001 ")),
    "/": ((), lambda screen: screen.lines()[-1] == "filter:" and screen.column == len("filter: ")),
    "s": ((), lambda screen: "sorted by packets" in screen.lines()[0] and is_selected(":53 ")(screen)),
    "d": ((), lambda screen: "only in" in screen.lines()[0] and "[flows 41/43]" in screen.lines()[2]),
    "b": ((), lambda screen: "BYTE/S*" in screen.lines()[3] and is_selected("199.8 k")(screen)),
    "p": ((), lambda screen: "PAUSED" in screen.lines()[0]),
    " ": ((), lambda screen: "PAUSED" in screen.lines()[0]),
    "n": ((), lambda screen: screen.lines()[3] == "0 messages, the newest last"),
    "?": ((), lambda screen: any("quit, with the totals" in line for line in screen.lines())),
    "h": ((), lambda screen: any("quit, with the totals" in line for line in screen.lines())),
}
"""Keys: those pressed before, and what the screen shows of it."""


@pytest.mark.parametrize("pressed", EFFECTS)
def test_key_does_what_the_help_says(pressed: str, session: Session) -> None:
    before, shows = EFFECTS[pressed]
    for name in (*before, pressed):
        session.press(TYPED.get(name, name))
    session.terminal.until(shows)


def test_q_ends_the_run(session: Session) -> None:
    session.press("q")
    assert session.stop.requested


def test_every_key_is_tried_here() -> None:
    assert set(EFFECTS) | {"q"} == set(BY_KEY)


def test_help_names_every_key(begin: Begin) -> None:
    session = begin(rows=30)
    session.press("?")
    lines = session.terminal.until_shown("quit, with")
    for action in ACTIONS:
        (line,) = [line for line in lines if line.endswith(action.help)]
        assert line.split("  ")[0] == ", ".join("space" if key == " " else key for key in action.keys)


def test_help_fits_the_smallest_usual_terminal(begin: Begin) -> None:
    session = begin()
    session.press("?")
    lines = session.terminal.until_shown(ACTIONS[-1].help)
    assert not any(line.endswith("..") for line in lines[:-1])


def test_keys_that_do_nothing_change_nothing(session: Session) -> None:
    before = session.terminal.lines()
    session.press("zx\x1b[15~")
    session.press("\x1b[B")
    session.terminal.until(is_selected(":1002 "))
    assert [line for line in session.terminal.lines() if "1040" in line] == [line for line in before if "1040" in line]


@pytest.mark.parametrize(
    "typed, shown",
    [
        ("udp\r", "[flows 1/43]"),
        ("net fd00::/8\r", "[flows 1/43]"),
        ("port 1001-1010\r", "[flows 10/43]"),
        ("roce\r", "[flows 1/43]"),
        ("eth1\r", "[flows 1/43]"),
        ("eth* tcp\r", "[flows 41/43]"),
        ("udq\x7fp\r", "[flows 1/43]"),
        ("tcp\x15udp\r", "[flows 1/43]"),
    ],
)
def test_filter_takes_the_words_of_the_filter_options(typed: str, shown: str, session: Session) -> None:
    session.press("/")
    session.press(typed)
    session.terminal.until_shown(shown, "filter: ")


def test_filter_that_makes_no_sense_is_answered_and_stays_to_be_mended(session: Session) -> None:
    session.press("/")
    session.press("99999\r")
    session.terminal.until_shown("filter: 99999  (port: '99999' is not a port or range")
    session.press("\x15")
    session.press("\x1b")
    session.terminal.until_shown("[flows 43]", "q quit")


def test_escape_clears_the_filter(session: Session) -> None:
    session.press("/")
    session.press("udp\r")
    session.terminal.until_shown("[flows 1/43]")
    session.press("\x1b")
    session.terminal.until_shown("[flows 43]")


def test_directions_follow_each_other(session: Session) -> None:
    for text in ("only in", "only out", "in and out"):
        session.press("d")
        session.terminal.until_shown(text)


@pytest.mark.parametrize("order", [":53 ", ":1001 ", "fd00::1"])
def test_orders_of_flows_follow_each_other(order: str, session: Session) -> None:
    presses = {":53 ": 1, ":1001 ": 4, "fd00::1": 0}[order]
    session.press("s" * presses if presses else "ss\x1b[F")
    session.terminal.until(is_selected(order))


def test_the_next_interval_replaces_the_last(session: Session) -> None:
    session.tick(interval(1, flows=2))
    session.terminal.until_shown("[flows 5]")


def test_paused_screen_stays_while_history_goes_on(session: Session) -> None:
    session.press("p")
    session.terminal.until_shown("PAUSED")
    session.tick(interval(1, flows=2))
    session.terminal.until_shown("[flows 43]", ":1010 ")
    session.press("\r")
    session.terminal.until_shown("over the last 10 s")
    session.press("p")
    session.press("\x1b")
    session.tick(interval(2, flows=2))
    session.terminal.until_shown("[flows 5]")


def test_pause_survives_the_memory_of_the_table(session: Session) -> None:
    shown = interval()
    session.tick(shown)
    session.press("p")
    shown.flows.release()
    session.press("s")
    session.terminal.until(is_selected(":53 "))
    session.press("/")
    session.press("udp\r")
    session.terminal.until_shown("[flows 1/43]")


def test_detail_of_a_flow_has_exact_counts_and_goes_on(session: Session) -> None:
    session.press("\r")
    session.terminal.until_shown(
        "TCP  10.0.0.1:1001 -> 10.0.0.2:443", "eth0 in, 5.0 s", "999000 bytes", "999 packets, mean 1000 B", "█"
    )
    session.tick(snapshot([], [(ETH0, counts_of([]))], start_ns=5 * NS, end_ns=10 * NS))
    session.terminal.until_shown("no packets in this interval", "now 0 bit/s, mean 799.2 kbit/s")


def test_only_so_many_flows_are_listed(begin: Begin) -> None:
    session = begin()
    flows = [flow(key("10.0.0.1", "10.0.0.2", (port, 443)), 1, 60 + port) for port in range(1, LISTED + 10)]
    session.tick(snapshot(flows))
    session.terminal.until_shown(f"[flows {LISTED}/{LISTED + 9}]", f":{LISTED + 9} ")
    session.press("\x1b[F")
    session.terminal.until(is_selected(":10 "))


def test_interfaces_show_what_is_in_no_flow(begin: Begin) -> None:
    session = begin(columns=120)
    found: list[FlowRecord] = [flow(size=1_000_000)]
    counts = replace(counts_of(found), qdisc_drops=7)
    lost = Interface("eth2", slot=2, is_up=False)
    session.tick(snapshot(found, [(ETH0, counts), (lost, counts_of([]))]))
    session.press("\t")
    lines = session.terminal.until_shown("[interfaces 2]", "eth2", "down or without carrier")
    assert "1.6 M" in selected(lines) and "in dropped by the queue 7" in selected(lines)
    session.press("\r")
    session.terminal.until_shown("1000000 bytes, 10 packets in 5.0 s, 1 flow", "in  over the last 5 s")
    session.press("\x1b")
    session.press("ss")
    session.terminal.until_shown("sorted by name")
    session.press("/")
    session.press("eth2\r")
    session.terminal.until_shown("[interfaces 1/2]")


def test_ports_show_health_and_unknown_is_no_zero(begin: Begin) -> None:
    session = begin("rdma", columns=120)
    sick = replace(
        port({"out_of_sequence": grew(50)}, traffic(0, 625_000_000)),
        health=Health.CRITICAL,
        reasons=("it loses packets",),
    )
    silent = port({}, {}, where=PortId("mlx5_1", 1), state="DOWN")
    session.tick(rdma_snapshot([sick, silent]))
    lines = session.terminal.until_shown("[RDMA ports 2]", "mlx5_1/1")
    assert selected(lines).split()[1:6] == ["0", "0", "1.0", "G", "1"]
    assert "critical" in selected(lines) and "it loses packets" in selected(lines)
    (other,) = [line for line in lines if "mlx5_1/1" in line]
    assert other.split()[1:7] == ["-"] * 6 and "DOWN" in other
    session.press("\r")
    session.terminal.until_shown("critical: it loses packets", "tx over the last 5 s")
    session.press("\x1b")
    session.press("/")
    session.press("mlx5_1\r")
    session.terminal.until_shown("[RDMA ports 1/2]")


def test_connections_in_trouble_are_the_worst_first(begin: Begin) -> None:
    session = begin("tcp")
    grown = {lib.TCP_BYTES_ACKED: 1_000_000, lib.TCP_RETRANSMITTED: 31}
    bad = connection(grown, {lib.TCP_RTT: 300}, health=Health.CRITICAL, reasons=("3.1 % retransmitted",))
    bad = bad._replace(closer=Closer(4711, "curl"))
    fair = connection({}, {}, cookie=2, local=("10.0.0.2", 5), health=Health.WARN, reasons=("rtt 90 ms",))
    well = connection({}, {}, cookie=3)
    session.tick(tcp_snapshot(fair, bad, well))
    lines = session.terminal.until_shown("[TCP in trouble 2]", "rtt 90 ms", "connections=812")
    assert "3.1 % retransmitted" in selected(lines) and " 1.6 M" in selected(lines) and " 31 " in selected(lines)
    session.press("\r")
    session.terminal.until_shown("cubic", "closed by curl[4711]", "3.1 % retransmitted", "over the last 5 s")
    session.press("\x1b")
    session.press("/")
    session.press("5\r")
    session.terminal.until_shown("[TCP in trouble 1/2]")


def nccl_interval() -> NcclSnapshot:
    """Two processes of a job, of which one keeps the other waiting, and one that makes no calls."""
    reduce = Operation("AllReduce", "bfloat16", 1_000_000, Counters(calls=10, elements=500_000))
    processes = tuple(
        NcclProcess(
            pid, "python3 train.py", None, (), True, False, (Communicator(0x100 + pid, 2, rank, rank, (reduce,)),)
        )
        for rank, pid in enumerate((4711, 4712))
    )
    idle = NcclProcess(4713, "python3 worker.py", None, (), True, False)
    ranks = tuple(
        Rank("n1", process.pid, BOOT, job=Job("slurm:7"), communicator="c1", rank=rank, nranks=2)
        for rank, process in enumerate(processes)
    )
    verdict = Verdict(Kind.STOPPED, "c1", None, BOOT, "its process is stopped", rank=1, culprit=ranks[1])
    return NcclSnapshot(
        BOOT + 5 * NS, 5 * NS, (*processes, idle), CallTotals(entries=20), ranks=ranks, verdicts=(verdict,)
    )


def test_jobs_name_the_process_that_others_wait_for(begin: Begin) -> None:
    session = begin("nccl")
    session.tick(nccl_interval())
    lines = session.terminal.until_shown("[NCCL jobs 2]", "STOPPED rank 1")
    found = {line.split()[1].strip(">"): line for line in lines if "slurm:7" in line}
    assert "waits" in found["4711"] and "0/2" in found["4711"] and "1.6 M" in found["4711"]
    assert "STOPPED" in found["4712"]
    session.press("/")
    session.press("slurm*\r")
    session.terminal.until_shown("[NCCL jobs 2]")
    session.press("\r")
    session.terminal.until_shown("AllReduce bfloat16 calls=10", "its process is stopped", "requested over the last 5 s")


def test_messages_have_a_line_of_their_own(begin: Begin) -> None:
    session = begin()
    try:
        session.tick(interval())
        session.terminal.until_shown("10.0.0.1:1001")
        logging.getLogger("xtrace").error("eth0: it is \x1b[31mdown")
        session.react()
        lines = session.terminal.until_shown("eth0: it is ?[31mdown")
        assert lines[-2].endswith("eth0: it is ?[31mdown") and len([line for line in lines if "1001" in line]) == 1
        session.press("n")
        session.terminal.until_shown("1 message, the newest last")
    finally:
        session.notices.remove()


def test_names_of_others_cannot_command_the_terminal(begin: Begin) -> None:
    session = begin()
    evil = Interface("e\x1b[2Jvil", slot=0)
    found = [flow()]
    session.tick(snapshot(found, [(evil, counts_of(found))]))
    session.press("\t")
    session.terminal.until_shown("e?[2Jvil")


@pytest.mark.parametrize("rows, columns", [(24, 80), (50, 200), (10, 40), (4, 20), (1, 1)])
def test_frame_fills_a_terminal_of_any_size(rows: int, columns: int, begin: Begin) -> None:
    session = begin("xdp", "tcp", rows=rows, columns=columns)
    session.tick(interval(), tcp_snapshot())
    for typed in ("", "\x1b[F", "?", "\x1b", "n", "\x1b", "\r", "\x1b", "/", "\x1b", "\t"):
        if typed:
            session.press(typed)
    lines = session.terminal.until(lambda screen: "quit" in screen.lines()[-1] or columns < 80)
    assert len(lines) == rows and max(map(len, lines)) <= columns


def test_a_new_size_is_used_at_once(session: Session) -> None:
    session.terminal.resize(12, 50)
    signal.raise_signal(signal.SIGWINCH)
    session.react()
    lines = session.terminal.until(lambda screen: screen.lines()[-1].endswith(".."))
    assert len(lines) == 12 and lines[3].lstrip().startswith("TYPE")


def test_terminal_is_as_it_was_after_the_end(begin: Begin) -> None:
    session = begin()
    session.live.end(Totals())
    session.terminal.until(lambda screen: not screen.is_alternate and screen.has_cursor and screen.wraps)
    assert session.terminal.modes() == session.before


def test_what_comes_after_the_end_is_not_drawn_over_what_the_shell_writes(begin: Begin) -> None:
    session = begin()
    session.tick(interval())
    session.live.close()
    session.terminal.until(lambda screen: not screen.is_alternate)
    session.tick(interval(1, flows=2))
    session.live.react()
    session.stream.write(b"$ ")
    lines = session.terminal.until(lambda screen: any(line.startswith("$") for line in screen.lines()))
    assert not any("10.0.0.1" in line or "[flows" in line for line in lines)
    assert session.stop.before_exit is None


def test_an_exit_at_once_gives_the_terminal_back_first(begin: Begin) -> None:
    session = begin()
    assert session.stop.before_exit is not None
    session.stop.before_exit()
    session.terminal.until(lambda screen: not screen.is_alternate)
    assert session.terminal.modes() == session.before


def test_a_terminal_that_is_gone_ends_the_run(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin()
    monkeypatch.setattr(Terminal, "_read", lambda terminal: b"")
    session.press("x")
    assert session.stop.requested


def test_the_end_prints_the_totals_where_they_stay(begin: Begin) -> None:
    session = begin()
    totals = Totals(1)
    shown = interval()
    totals.add(shown)
    session.tick(shown)
    session.live.end(totals)
    session.terminal.until_shown("totals of 1 interval", "INTERFACE", "eth1")

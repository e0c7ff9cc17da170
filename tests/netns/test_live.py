"""The full-screen view of a real run: keys, sizes, and a terminal that is as it was, whatever ends the run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.netns.test_tcp import PORT, peer
from tests.netns.tool import LIMIT_S, bounded, environment, is_free, run_to_end
from tests.support.net import ROOT, Namespace, Pair, veth_pair
from tests.support.terminal import Screen, Terminal
from xtrace.kernel import features

OPTIONS = ("-i", "far0", "--live", "-t", "200ms")


@dataclass
class Live:
    """The tool in far's namespace, on a terminal of its own that it controls."""

    process: subprocess.Popen[bytes]
    terminal: Terminal
    before: list[Any]

    def ended(self) -> int:
        """Wait for its end, and until all that it wrote is on the screen; its exit code."""
        return self.process.wait(LIMIT_S)

    def assert_restored(self) -> None:
        """The terminal is as it was before the run."""
        self.terminal.until(lambda screen: not screen.is_alternate and screen.has_cursor and screen.wraps)
        assert self.terminal.modes() == self.before


def controlled(terminal: Terminal, *command: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, which the terminal controls."""
    script = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    end = terminal.theirs
    return subprocess.Popen(
        [sys.executable, "-c", script, *command],
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        cwd=ROOT,
        env=environment(TERM="xterm-256color", **variables),
    )


def tool(namespace: Namespace, *arguments: str) -> list[str]:
    """The command line of the tool in a namespace."""
    return namespace.command(sys.executable, "-m", "xtrace", *OPTIONS, *arguments)


@contextmanager
def live(pair: Pair, *arguments: str, rows: int = 24, columns: int = 80) -> Iterator[Live]:
    """The tool's view, from its first interval on; pings cross far0 all the time."""
    pings = pair.near.start("ping", "-q", "-i0.1", "10.0.0.2", stdout=subprocess.DEVNULL)
    terminal = Terminal(rows, columns)
    try:
        before = terminal.modes()
        with bounded(pings), bounded(controlled(terminal, *tool(pair.far, *arguments))) as process:
            terminal.until_shown("ICMP")
            yield Live(process, terminal, before)
    finally:
        terminal.close()


def test_keys_of_a_real_run() -> None:
    with veth_pair() as pair, live(pair, "--tcp") as view:
        terminal = view.terminal
        lines = terminal.until_shown("10.0.0.1", "10.0.0.2", "q quit")
        assert lines[0].startswith("xtrace-catch  ") and "[flows " in lines[2]
        terminal.type("\t")
        terminal.until_shown("[interfaces 1]")
        terminal.type("\x1b[Z/icmp\r")
        terminal.until_shown("filter: icmp", "[flows 2/")
        terminal.type("\r")
        terminal.until_shown("type=8 code=0", "rate over the last")
        terminal.type("\x1b")
        terminal.until(lambda screen: "[flows 2/" in screen.lines()[2] and screen.lines()[4].startswith(">"))
        terminal.type("q")
        assert view.ended() == 0
        terminal.until_shown("totals of", "far0")
        view.assert_restored()
        assert is_free(pair.far, "far0")


def test_owners_have_a_pane_whose_detail_has_all_names() -> None:
    if not features.probe().cmpxchg:
        pytest.xfail("this kernel has no compare-and-swap in BPF")
    with (
        veth_pair() as pair,
        live(pair, "--owners", columns=120) as view,
        bounded(pair.far.start("ping", "-q", "-i0.1", "10.0.0.1", stdout=subprocess.DEVNULL)) as ping,
    ):
        terminal = view.terminal
        terminal.type("\t")
        lines = terminal.until_shown("[owners ", f"pid={ping.pid} ping", "the kernel's own", "by bytes: named ")
        assert lines[3].split()[0] == "OWNER" and "IN" in lines[3] and "OUT" in lines[3]
        terminal.type("/ping\r")
        terminal.until_shown("filter: ping", "[owners 1/")
        terminal.type("\r")
        terminal.until_shown(f"owner: pid={ping.pid} ping", "uid 0", "far0 in", "far0 out", "10.0.0.2 -> 10.0.0.1")
        ping.kill()
        terminal.until_shown("no packets in this interval", f"owner: pid={ping.pid} ping")
        terminal.type("q")
        assert view.ended() == 0
        view.assert_restored()


def test_connections_by_their_packets_have_a_pane_beside_those_by_their_sockets() -> None:
    with (
        veth_pair() as pair,
        peer(pair.far, "stuck", "10.0.0.2", str(PORT)),
        live(pair, "--tcp", "--tcp-packets", columns=150) as view,
        peer(pair.near, "push", "10.0.0.2", str(PORT), says=b"full"),
    ):
        terminal = view.terminal
        terminal.type("\x1b[Z")
        lines = terminal.until_shown("[TCP packets 1]", "window closed", "far0 connections=")
        (row,) = [line for line in lines if line.startswith(">")]
        assert f"10.0.0.2:{PORT}" in row and row[1:].split()[0] == "far0" and "warn" in row
        terminal.type("\r")
        terminal.until_shown("-> in: ", "<- out: ", "zero windows", "payload of both sides over the last")
        terminal.type("\x1b/udp\r")
        terminal.until_shown("filter: udp", "[TCP packets 0/1]")
        terminal.type("/\x15eth7\r")
        terminal.until_shown("filter: eth7", "[TCP packets 0/1]")
        terminal.type("q")
        assert view.ended() == 0
        view.assert_restored()


def test_a_new_size_of_the_terminal_is_used_at_once() -> None:
    with veth_pair() as pair, live(pair) as view:
        view.terminal.resize(50, 200)
        view.terminal.until(lambda screen: screen.lines()[49].endswith("q quit"))
        view.terminal.resize(10, 40)
        view.terminal.until(lambda screen: screen.lines()[9].endswith(".."))


def test_a_change_of_an_interface_is_a_message_in_its_line() -> None:
    with veth_pair() as pair, live(pair) as view:
        pair.near.ip("link set near0 down")
        lines = view.terminal.until_shown("no carrier")
        assert "far0" in lines[-2] and "no carrier" in lines[-2]
        view.terminal.type("q")
        assert view.ended() == 0
        view.terminal.until(lambda screen: not screen.is_alternate and "no carrier" in "".join(screen.lines()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_gives_the_terminal_back(number: signal.Signals) -> None:
    with veth_pair() as pair, live(pair) as view:
        view.process.send_signal(number)
        assert view.ended() == 0
        view.assert_restored()
        view.terminal.until_shown("totals of")


def test_ctrl_c_is_typed_as_anywhere() -> None:
    with veth_pair() as pair, live(pair) as view:
        view.terminal.type("\x03")
        assert view.ended() == 0
        view.assert_restored()


def test_ctrl_z_suspends_and_the_view_comes_back() -> None:
    with veth_pair() as pair, live(pair) as view:
        view.terminal.type("\x1a")
        # as a shell does, wait until it has stopped
        _, status = os.waitpid(view.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        view.assert_restored()
        view.process.send_signal(signal.SIGCONT)
        view.terminal.until(lambda screen: screen.is_alternate and "q quit" in screen.lines()[-1])
        view.terminal.type("q")
        assert view.ended() == 0


FAILS = """
import os, sys
sys.path[0] = os.getcwd()  # the run keeps the right to read what it names
from xtrace.__main__ import main
from xtrace.sinks.live.flows import FlowPane

def fails(self, snapshot):
    raise RuntimeError("a defect")

FlowPane.take = fails
sys.exit(main())
"""


def test_a_view_that_was_stopped_is_drawn_anew() -> None:
    with veth_pair() as pair, live(pair) as view:
        view.process.send_signal(signal.SIGSTOP)
        os.waitpid(view.process.pid, os.WUNTRACED)
        os.write(view.terminal.theirs, b"\x1b[2J")
        view.terminal.until(lambda screen: not any(screen.lines()))
        view.process.send_signal(signal.SIGCONT)
        view.terminal.until_shown("xtrace-catch", "SOURCE", "q quit")
        view.terminal.type("q")
        assert view.ended() == 0
        view.assert_restored()


def test_a_defect_gives_the_terminal_back_and_is_said() -> None:
    with veth_pair() as pair:
        terminal = Terminal()
        before = terminal.modes()
        try:
            with bounded(controlled(terminal, *pair.far.command(sys.executable, "-c", FAILS, *OPTIONS))) as process:
                assert process.wait(LIMIT_S) == 1
            Live(process, terminal, before).assert_restored()
            terminal.until_shown("internal error: RuntimeError('a defect')")
            assert is_free(pair.far, "far0")
        finally:
            terminal.close()


def test_a_hangup_ends_the_run() -> None:
    with veth_pair() as pair, live(pair) as view:
        view.process.send_signal(signal.SIGHUP)
        assert view.ended() == 0


def is_prompt(screen: Screen) -> bool:
    """Whether the shell waits for a command."""
    return any(re.fullmatch(r"sh-ready>.*", line) for line in screen.lines()[screen.row : screen.row + 1])


def test_a_shell_works_after_the_tool_was_killed() -> None:
    with veth_pair() as pair:
        terminal = Terminal()
        try:
            with bounded(controlled(terminal, "bash", "--norc", "--noprofile", "-i")) as shell:
                terminal.type("PS1='sh-ready> '\n")
                terminal.until(is_prompt)
                terminal.type(f"{' '.join(tool(pair.far))} & fg\n")
                terminal.until(lambda screen: screen.is_alternate and "q quit" in screen.lines()[-1])
                (found,) = subprocess.run(
                    ["pgrep", "-P", str(shell.pid), "-f", "xtrace.*--live"], capture_output=True, text=True, check=True
                ).stdout.split()
                os.kill(int(found), signal.SIGKILL)
                terminal.until(lambda screen: is_prompt(screen) and not screen.is_alternate)
                terminal.type("echo typed-$((40+2))\n")
                terminal.until_shown("typed-42", "echo typed-")
                terminal.until(is_prompt)
                terminal.type("stty -a | tr ' ' '\\n' | grep -cx 'icanon;*\\|echo;*\\|isig;*'\n")
                terminal.until(lambda screen: "3" in screen.lines())
                assert terminal.modes()[3] & termios.ISIG
                assert is_free(pair.far, "far0")
                terminal.type("exit\n")
                shell.wait(LIMIT_S)
        finally:
            terminal.close()


@pytest.mark.parametrize("variables", [{"TERM": "xterm"}, {"TERM": "dumb"}])
def test_without_a_terminal_it_is_a_usage_error_in_one_line(variables: dict[str, str]) -> None:
    with veth_pair() as pair:
        result = run_to_end(pair.far, "-i", "far0", "--live", variables=variables)
        assert is_free(pair.far, "far0")
    assert (result.code, result.stdout) == (2, b"")
    (line,) = result.said
    assert line.startswith("xtrace-catch: --live needs a terminal")

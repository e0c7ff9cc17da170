"""The command as a user runs it, without any privilege: exit codes, one line on stderr, never a traceback."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from tests.support.net import records
from tests.support.schema import validate
from tests.support.terminal import modes_of
from tests.unit.conftest import Pipe
from tests.unit.make import features
from xtrace import assembly
from xtrace.config import parse
from xtrace.errors import Stopped, UsageError
from xtrace.kernel import routes, rtnetlink
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.routes import DefaultRoute
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.loop import Loop
from xtrace.messages import Say
from xtrace.model.filters import Filters, describe
from xtrace.model.flow import Interface
from xtrace.model.flow_totals import FlowSetup
from xtrace.model.words import Direction, Hook, XdpMode
from xtrace.monitors.flows import monitor
from xtrace.monitors.flows.hooks import Choice
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.start import XdpOptions
from xtrace.sinks.identity import Identity
from xtrace.sinks.jsonl.sink import JsonLines
from xtrace.sinks.stream import OutputStream
from xtrace.sinks.text.screen import TerminalText
from xtrace.sinks.text.sink import Text
from xtrace.stop import Stop

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60

PR_CAPBSET_DROP = 24
LAST_CAPABILITY = 63
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2

SETTINGS = ("MONITOR_MODE", "NETWORK_INTERFACE", "INTERVAL_MS", "PYTHONUNBUFFERED", "LC_ALL", "LC_MESSAGES", "LANG")


def drop_capabilities() -> None:
    """Without a bounding set, root has no capabilities from the next exec on.

    But those by which it opens files: this tree may lie in a home that is closed to all but its owner.
    """
    libc = ctypes.CDLL(None)
    for capability in {*range(LAST_CAPABILITY + 1)} - {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def environment(**changes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SETTINGS} | changes


def start(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "env": environment(), **options}
    # the child only makes system calls before exec
    return subprocess.run(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=options.pop("timeout", TIMEOUT_S),
        preexec_fn=drop_capabilities,
        check=False,
        **options,
    )


def catch(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return start(sys.executable, "-m", "xtrace", *arguments, **options)


def existing() -> list[str]:
    lines = Path("/proc/net/dev").read_text().splitlines()
    return [line.partition(":")[0].strip() for line in lines if ":" in line]


@pytest.mark.parametrize(
    "arguments, code, line",
    [
        (["--zzz"], 2, r"unknown option --zzz \(see --help-all\)"),
        (["-t", "soon"], 2, r"--interval: 'soon' is not a duration \(use 500ms, 5s, 1m, or milliseconds\)"),
        (["-o", "xml"], 2, r"--format: unknown format 'xml' \(available: auto, table, text, json, none\)"),
        (["--port", "http"], 2, r"--port: 'http' is not a port or range \(1 to 65535, 8000-8100\)"),
        (["--hook", "xdp", "--direction", "both"], 2, r"--hook xdp sees only ingress, not --direction both .*"),
        (["-i", "lo"], 77, r"mode xdp needs CAP_BPF and CAP_NET_ADMIN and CAP_PERFMON: run it with sudo, or grant .*"),
    ],
    ids=["unknown option", "bad interval", "bad format", "bad filter", "wrong combination", "no privileges"],
)
def test_failure_is_one_line_and_its_exit_code(arguments: list[str], code: int, line: str) -> None:
    ended = catch(*arguments)
    assert ended.returncode == code
    assert ended.stdout == ""
    assert re.fullmatch(f"xtrace-catch: {line}\n", ended.stderr), ended.stderr


def test_wrong_setting_in_the_environment_is_one_line_too() -> None:
    ended = catch(env=environment(NETWORK_INTERFACE="eth0,"))
    assert ended.returncode == 2
    assert ended.stderr == "xtrace-catch: NETWORK_INTERFACE: empty value in 'eth0,' (remove the extra comma)\n"


def test_debug_adds_a_traceback_below_the_line() -> None:
    ended = catch("--debug", "-i", "lo")
    assert ended.returncode == 77
    assert ended.stderr.startswith("xtrace-catch: mode xdp needs CAP_BPF and ")
    assert "Traceback (most recent call last)" in ended.stderr


def test_debug_shows_the_whole_log_of_the_verifier() -> None:
    script = """
import sys
from xtrace import command
from xtrace import assembly
from xtrace.errors import VerifierError
def run(*_):
    raise VerifierError("BPF_PROG_LOAD(xdp_ingress)", 13, "0: first\\n1: last\\n")
assembly.run = run
sys.exit(command.main(sys.argv[1:]))
"""
    short = "xtrace-catch: BPF_PROG_LOAD(xdp_ingress): EACCES (Permission denied): 0: first | 1: last\n"
    assert start(sys.executable, "-c", script).stderr == short
    told = start(sys.executable, "-c", script, "--debug").stderr
    assert told.startswith(short)
    assert told.endswith("0: first\n1: last\n\n")


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_is_that_of_pyproject(option: str) -> None:
    written = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert written is not None
    ended = catch(option)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"xtrace-catch {written.group(1)}\n", "")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_printed_and_is_no_failure(option: str) -> None:
    ended = catch(option)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: xtrace-catch")


def test_command_is_installed_under_its_name() -> None:
    script = """
import sys
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="xtrace-catch")
sys.exit(command.load()())
"""
    ended = start(sys.executable, "-c", script, "--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("xtrace-catch ")


@pytest.mark.parametrize("mode, other", [("xdp", "nccl"), ("xdp", "rdma"), ("rdma", "nccl"), ("rdma", "flows.monitor")])
def test_modules_of_a_mode_that_is_off_are_not_imported(mode: str, other: str) -> None:
    # the tool ends for want of privileges or devices, with all that it would need imported
    script = f"""
import sys
from xtrace import command
from xtrace.kernel import infiniband
infiniband.device_names = list
command.main("-m {mode} -i lo -o json".split())
print(sorted(name for name in sys.modules if name.startswith(("xtrace.monitors.{other}", "xtrace.sinks.push"))))
"""
    ended = start(sys.executable, "-c", script)
    assert ended.stdout == "[]\n", ended.stderr


WAITED_FOR = """
import sys
from xtrace import command
from xtrace.monitors.flows import start
later = {"dataclasses", "inspect", "json", "socket", "ssl", "xtrace.loop", "xtrace.model.flow", "xtrace.sinks.identity"}
def begin(options):
    print(sorted(later & set(sys.modules)))
    sys.exit()
start.XdpStart = begin
command.main("-i lo -o json".split())
"""


def test_what_attaching_does_not_need_is_imported_when_the_kernel_is_verifying() -> None:
    ended = start(sys.executable, "-c", WAITED_FOR)
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr


DEFECT = """
import sys
from xtrace import command
from xtrace import assembly
def broken(*arguments):
    raise ValueError("of \x1b[31m\\nforged: a defect")
assembly.run = broken
sys.exit(command.main(["-l", *sys.argv[1:]]))
"""


def test_defect_is_one_line_without_what_acts_on_a_terminal() -> None:
    ended = start(sys.executable, "-c", DEFECT)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("xtrace-catch: internal error: ValueError(")
    assert "\x1b" not in line


def test_debug_shows_where_a_defect_is() -> None:
    ended = start(sys.executable, "-c", DEFECT, "--debug")
    assert "in broken" in ended.stderr


THREAD = """
import logging, sys, threading
from xtrace import command
from xtrace import assembly
def broken(*arguments):
    thread = threading.Thread(target=lambda: 1 // 0, name="queue pairs")
    thread.start()
    thread.join()
    return 0
assembly.run = broken
sys.exit(command.main(["-l"]))
"""


def test_defect_in_a_thread_is_one_line_and_ends_nothing_else() -> None:
    ended = start(sys.executable, "-c", THREAD)
    assert ended.returncode == 0
    (line,) = ended.stderr.splitlines()
    assert line.startswith("xtrace-catch: internal error: thread queue pairs ended: ZeroDivisionError(")


def test_list_is_a_table_of_all_interfaces() -> None:
    ended = catch("-l")
    assert (ended.returncode, ended.stderr) == (0, "")
    heading, *rows = ended.stdout.splitlines()
    assert heading.split() == ["NAME", "INDEX", "STATE", "TYPE", "MTU", "MAC", "XDP", "TC", "RDMA", "ADDRESSES"]
    assert {row.split()[0] for row in rows} == set(existing())


def test_list_as_json_is_one_valid_record_per_interface() -> None:
    ended = catch("-l", "-o", "json")
    lines = records(ended.stdout.encode())
    validate(lines)
    assert {line["type"] for line in lines} == {"link"}
    assert {line["name"] for line in lines} == set(existing())
    (loopback,) = [line for line in lines if line["name"] == "lo"]
    assert (loopback["index"], loopback["link_type"]) == (1, "loopback")


def test_reader_that_is_gone_ends_quietly(pipe: Pipe) -> None:
    pipe.close_reader()
    ended = catch("-l", stdout=pipe.writer)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("option", ["-h", "-V"])
def test_reader_of_help_that_is_gone_ends_quietly(option: str, pipe: Pipe) -> None:
    pipe.close_reader()
    ended = catch(option, stdout=pipe.writer)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["-l"], ["-l", "-o", "json"]])
def test_full_disk_is_one_line_and_a_failure(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = catch(*arguments, stdout=full)
    assert ended.returncode == 1
    assert ended.stderr == "xtrace-catch: standard output: No space left on device\n"


@pytest.mark.parametrize("option", ["-h", "-V"])
def test_full_disk_under_the_help_is_one_line_and_a_failure(option: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = catch(option, stdout=full)
    assert ended.returncode == 1
    assert ended.stderr == "xtrace-catch: standard output: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", ">&- 2>&-"])
def test_closed_standard_descriptors_are_never_given_to_anything_else(closed: str) -> None:
    ended = start("/bin/sh", "-c", f"exec '{sys.executable}' -m xtrace -l {closed}", stdin=subprocess.DEVNULL)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


ETH0, WLAN0 = LinkInfo(2, "eth0", 0, 1), LinkInfo(3, "wlan0", 0, 1)


class FakeInterfaces:
    """Plays xtrace.kernel.rtnetlink for default_interface()."""

    def __init__(self, links: list[LinkInfo], route: DefaultRoute | None = None) -> None:
        self._links = links
        self._route = route

    def link(self, socket: NetlinkSocket, wanted: str | int) -> LinkInfo | None:
        return next((link for link in self._links if wanted in (link.name, link.index)), None)

    def default_route(self, socket: NetlinkSocket) -> DefaultRoute | None:
        return self._route


def default_of(monkeypatch: pytest.MonkeyPatch, interfaces: FakeInterfaces) -> str:
    monkeypatch.setattr(assembly, "rtnetlink", interfaces)
    monkeypatch.setattr(routes, "default_route", interfaces.default_route)
    return assembly.default_interface()


def test_interface_is_eth0_unless_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    interfaces = FakeInterfaces([WLAN0, ETH0], DefaultRoute(3, None, None))
    assert default_of(monkeypatch, interfaces) == "eth0"
    assert caplog.messages == []


def test_without_eth0_the_default_routes_interface_is_taken_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    interfaces = FakeInterfaces([WLAN0], DefaultRoute(3, None, None))
    assert default_of(monkeypatch, interfaces) == "wlan0"
    assert caplog.messages == ["no interface eth0: using wlan0, which has the default route"]


@pytest.mark.parametrize("route", [None, DefaultRoute(9, None, None)])
def test_without_eth0_and_default_route_eth0_is_what_is_not_found(
    route: DefaultRoute | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert default_of(monkeypatch, FakeInterfaces([WLAN0], route)) == "eth0"
    assert caplog.messages == []


class FakeStart(NamedTuple):
    """Programs that nobody loads."""

    options: XdpOptions

    def close(self) -> None:
        """There is nothing to release."""


class FakeMonitor:
    """What assembly.run() makes of the command line, and tells the sinks about."""

    ended = True
    mode = "xdp"

    def __init__(self, options: XdpOptions, say: Say) -> None:
        self.options = options
        self.features = features()
        self.interfaces = (Interface("eth7", 0, Hook.TC, None, direction=Direction.EGRESS),)
        self._fd = os.eventfd(0)

    @property
    def setup(self) -> FlowSetup:
        return FlowSetup(
            map_memory=20_320_592,
            interfaces=self.interfaces,
            features=tuple(self.features.names()),
            filters=tuple(describe(self.options.filters)),
            max_flows=self.options.max_flows,
        )

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def monitors(monkeypatch: pytest.MonkeyPatch) -> list[FakeMonitor]:
    """Those that assembly.run() creates."""
    made: list[FakeMonitor] = []

    def create(start: FakeStart, say: Say, check: Callable[[], None]) -> FakeMonitor:
        check()
        made.append(FakeMonitor(start.options, say))
        return made[-1]

    monkeypatch.setattr("xtrace.monitors.flows.start.XdpStart", FakeStart)
    monkeypatch.setattr(monitor, "XdpMonitor", create)
    monkeypatch.setattr(assembly, "rtnetlink", FakeInterfaces([ETH0]))
    return made


def run(arguments: str, stop: Stop) -> None:
    assembly.run(parse(arguments.split(), {"XTRACE_HOST": "n1"}, "1.2.3"), "1.2.3", stop)


def test_run_collects_the_garbage_that_it_makes_itself(
    monitors: list[FakeMonitor], stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(Loop, "run", lambda *_: seen.append((gc.isenabled(), gc.get_freeze_count() > 0)))
    gc.disable()
    try:
        run("-o none", stop)
    finally:
        gc.enable()
        gc.unfreeze()
    assert seen == [(True, True)]


@pytest.mark.parametrize(
    "direction, watched",
    [("", ("ingress",)), ("ingress", ("ingress",)), ("egress", ("egress",)), ("both", ("ingress", "egress"))],
)
def test_direction_asked_for_is_the_one_watched(
    direction: str, watched: tuple[str, ...], monitors: list[FakeMonitor], stop: Stop
) -> None:
    run(f"-o none --direction {direction}" if direction else "-o none", stop)
    assert monitors[0].options.directions == tuple(map(Direction, watched))


@pytest.mark.parametrize(
    "direction, times", [("", 1), (" --direction ingress", 0), (" --direction egress", 0), (" --direction both", 0)]
)
def test_that_only_what_enters_is_counted_is_said_once_where_nobody_asked_for_it(
    direction: str, times: int, monitors: list[FakeMonitor], stop: Stop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(f"-o none{direction}", stop)
    line = "counting ingress only; use --direction both to count egress too"
    assert caplog.messages.count(line) == times


def test_everything_asked_for_reaches_the_monitor(monitors: list[FakeMonitor], stop: Stop) -> None:
    run("-o none -i lo,ib* --xdp-mode generic --hook xdp --max-flows 77 --port 53 -f udp", stop)
    assert monitors[0].options == XdpOptions(
        selection=Selection(("lo", "ib*")),
        choice=Choice(Hook.XDP, XdpMode.GENERIC),
        directions=(Direction.INGRESS,),
        max_flows=77,
        filters=Filters(types=frozenset({"UDP"}), ports=frozenset({53})),
    )


def test_interface_that_was_not_named_is_the_default_one(monitors: list[FakeMonitor], stop: Stop) -> None:
    run("-o none", stop)
    assert monitors[0].options.selection == Selection(("eth0",))


def test_start_record_tells_hooks_features_and_filters_of_the_run(
    monitors: list[FakeMonitor], stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "output").open("wb") as file:
        monkeypatch.setattr(assembly, "STDOUT", file.fileno())
        monkeypatch.setattr("xtrace.sinks.identity.source_address", lambda: "192.0.2.7")
        run("-o json -t 1s --max-flows 77 --port 443,53 --exclude-dns --label rack=r1", stop)
    lines = records((tmp_path / "output").read_bytes())
    validate(lines)
    assert [line["type"] for line in lines] == ["start", "end"]
    assert lines[0].pop("ts") <= lines[1]["ts"]
    assert lines[0] == {
        "type": "start",
        "schema": 1,
        "host": "n1",
        "host_ip": "192.0.2.7",
        "labels": {"rack": "r1"},
        "version": "1.2.3",
        "interval_s": 1.0,
        "modes": ["xdp"],
        "landlock": True,
        "hooks": [{"interface": "eth7", "direction": "egress", "hook": "tc", "xdp_mode": None}],
        "features": ["frags", "links", "tcx", "percpu_batch", "cmpxchg", "ipsec"],
        "filters": ["port 53 443", "exclude-dns"],
        "max_flows": 77,
        "map_memory_bytes": 20_320_592,
    }


def test_stop_requested_before_has_the_kernel_verify_nothing(
    monitors: list[FakeMonitor], stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[XdpOptions] = []
    monkeypatch.setattr("xtrace.monitors.flows.start.XdpStart", started.append)
    stop.request()
    with pytest.raises(Stopped):
        run("-o none", stop)
    assert (started, monitors) == ([], [])


@pytest.mark.parametrize("attached, written", [(False, []), (True, ["start", "end"])])
def test_stop_during_start_up_ends_it_unless_everything_is_attached_already(
    attached: bool, written: list[str], stop: Stop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def create(start: FakeStart, say: Say, check: Callable[[], None]) -> FakeMonitor:
        check()
        stop.request()
        if not attached:
            check()
        return FakeMonitor(start.options, say)

    monkeypatch.setattr("xtrace.monitors.flows.start.XdpStart", FakeStart)
    monkeypatch.setattr(monitor, "XdpMonitor", create)
    monkeypatch.setattr(assembly, "rtnetlink", FakeInterfaces([ETH0]))
    with (tmp_path / "output").open("wb") as file, nullcontext() if attached else pytest.raises(Stopped):
        monkeypatch.setattr(assembly, "STDOUT", file.fileno())
        run("-o json", stop)
    assert [line["type"] for line in records((tmp_path / "output").read_bytes())] == written


@pytest.mark.parametrize("direction, says", [("ingress", False), ("egress", False), ("both", True)])
def test_text_says_the_direction_only_where_both_are_watched(
    direction: str, says: bool, stop: Stop, pipe: Pipe
) -> None:
    config = parse(["-o", "text", "--direction", direction], {}, "1")
    (sink,) = assembly.make_sinks(config, Identity("n1"), OutputStream(pipe.writer, stop))
    assert cast("Text", sink).options.with_direction is says


@pytest.mark.parametrize(
    "arguments, on_a_terminal, kind, top",
    [
        ("", True, TerminalText, None),
        ("", False, JsonLines, 0),
        ("-o table", False, TerminalText, None),
        ("-o text", False, Text, 0),
        ("-o text", True, Text, 50),
        ("-o json", True, JsonLines, 50),
        ("--top 0", True, TerminalText, 0),
        ("--top 7", True, TerminalText, 7),
        ("--top 7", False, JsonLines, 7),
        ("-o none", True, None, 0),
    ],
)
def test_format_and_top_follow_the_options_and_else_the_terminal(
    arguments: str, on_a_terminal: bool, kind: type | None, top: int | None, stop: Stop, pipe: Pipe
) -> None:
    terminal, child = pty.openpty()
    try:
        stream = OutputStream(child if on_a_terminal else pipe.writer, stop)
        config = parse(arguments.split(), {}, "1")
        sinks = assembly.make_sinks(
            config._replace(output=assembly.chosen_format(config, stream)), Identity("n1"), stream
        )
    finally:
        os.close(terminal)
        os.close(child)
    assert [type(sink) for sink in sinks] == ([kind] if kind else [])
    assert [cast("Text | TerminalText | JsonLines", sink).options.top for sink in sinks] == ([top] if kind else [])


@pytest.mark.parametrize(
    "input_is_terminal, output_is_terminal, kind",
    [(True, False, "xterm"), (False, True, "xterm"), (True, True, "dumb")],
)
def test_full_screen_needs_a_terminal_that_can_do_it(
    input_is_terminal: bool,
    output_is_terminal: bool,
    kind: str,
    stop: Stop,
    pipe: Pipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal, child = pty.openpty()
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr(assembly, "STDIN", child if input_is_terminal else pipe.reader)
    output = OutputStream(child if output_is_terminal else pipe.writer, stop)
    with ExitStack() as opened, pytest.raises(UsageError, match=r"^--live needs a terminal for input and output"):
        assembly.make_live(parse(["--live"], {}, "1"), output, stop, opened)
    os.close(terminal)
    os.close(child)


@pytest.mark.parametrize("stderr_is_terminal", [True, False])
def test_full_screen_leaves_everything_alone_until_the_run_starts(
    stderr_is_terminal: bool, stop: Stop, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, child = pty.openpty()
    before = modes_of(child)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(assembly, "STDIN", child)
    monkeypatch.setattr(assembly, "STDERR", child if stderr_is_terminal else pipe.writer)
    with ExitStack() as opened:
        live = assembly.make_live(parse(["--live"], {}, "1"), OutputStream(child, stop), stop, opened)
        assert modes_of(child) == before
        assert live.fileno() >= 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    os.close(terminal)
    os.close(child)


@pytest.mark.parametrize(
    "options, interfaces",
    [
        ("-i any", ()),
        ("-i eth0,any", ()),
        ("-i an-alternative-name,ib*,nosuch0", ("ens1", "ib*", "nosuch0")),
        ("-i ens1 -d mlx5_0", ()),
    ],
)
def test_rdma_ports_are_chosen_by_what_mode_xdp_would_take(
    options: str, interfaces: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = LinkInfo(4, "ens1", 1, 1, altnames=("an-alternative-name",))
    monkeypatch.setattr(rtnetlink, "link", lambda socket, name: known if name in ("ens1", *known.altnames) else None)
    config = parse(f"-m rdma {options}".split(), {}, "1")
    assert assembly.rdma_options(config).interfaces == interfaces


@pytest.mark.parametrize(
    "arguments, on_a_terminal, direction",
    [
        ("", True, "both"),
        ("", False, "ingress"),
        ("-o text", True, "ingress"),
        ("-o table", False, "both"),
        ("--live", True, "both"),
        ("--live --hook xdp", True, "ingress"),
        ("--hook xdp", True, "ingress"),
    ],
)
def test_person_sees_both_directions_and_records_keep_the_cheaper_default(
    arguments: str, on_a_terminal: bool, direction: str, stop: Stop, pipe: Pipe
) -> None:
    terminal, child = pty.openpty()
    try:
        config = parse(arguments.split(), {}, "1")
        stream = OutputStream(child if on_a_terminal else pipe.writer, stop)
        config = config._replace(output=assembly.chosen_format(config, stream))
    finally:
        os.close(terminal)
        os.close(child)
    assert assembly.default_direction(config) == direction


@pytest.mark.parametrize(
    "options, hook, expected",
    [
        ([], "auto", "auto"),
        (["--owners"], "auto", "tc"),
        (["--tcp-packets"], "auto", "tc"),
        (["--owners", "--hook", "xdp"], "xdp", "xdp"),
        (["--tcp-packets", "--hook", "tc"], "tc", "tc"),
    ],
)
def test_packets_are_counted_at_tc_where_sockets_or_connections_are_looked_for(
    options: list[str], hook: str, expected: str
) -> None:
    config = parse(options, {}, "1.0")
    assert config.hook == hook
    assert assembly.choice_of(config) == Choice.of(expected, "auto")


def test_connections_that_nothing_follows_are_not_read() -> None:
    config = parse(["--tcp-packets"], {}, "1.0")
    with ExitStack() as opened:
        followed = cast("monitor.XdpMonitor", SimpleNamespace(tcp_follower=None))
        assert assembly.watch_paths(config, followed, opened) is None

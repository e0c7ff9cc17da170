"""The tool as a user runs it, in a namespace: bounded in time, and ended with its test."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import IO, Any

from tests.support.net import Namespace, Pair, assert_sums_close, of_type, read_until, records, veth_pair
from tests.support.schema import validate
from xtrace.kernel import features

FLOOD_PACKETS = int(os.environ.get("XTRACE_FLOOD_PACKETS", "4000000"))
"""How many packets the interface under test must at least receive in a flood."""

OUTAGE_S = float(os.environ.get("XTRACE_OUTAGE_S", "2"))
"""How long a server is away in the tests of outages, in the middle of a run three times as long."""

LIMIT_S = float(os.environ.get("XTRACE_LIMIT_S", "60")) + FLOOD_PACKETS / 100_000 + 4 * OUTAGE_S
"""After this long a process that a test started is killed, which fails the test that waits for it."""

SETTLE_S = 60.0
"""How long what the kernel does in the background may take on a machine under load."""

CPUS = sorted(os.sched_getaffinity(0))[:2]

ONLY_INGRESS = "counting ingress only; use --direction both to count egress too"
"""The line of a run that counts one direction only."""

GENERIC_EFFECT = "packets are seen after the driver, and merged ones (GRO) count once; the NIC is not reconfigured"


TAGS_TAKEN_OFF = "VLAN tags stripped by the NIC (rxvlan offload) are not visible at XDP, but with --hook tc"
"""What is said of a veth, which has the offload enabled."""


XDP_ON_FAR0 = ("-i", "far0", "--hook", "xdp")
"""Options for XDP on a veth, where `auto` is tc."""


@lru_cache(maxsize=1)
def tc_way() -> str:
    """How this kernel attaches at tc."""
    return "tcx" if features.probe().tcx else "clsact"


def tc_started(name: str, *directions: str, how: str | None = None) -> list[str]:
    """The line of an undisturbed run at tc about an interface."""
    return [f"tc program loaded on {name} ({' and '.join(directions)}, {how or tc_way()})"]


def xdp_mode(mode: str) -> str:
    """A mode as the tool names it on this kernel."""
    return f"{mode}, frags" if features.probe().frags else mode


def started(how: str | None = None) -> list[str]:
    """The line of an undisturbed run with native XDP on a veth."""
    effect = "the peer's segmentation offload (GSO) is off while attached; detaching may drop queued packets"
    return [f"XDP program loaded on far0 ({how or xdp_mode('native')}): {effect}; {TAGS_TAKEN_OFF}"]


def started_generic() -> list[str]:
    """The same in generic mode."""
    return [f"XDP program loaded on far0 ({xdp_mode('generic')}): {GENERIC_EFFECT}; {TAGS_TAKEN_OFF}"]


NO_CARRIER = ": no carrier; no packets until the link is up"
IS_DOWN = ": the interface is down;"
IS_UP = ": the interface is up"

ETHERNET_HEADER = 14
VALIDATED_FLOWS = 300


def said(stderr: bytes) -> list[str]:
    """The lines of a run on stderr, without ONLY_INGRESS."""
    return [line for line in stderr.decode().splitlines() if line != ONLY_INGRESS]


@dataclass(frozen=True)
class Result:
    """The result of a run: exit code, data, lines on stderr."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> list[str]:
        """The lines on stderr, without ONLY_INGRESS."""
        return said(self.stderr)

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The JSON Lines, validated against docs/output.schema.json, flows only as many as are quick to validate."""
        lines = records(self.stdout)
        others = [record for record in lines if record["type"] != "flow"]
        validate(others + of_type(lines, "flow")[:VALIDATED_FLOWS])
        return lines

    @property
    def said_of_attaching(self) -> list[str]:
        """The same without the lines about the interface's state."""
        kept = [line for line in self.said if not line.endswith((NO_CARRIER, IS_UP)) or "loaded on" in line]
        return [line.removesuffix(f";{NO_CARRIER[1:]}") for line in kept if IS_DOWN not in line]

    def assert_quiet_success(self) -> None:
        """Exit code 0, and no line on stderr but those of the start."""
        assert (self.code, self.said) == (0, started())


class Tool:
    """A running tool. Data goes to a file unless it is piped or put elsewhere; stderr is piped."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self.process = process
        self._output = output
        self._said = b""
        self._printed = b""

    def wait_until_it_says(self, wanted: bytes) -> None:
        """Read stderr up to a line that contains `wanted`."""
        self._said += read_until(self.process.stderr, wanted)

    def wait_until_it_has_loaded(self, programs: int) -> None:
        """Read stderr up to the line about the last of that many programs."""
        loaded = re.compile(r"(?:loaded on|已加载到) \S+ \(([^)]*)\)")
        while programs > 0:
            line = read_until(self.process.stderr, b"\n")
            self._said += line
            programs -= sum(1 + how.count(" and ") for how in loaded.findall(line.decode()))

    def wait_until_it_prints(self, wanted: bytes) -> None:
        """Read piped data up to a line that contains `wanted`."""
        self._printed += read_until(self.process.stdout, wanted)

    def wait_for_intervals(self, number: int) -> None:
        """Until that many more, of one interface and direction, are in the file that its data goes to."""
        at, left = os.fstat(self._output.fileno()).st_size, number

        def written() -> bool:
            nonlocal at, left
            new = os.pread(self._output.fileno(), 1 << 24, at)
            at, left = at + len(new), left - new.count(b'"type":"interface"')
            return left <= 0 or self.process.poll() is not None

        assert eventually(written, LIMIT_S) and left <= 0, f"{left} of {number} intervals did not come"

    def wait_until_written(self, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Until this is true of the JSON Lines, all of them so far, in the file that its data goes to."""

        def written() -> bool:
            text = os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0)
            return holds(records(text[: text.rfind(b"\n") + 1])) or self.process.poll() is not None

        assert eventually(written, LIMIT_S, pause_s=0.1), "it did not come"

    def wait(self) -> Result:
        """Read what is piped, and wait for the end of the process."""
        if self.process.stdout is not None:
            self._printed += self.process.stdout.read()
        code = self.process.wait(LIMIT_S)
        if self.process.stdout is None:
            self._output.seek(0)
            self._printed = self._output.read()
        assert self.process.stderr is not None
        self._said += self.process.stderr.read()
        return Result(code, self._printed, self._said)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Result:
        """Request its end, and wait."""
        self.process.send_signal(number)
        return self.wait()


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without anything the tool or a locale reads, and with `variables`."""
    own = ("XTRACE_", "VICTORIAMETRICS_", "HOST_IP", "COLLECT_AGG", "NETWORK_INTERFACE", "INTERVAL_MS", "MONITOR_MODE")
    read = (*own, "LC_", "LANG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(read)}
    return {**kept, "LANG": "C.UTF-8", **variables}


@contextmanager
def bounded(process: subprocess.Popen[bytes], limit_s: float = LIMIT_S) -> Iterator[subprocess.Popen[bytes]]:
    """Kill the process after the limit, so that every read from it ends; and at the end of the block."""
    watchdog = threading.Timer(limit_s, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()
        watchdog.join()


@contextmanager
def launched(
    namespace: Namespace, *arguments: str, variables: dict[str, str] | None = None, **options: Any
) -> Iterator[Tool]:
    """The tool, just started."""
    with tempfile.TemporaryFile() as output:
        options = {"stdout": output, "env": environment(**(variables or {})), **options}
        with bounded(namespace.catch(*arguments, **options)) as process:
            yield Tool(process, output)


@contextmanager
def running(
    namespace: Namespace, *arguments: str, programs: int = 1, variables: dict[str, str] | None = None, **options: Any
) -> Iterator[Tool]:
    """The tool from when its programs, one per interface and direction, are attached: packets count from here on."""
    with launched(namespace, *arguments, variables=variables, **options) as tool:
        tool.wait_until_it_has_loaded(programs)
        yield tool


def run_to_end(
    namespace: Namespace, *arguments: str, variables: dict[str, str] | None = None, **options: Any
) -> Result:
    """The tool, until it ends by itself."""
    with launched(namespace, *arguments, variables=variables, **options) as tool:
        return tool.wait()


@dataclass(frozen=True)
class Watch:
    """A pair, the tool that watches far0, and far0's counters before the tool started."""

    pair: Pair
    tool: Tool
    before: dict[str, int]

    def finish(self) -> list[dict[str, Any]]:
        """Cut the pair, end the tool; its records, which hold exactly the packets and bytes that far0 received."""
        self.pair.near.ip("link set near0 down")
        result = self.tool.stop()
        said = result.said_of_attaching
        assert (result.code, said) in ((0, started()), (0, started_generic()))
        lines = result.records
        assert_sums_close(lines)
        after = self.pair.far.statistics("far0")
        packets, size = (after[name] - self.before[name] for name in ("packets", "bytes"))
        if said == started():
            # a veth with native XDP counts a packet after taking off its Ethernet header (veth_xdp_rcv_skb())
            size += ETHERNET_HEADER * packets
        assert (total(lines), total(lines, "bytes")) == (packets, size)
        assert packets
        return lines


@contextmanager
def watching(*arguments: str, mtu: int = 1500, variables: dict[str, str] | None = None) -> Iterator[Watch]:
    """A pair with addresses whose far0 the tool watches from before the first packet can reach it."""
    with veth_pair(mtu) as pair:
        pair.near.run("sysctl", "-qw", "net.ipv6.conf.near0.keep_addr_on_down=1")
        pair.near.ip("link set near0 down")
        before = pair.far.statistics("far0")
        with running(pair.far, *XDP_ON_FAR0, *arguments, variables=variables) as tool:
            pair.near.ip("link set near0 up")
            assert_passes_traffic(pair)
            yield Watch(pair, tool, before)


def add_plug(pair: Pair, name: str, peer: str) -> None:
    """Another veth of far, up, with its peer in near."""
    pair.far.ip(f"link add {name} type veth peer name {peer} netns {pair.near.name}")
    pair.near.ip(f"link set {peer} up")
    pair.far.ip(f"link set {name} up")


def assert_passes_traffic(pair: Pair) -> None:
    """far0 answers and hears: pings near0 until one answer came; its requests do not enter far0."""
    pair.far.reach("10.0.0.1")


def total(lines: Sequence[dict[str, Any]], field: str = "packets", **wanted: object) -> int:
    """The sum of a field over the intervals of the interfaces and directions that are `wanted`."""
    return sum(record[field] for record in having(of_type(lines, "interface"), **wanted))


def flows(lines: Sequence[dict[str, Any]], **wanted: object) -> list[dict[str, Any]]:
    """The flow records that have these fields."""
    return having(of_type(lines, "flow"), **wanted)


def having(lines: Sequence[dict[str, Any]], **wanted: object) -> list[dict[str, Any]]:
    """The records that have these fields."""
    return [record for record in lines if all(record.get(name) == value for name, value in wanted.items())]


def tcx_programs(namespace: Namespace, interface: str) -> list[int]:
    """Ids of the programs attached by TCX links, first those of ingress."""
    shown = json.loads(namespace.run(sys.executable, "-m", "tests.netns.tcx", "show", interface))
    return [*shown["ingress"], *shown["egress"]]


def tc_filters(namespace: Namespace, interface: str, direction: str) -> list[dict[str, Any]]:
    """The filters by iproute2, without the line it prints before those of each priority."""
    listed = json.loads(namespace.run("tc", "-j", "filter", "show", "dev", interface, direction) or "[]")
    return [entry for entry in listed if "options" in entry]


def is_free(namespace: Namespace, interface: str) -> bool:
    """Whether no program of any kind is attached to the interface."""
    filters = [found for direction in ("ingress", "egress") for found in tc_filters(namespace, interface, direction)]
    return attached_program(namespace, interface) is None and not tcx_programs(namespace, interface) and not filters


def attached_program(namespace: Namespace, interface: str = "far0") -> int | None:
    """Id of the XDP program on an interface, by iproute2."""
    shown = json.loads(namespace.ip(f"-j link show {interface}"))[0]
    return int(shown["xdp"]["prog"]["id"]) if "xdp" in shown else None


def is_loaded(program: int) -> bool:
    """Whether the kernel still has the program, by bpftool."""
    shown = subprocess.run(["bpftool", "prog", "show", "id", str(program)], capture_output=True)
    return shown.returncode == 0


def eventually(holds: Callable[[], bool], limit_s: float = SETTLE_S, *, pause_s: float = 0.01) -> bool:
    """Whether `holds` becomes true in time; for things the kernel does without notification."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True

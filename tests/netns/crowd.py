"""Many short-lived clients in namespaces and control groups of their own, five services, and the tool between them.

The clients' veths c0, c1, ... and the services' s0 end in a router, where the tool runs: at c0 flows are those of the
clients behind it, at s0 those of the services.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.netns.tool import LIMIT_S, bounded
from tests.support.net import ROOT, Namespace, read_until

OWNED = (sys.executable, "-m", "tests.netns.owned")
SERVICES = {"serve": 6001, "dual": 6002, "prefork": 6003, "forking": 6004, "sharing": 6005}
ADDRESS4, ADDRESS6 = "10.60.0.2", "fd60::2"
FIRST_PORT = 20000
MIX = ("tcp", "tcp", "udp", "tcp", "sendto")
"""Kinds of clients in turn."""
SERVED_S = 20 * LIMIT_S
"""How long a service lives at most: for all clients of a run, which are limited one namespace at a time."""
_numbers = itertools.count()


class Client(NamedTuple):
    """A process that lived for one exchange."""

    veth: str
    port: int
    """its own"""
    pid: int
    life_us: int
    cgroup: str


@dataclass
class Crowd:
    """Who is there, and what belongs to whom."""

    router: Namespace
    names: Sequence[str]
    groups: Sequence[Path]
    services: dict[int, set[int]] = field(default_factory=dict)
    """by port: the processes that created the listening sockets"""

    @property
    def programs(self) -> int:
        """That the tool attaches, both directions."""
        return 2 * (len(self.groups) + 1)

    def run(self, clients: int, first: int = FIRST_PORT) -> list[Client]:
        """Run so many clients of each namespace, from ports of their own; side by side they would live longer."""
        found: list[Client] = []
        for number in range(len(self.groups)):
            with self._start(number) as started:
                printed, _ = started.communicate(_lines(clients, first), LIMIT_S)
                assert started.returncode == 0
            found += self._read(number, printed.splitlines())
        return found

    @contextmanager
    def _start(self, number: int) -> Iterator[subprocess.Popen[bytes]]:
        # IPv4 and IPv6 in turn
        address = ADDRESS6 if number % 2 else ADDRESS4
        command = ["ip", "netns", "exec", self.names[number], *OWNED, "clients", address]
        with bounded(_start_inside(self.groups[number], command)) as process:
            yield process

    def _read(self, number: int, lines: Sequence[bytes]) -> Iterator[Client]:
        for line in lines:
            _, port, pid, life_us = line.split()
            yield Client(f"c{number}", int(port), int(pid), int(life_us), f"/{self.groups[number].name}")


def _start_inside(group: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command in a control group: `ip netns exec` hides where these are mounted, so it enters before."""
    entering = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(group), *command]
    return subprocess.Popen(entering, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _lines(clients: int, first: int) -> bytes:
    ports = itertools.cycle(SERVICES.values())
    datagram_ports = itertools.cycle((SERVICES["serve"], SERVICES["dual"]))
    kinds = (MIX[number % len(MIX)] for number in range(clients))
    return b"".join(
        f"{kind} {next(ports if kind == 'tcp' else datagram_ports)} {first + number}\n".encode()
        for number, kind in enumerate(kinds)
    )


@contextmanager
def crowd(namespaces: int, mount: Path) -> Iterator[Crowd]:
    """So many namespaces for clients, and one for the services."""
    prefix = f"xt{os.getpid()}-crowd{next(_numbers)}"
    with ExitStack() as opening:
        router = opening.enter_context(_namespace(f"{prefix}-r"))
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        ends = [opening.enter_context(_namespace(f"{prefix}-{number}")) for number in range(namespaces)]
        services = opening.enter_context(_namespace(f"{prefix}-s"))
        for number, end in enumerate(ends):
            _join(router, end, f"c{number}", f"10.50.{number}", f"fd50:{number:x}:")
        _join(router, services, "s0", "10.60.0", "fd60:")
        groups = [opening.enter_context(_group(mount / f"{prefix}-{number}")) for number in range(namespaces)]
        own = opening.enter_context(_group(mount / f"{prefix}-s"))
        made = Crowd(router, [end.name for end in ends], groups)
        for role, port in SERVICES.items():
            made.services[port] = opening.enter_context(_service(services, own, role, port))
        yield made


@contextmanager
def _namespace(name: str) -> Iterator[Namespace]:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Namespace(name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@contextmanager
def _group(path: Path) -> Iterator[Path]:
    path.mkdir()
    try:
        yield path
    finally:
        path.rmdir()


def _join(router: Namespace, end: Namespace, veth: str, ipv4: str, ipv6: str) -> None:
    router.ip(f"link add {veth} type veth peer name eth0 netns {end.name}")
    for namespace, name, host in ((router, veth, 1), (end, "eth0", 2)):
        namespace.ip(f"addr add {ipv4}.{host}/24 dev {name}")
        namespace.ip(f"addr add {ipv6}:{host}/64 dev {name} nodad")
        namespace.ip(f"link set {name} up")
    end.ip("link set lo up")
    end.ip(f"route add default via {ipv4}.1")
    end.ip(f"-6 route add default via {ipv6}:1")


@contextmanager
def _service(namespace: Namespace, group: Path, role: str, port: int) -> Iterator[set[int]]:
    """A service that takes IPv4 and IPv6; `serve` does so by two servers."""
    addresses = (ADDRESS4, ADDRESS6) if role == "serve" else ("::",)
    creators: set[int] = set()
    with ExitStack() as opening:
        for address in addresses:
            command = namespace.command(*OWNED, "serve" if role == "dual" else role, address, str(port))
            process = opening.enter_context(bounded(_start_inside(group, command), SERVED_S))
            opening.callback(process.communicate, timeout=LIMIT_S)
            creators |= {int(word) for word in read_until(process.stdout, b"ready").split()[1:]}
        yield creators


class Verdict(NamedTuple):
    """What the tool said of the bytes of clients and services."""

    bytes: int
    named: int
    """of them with a process, and the right one"""
    wrong: int
    """with another"""
    seen: Counter[str]
    """clients by whose veth their flows were seen, and of how many all was named"""


def judge(made: Crowd, clients: Sequence[Client], flows: Sequence[dict[str, Any]], *, group: str) -> Verdict:
    """Compare each flow of a client with who it was; `group`: the services' control group."""
    at = {(client.veth, client.port): client for client in clients}
    total = named = wrong = 0
    seen: Counter[str] = Counter()
    for flow in flows:
        ports = flow["src_port"], flow["dst_port"]
        service = next((port for port in ports if port in made.services), None)
        if service is None:
            continue
        total += flow["bytes"]
        if flow["interface"] == "s0":
            right, cgroup = made.services[service], group
        else:
            client = at[flow["interface"], ports[0] if ports[1] == service else ports[1]]
            right, cgroup = {client.pid}, client.cgroup
        if "pid" not in flow:
            seen["nameless"] += 1
        elif flow["pid"] in right and flow["cgroup"] == cgroup:
            named += flow["bytes"]
            seen["named"] += 1
        else:
            wrong += flow["bytes"]
            seen["wrong"] += 1
    return Verdict(total, named, wrong, seen)

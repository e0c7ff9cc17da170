"""--owners beside a Docker engine: flows at containers' veths are theirs, by id and name, also behind masquerading."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.netns.tool import LIMIT_S, bounded, eventually, running
from tests.support.net import ROOT, Namespace, assert_sums_close, of_type
from xtrace.kernel import features
from xtrace.kernel.cgroups import mount_point

DATA, RUN = Path("/var/lib/docker"), Path("/run/docker")
"""Of the daemon, in memory and out of sight of the machine's own."""
SHARED = ("/usr", "/lib", "/lib64", "/bin", "/etc", str(Path(sys.base_prefix)), str(ROOT))
"""Of the host, read-only, in each container: its image is empty."""
OWNED = ("/usr/bin/python3", "-m", "tests.netns.owned")
PORT, FIRST_PORT = 5001, 20000
OUTSIDE, OWN_OUTSIDE = "10.77.0.2", "10.77.0.1"
CONTAINERS = 3
NOBODY = ("not_local", "unknown")
KINDS = ("tcp", "udp") * 2
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def machine_has_what_it_takes() -> None:
    for program in ("docker", "dockerd", "/usr/bin/python3"):
        if shutil.which(program) is None:
            pytest.xfail(f"no {program} here")
    if not features.probe().cmpxchg or mount_point() is None:
        pytest.xfail("owners need compare-and-swap in BPF, and control groups of version 2 for containers")


class Engine(Namespace):
    """A Docker daemon in a network namespace, in which its bridge and rules are, and with its own DATA."""

    def __init__(self, name: str, scratch: Path) -> None:
        super().__init__(name)
        self.socket = scratch / "socket"
        self.pid = 0

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs `arguments` where the daemon runs."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", *arguments]

    def docker(self, *arguments: str, **options: Any) -> str:
        """Run a command of docker's; its output without the end of the line."""
        command = ["docker", "-H", f"unix://{self.socket}", *arguments]
        options = {"check": True, "timeout": LIMIT_S, "cwd": ROOT, "stdout": subprocess.PIPE, "text": True, **options}
        return str(subprocess.run(command, **options).stdout).strip()


@contextmanager
def engine(scratch: Path) -> Iterator[Engine]:
    """The daemon, with an empty image of the name `empty`."""
    made = Engine(f"xt{os.getpid()}-engine{next(_numbers)}", scratch)
    added = [path for path in (DATA, RUN) if not path.exists()]
    for path in added:
        path.mkdir()
    (scratch / "exec").mkdir()
    subprocess.run(["ip", "netns", "add", made.name], check=True)
    daemon = (
        *("dockerd", "--exec-root", str(scratch / "exec"), "--pidfile", str(scratch / "pid")),
        *("-H", f"unix://{made.socket}"),
    )
    script = f"mount -t tmpfs tmpfs {DATA} && mount -t tmpfs tmpfs {RUN} && exec nsenter --net=/run/netns/$0 $*"
    try:
        with (scratch / "log").open("wb") as log:
            started = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", script, made.name, *daemon], stdout=log, stderr=subprocess.STDOUT
            )
        with bounded(started):
            made.pid = started.pid
            said = scratch / "log"
            assert eventually(lambda: b"API listen" in said.read_bytes() or started.poll() is not None), "no start"
            if started.poll() is not None:
                pytest.xfail(f"dockerd does not start here: {said.read_text()[-300:]}")
            nothing = subprocess.run(["tar", "cT", "/dev/null"], check=True, capture_output=True).stdout.decode()
            made.docker("import", "-", "empty", input=nothing)
            yield made
            started.terminate()  # and with it what it has started
            started.wait(LIMIT_S)
    finally:
        subprocess.run(["ip", "netns", "delete", made.name], check=True)
        for path in added:
            with suppress(OSError):  # another daemon has begun to use it
                path.rmdir()


@dataclass(frozen=True)
class Container:
    """A container with a server."""

    name: str
    id: str
    address: str
    veth: str


@contextmanager
def container(made: Engine, name: str) -> Iterator[Container]:
    """A container with a server at PORT."""
    mounts = [word for path in dict.fromkeys(SHARED) for word in ("-v", f"{path}:{path}:ro")]
    command = ("-w", str(ROOT), "empty", *OWNED, "serve", "0.0.0.0", str(PORT))
    made.docker("run", "-d", "-i", "--name", name, *mounts, *command)
    try:
        assert eventually(lambda: "ready" in made.docker("logs", name)), made.docker("logs", name)
        shown = made.docker("inspect", "-f", "{{.Id}} {{.NetworkSettings.IPAddress}} {{.State.Pid}}", name)
        identifier, address, pid = shown.split()
        link = subprocess.run(
            ["nsenter", "-t", pid, "-n", "ip", "-o", "link", "show", "eth0"], capture_output=True, text=True, check=True
        )
        peer = int(link.stdout.partition("@if")[2].partition(":")[0])
        names = {int(line.split(":")[0]): line.split(":")[1].strip() for line in made.ip("-o link").splitlines()}
        yield Container(name, identifier, address, names[peer].partition("@")[0])
    finally:
        made.docker("rm", "-f", name)


@contextmanager
def outside(made: Engine) -> Iterator[Namespace]:
    """A host with a server, beyond `outer`: a bridge, as a veth would show the sockets at its other end."""
    end = Namespace(f"{made.name}-out")
    subprocess.run(["ip", "netns", "add", end.name], check=True)
    try:
        made.ip("link add outer type bridge")
        made.ip(f"link add out0 type veth peer name eth0 netns {end.name}")
        made.ip("link set out0 master outer")
        made.ip("link set out0 up")
        made.ip(f"addr add {OWN_OUTSIDE}/24 dev outer")
        made.ip("link set outer up")
        end.ip(f"addr add {OUTSIDE}/24 dev eth0")
        end.ip("link set eth0 up")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = (sys.executable, "-m", "tests.netns.owned", "serve", OUTSIDE, str(PORT))
        with bounded(end.start(*command, **pipes)) as server:
            assert server.stdout and b"ready" in server.stdout.readline()
            yield end
    finally:
        subprocess.run(["ip", "netns", "delete", end.name], check=True)


def run_clients(made: Engine, one: Container, address: str, first: int) -> Sequence[int]:
    """Run a client of each kind in a container; their ports."""
    lines = "".join(f"{kind} {PORT} {first + number}\n" for number, kind in enumerate(KINDS))
    made.docker("exec", "-i", one.name, *OWNED, "clients", address, input=lines)
    return range(first, first + len(KINDS))


def owners_at(flows: Sequence[dict[str, Any]], ports: Sequence[int], **wanted: str) -> set[tuple[Any, ...]]:
    """What is said of the owners of these ports' flows."""
    return {
        (flow.get("container"), flow.get("container_name"), flow.get("command"))
        for flow in flows
        if {flow["src_port"], flow["dst_port"]} & set(ports)
        and all(flow[name] == value for name, value in wanted.items())
    }


def test_flows_of_containers_are_theirs_also_where_they_are_masqueraded(tmp_path: Path) -> None:
    options = ("--owners", "--direction", "both", "-o", "json", "-t", "1h")
    with ExitStack() as opening:
        made = opening.enter_context(engine(tmp_path))
        opening.enter_context(outside(made))
        some = [opening.enter_context(container(made, f"xt-shop-{number}")) for number in range(CONTAINERS)]
        interfaces = ",".join(("outer", *(one.veth for one in some)))
        tool = opening.enter_context(running(made, "-i", interfaces, *options, programs=2 * (CONTAINERS + 1)))
        pairs = list(zip(some, [*some[1:], some[0]], strict=True))
        ports = [
            run_clients(made, one, other.address, FIRST_PORT + 100 * number)
            for number, (one, other) in enumerate(pairs)
        ]
        beyond = run_clients(made, some[0], OUTSIDE, 2 * FIRST_PORT)
        result = tool.stop()
    assert_sums_close(result.records)
    flows = of_type(result.records, "flow")
    for (one, other), own in zip(pairs, ports, strict=True):
        for each in (one, other):
            assert owners_at(flows, own, interface=each.veth) == {(each.id, each.name, "python3")}
    assert owners_at(flows, beyond, interface=some[0].veth) == {(some[0].id, some[0].name, "python3")}
    masqueraded = {
        (flow["direction"], flow.get("container"), flow["owner"])
        for flow in flows
        if flow["interface"] == "outer"
        and OUTSIDE in (flow["src_ip"], flow["dst_ip"])
        and PORT in (flow["src_port"], flow["dst_port"])
    }
    leaving = {("egress", some[0].id, "created")}
    # a bridge may see what enters with the address that it is translated to: then it is no connection's packet
    entering = {("ingress", some[0].id, "created"), *(("ingress", None, how) for how in NOBODY)}
    assert leaving < masqueraded <= leaving | entering

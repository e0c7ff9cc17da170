"""--owners: every flow is said to be whose it is, or that this is not known; never somebody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.netns.crowd import crowd, judge
from tests.netns.routed import routed
from tests.netns.test_privileges import NEEDED, run_as_user
from tests.netns.tool import LIMIT_S, Result, Tool, bounded, running
from tests.support.net import Namespace, assert_sums_close, of_type, quiet_pair, read_until, veth_pair
from xtrace.kernel import features
from xtrace.kernel.cgroups import mount_point

OWNED = (sys.executable, "-m", "tests.netns.owned")
PORT, OTHER_PORT, CLOSED_PORT = 5001, 5002, 5081
FIRST_PORT = 20000
BOTH = ("--owners", "--direction", "both", "-o", "json")
KINDS = ("tcp", "udp", "sendto")
AT_XDP = ("--xdp-mode", "native")


@pytest.fixture(autouse=True)
def kernel_has_what_owners_need(request: pytest.FixtureRequest) -> None:
    if not features.probe().cmpxchg and "compare_and_swap" not in request.node.name:
        pytest.xfail("this kernel has no compare-and-swap in BPF")


@contextmanager
def service(namespace: Namespace, role: str, address: str, port: int = PORT) -> Iterator[int]:
    """One of owned's servers; its process id. It ends with the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with bounded(namespace.start(*OWNED, role, address, str(port), **pipes)) as process:
        yield int(read_until(process.stdout, b"ready").split()[-1])
        process.communicate(timeout=LIMIT_S)


@dataclass(frozen=True)
class Client:
    """A process that lived for one exchange."""

    kind: str
    port: int
    pid: int


def run_clients(
    namespace: Namespace, address: str, kinds: Sequence[str] = KINDS, *, port: int = PORT, first: int = FIRST_PORT
) -> list[Client]:
    """Run a client of each kind, one after the other, each from a port of its own."""
    lines = "".join(f"{kind} {port} {first + number}\n" for number, kind in enumerate(kinds))
    command = namespace.command(*OWNED, "clients", address)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    found = (line.split() for line in done.stdout.splitlines())
    return [Client(kind, int(own), int(pid)) for kind, own, pid, _ in found]


def of_port(result: Result, port: int, **wanted: object) -> list[dict[str, Any]]:
    """The flows of a port at either end."""
    flows = of_type(result.records, "flow")
    return [
        flow
        for flow in flows
        if port in (flow["src_port"], flow["dst_port"]) and all(flow.get(name) == wanted[name] for name in wanted)
    ]


def assert_all_are(clients: Sequence[Client], result: Result) -> None:
    """Each client's flows, both directions, have its process; sums close."""
    assert_sums_close(result.records)
    for client in clients:
        flows = of_port(result, client.port)
        assert {flow["direction"] for flow in flows} == {"ingress", "egress"}, client
        for flow in flows:
            assert (flow["owner"], flow["pid"], flow["uid"]) == ("created", client.pid, 0), (client, flow)
            assert flow["command"].startswith("python"), flow


@pytest.mark.parametrize("hook", [(), AT_XDP], ids=["tc", "XDP"])
@pytest.mark.parametrize("near", ["10.0.0.1", "fd00::1"])
def test_clients_that_live_for_a_moment_are_named(near: str, hook: Sequence[str]) -> None:
    with (
        veth_pair() as pair,
        service(pair.near, "serve", near),
        running(pair.far, "-i", "far0", *BOTH, *hook, "-t", "1h", programs=2) as tool,
    ):
        clients = run_clients(pair.far, near, KINDS * 4)
        result = tool.stop()
    assert_all_are(clients, result)
    found = {line["direction"]: line["hook"] for line in of_type(result.records, "interface")}
    assert found == {"ingress": "xdp" if hook else "tc", "egress": "tc"}


def test_clients_are_named_whatever_interval_their_packets_are_in() -> None:
    with (
        veth_pair() as pair,
        service(pair.near, "serve", "10.0.0.1"),
        running(pair.far, "-i", "far0", *BOTH, "-t", "100ms", programs=2) as tool,
    ):
        clients = run_clients(pair.far, "10.0.0.1", KINDS * 20)
        tool.wait_for_intervals(4)
        result = tool.stop()
    assert_all_are(clients, result)


def test_accepted_connections_are_those_of_who_listens() -> None:
    with veth_pair() as pair, running(pair.far, "-i", "far0", *BOTH, "-t", "1h", programs=2) as tool:
        with service(pair.far, "serve", "10.0.0.2") as server, service(pair.far, "prefork", "10.0.0.2", 5002) as parent:
            run_clients(pair.near, "10.0.0.2")
            run_clients(pair.near, "10.0.0.2", ["tcp"] * 4, port=OTHER_PORT, first=2 * FIRST_PORT)
        result = tool.stop()
    assert_sums_close(result.records)
    tcp, udp = of_port(result, PORT, protocol=6), of_port(result, PORT, protocol=17)
    assert {(flow["owner"], flow["pid"]) for flow in udp} == {("created", server)}
    assert {flow["pid"] for flow in tcp} == {server}
    assert {flow["owner"] for flow in tcp if flow["direction"] == "egress"} == {"listened"}
    assert {(flow["pid"]) for flow in of_port(result, OTHER_PORT)} == {parent}


GIVES_UP = """
import socket, struct, sys
with socket.create_connection(("10.0.0.2", int(sys.argv[1]))) as connection:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""
"""Connects, and resets the connection."""


def test_connections_that_were_never_there_to_accept_are_those_of_who_listens() -> None:
    with veth_pair() as pair, running(pair.far, "-i", "far0", *BOTH, "-t", "1h", programs=2) as tool:
        with service(pair.far, "deferring", "10.0.0.2") as server:
            pair.near.run(sys.executable, "-c", GIVES_UP, str(PORT))
        result = tool.stop()
    assert_sums_close(result.records)
    (entered,) = of_port(result, PORT, direction="ingress")
    assert (entered["owner"], entered["pid"], entered["packets"]) == ("listened", server, 3)


def test_sockets_from_before_the_start_are_those_of_who_holds_them() -> None:
    with (
        veth_pair() as pair,
        service(pair.far, "serve", "10.0.0.2") as server,
        running(pair.far, "-i", "far0", *BOTH, "-t", "1h", programs=2) as tool,
    ):
        run_clients(pair.near, "10.0.0.2")
        result = tool.stop()
    tcp, udp = of_port(result, PORT, protocol=6), of_port(result, PORT, protocol=17)
    assert {(flow["owner"], flow["pid"]) for flow in udp} == {("held", server)}
    assert {flow["pid"] for flow in tcp} == {server}
    assert {flow["owner"] for flow in tcp if flow["direction"] == "egress"} == {"listened"}


def test_a_ping_is_its_process_s_and_the_answer_to_one_the_kernel_s() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", *BOTH, "-t", "1h", programs=2) as tool:
        with bounded(pair.far.start("ping", "-q", "-c1", "10.0.0.1", stdout=subprocess.DEVNULL)) as ping:
            # `ip netns exec` becomes the command
            assert ping.wait(LIMIT_S) == 0
        first = ping.pid
        pair.near.ping("10.0.0.2", 1)
        result = tool.stop()
    found = {
        (flow["direction"], flow["icmp_type"]): (flow["owner"], flow.get("pid"), flow.get("command"))
        for flow in of_type(result.records, "flow")
    }
    assert found == {
        ("egress", 8): ("created", first, "ping"),
        ("ingress", 0): ("created", first, "ping"),
        ("ingress", 8): ("kernel", None, None),
        ("egress", 0): ("kernel", None, None),
    }


def test_forwarded_flows_are_not_local_and_at_a_veth_those_of_its_other_end() -> None:
    with (
        routed() as (client, router, server),
        service(server, "serve", "10.2.0.2") as served,
        service(router, "serve", "0.0.0.0"),  # which has nothing to do with what is forwarded to its port
        running(router, "-i", "br0,r1,r2", *BOTH, "-t", "1h", programs=6) as tool,
    ):
        clients = run_clients(client, "10.2.0.2", KINDS * 2)
        result = tool.stop()
    assert_sums_close(result.records)
    for each in clients:
        by_interface = {
            name: {(flow["owner"], flow.get("pid")) for flow in of_port(result, each.port, interface=name)}
            for name in ("br0", "r1", "r2")
        }
        assert by_interface["br0"] == {("not_local", None)}
        assert by_interface["r1"] == {("created", each.pid)}
        assert {pid for _, pid in by_interface["r2"]} == {served}


def test_a_port_is_not_an_owner() -> None:
    with (
        routed() as (client, router, server),
        # at the same ports, but not for these packets
        service(router, "serve", "0.0.0.0", CLOSED_PORT),
        service(router, "serve", "0.0.0.0", FIRST_PORT),
        running(server, "-i", "eth0", *BOTH, "-t", "1h", programs=2) as tool,
    ):
        for kind in ("tcp", "udp"):
            line = f"{kind} {CLOSED_PORT} {FIRST_PORT}\n"
            command = client.command(*OWNED, "clients", "10.2.0.2")
            refused = subprocess.run(command, input=line, capture_output=True, text=True, timeout=LIMIT_S)
            assert "ConnectionRefusedError" in refused.stderr
        result = tool.stop()
    flows = of_port(result, CLOSED_PORT)
    found = {(flow["traffic_type"], flow["direction"], flow["owner"], flow.get("pid")) for flow in flows}
    assert found == {
        ("TCP", "ingress", "unknown", None),
        ("TCP", "egress", "kernel", None),
        ("UDP", "ingress", "unknown", None),
    }


def test_owners_are_in_the_lines_of_text_and_in_the_table() -> None:
    command = Path(sys.executable).name
    forms = {"text": f"pid={{}} {command}", "table": f"{command}[{{}}]"}
    with veth_pair() as pair, service(pair.near, "serve", "10.0.0.1"):
        for form, words in forms.items():
            with running(pair.far, "-i", "far0", "--owners", "-o", form, "-t", "1h") as tool:
                (client,) = run_clients(pair.far, "10.0.0.1", ["udp"])
                result = tool.stop()
            lines = [line for line in result.stdout.decode().splitlines() if str(FIRST_PORT) in line]
            assert lines and all(words.format(client.pid) in line for line in lines)


@pytest.mark.parametrize(
    "is_first, hook",
    [(True, ()), (False, ()), (True, AT_XDP)],
    ids=["from the start", "started in the middle", "at XDP"],
)
def test_bytes_of_many_short_clients_in_control_groups_are_named(is_first: bool, hook: Sequence[str]) -> None:
    mount = mount_point()
    if mount is None:
        pytest.xfail("control groups of version 2 are not mounted")
    options = ("-i", "c*,s0", *BOTH, *hook, "-t", "500ms")
    with crowd(3, mount) as made:
        before = [] if is_first else made.run(5, 2 * FIRST_PORT)
        with running(made.router, *options, programs=made.programs) as tool:
            clients = made.run(20)
            tool.wait_for_intervals(made.programs)
            result = tool.stop()
        group = f"/{made.groups[0].name.rpartition('-')[0]}-s"
    assert len(before) in (0, 15) and len(clients) == 60
    assert_sums_close(result.records)
    verdict = judge(made, clients, of_type(result.records, "flow"), group=group)
    assert verdict.wrong == 0
    assert verdict.named >= 0.999 * verdict.bytes > 0, verdict


def test_nobody_is_denied_a_socket_where_there_is_no_memory_to_keep_its_creator() -> None:
    with (
        veth_pair() as pair,
        service(pair.near, "serve", "10.0.0.1"),
        running(pair.far, "-i", "far0", *BOTH, "-t", "1h", programs=2) as tool,
    ):
        # what sockets may use beside their data; storage counts in it (sk_storage_charge())
        limit = subprocess.run(pair.far.command("sysctl", "-qw", "net.core.optmem_max=0"), capture_output=True)
        if limit.returncode:
            pytest.xfail("this kernel has one limit for all namespaces")
        clients = run_clients(pair.far, "10.0.0.1")
        result = tool.stop()
    assert_sums_close(result.records)
    for client in clients:
        flows = of_port(result, client.port)
        assert len(flows) == 2
        assert not any("pid" in flow for flow in flows), "that nobody saw it be created, and yet it is named"


def test_without_a_mount_or_the_right_to_make_one_flows_have_no_owners_and_one_line_says_so() -> None:
    with veth_pair() as pair:
        code, stdout, told = run_as_user(pair.far, *NEEDED, options=("--owners", "-o", "json"))
    assert code == 0 and b'"type":"end"' in stdout
    (line,) = [line for line in told if line.startswith("--owners")]
    assert "mounting them needs CAP_SYS_ADMIN" in line and "the owners of flows are not known" in line


def test_on_a_kernel_without_compare_and_swap_one_line_says_that_owners_are_not_known() -> None:
    off = {"XTRACE_FEATURES_OFF": "cmpxchg"}
    with veth_pair() as pair, running(pair.far, "-i", "far0", *BOTH, "-t", "1h", programs=2, variables=off) as tool:
        pair.far.ping("10.0.0.1", 1)
        result = tool.stop()
    (line,) = [line for line in result.said if line.startswith("--owners")]
    assert "compare-and-swap" in line and "the owners of flows are not known" in line
    assert_sums_close(result.records)
    assert not any("owner" in flow for flow in of_type(result.records, "flow"))


@contextmanager
def watched_from(kind: type[Namespace]) -> Iterator[tuple[Tool, list[Client]]]:
    """A tool that runs in such a namespace; clients that came then, and others of a service from before."""
    with (
        veth_pair() as pair,
        service(pair.near, "serve", "10.0.0.1"),
        service(pair.far, "serve", "10.0.0.2"),
        running(kind(pair.far.name), "-i", "far0", *BOTH, "-t", "1h", programs=2) as tool,
    ):
        clients = run_clients(pair.far, "10.0.0.1")
        run_clients(pair.near, "10.0.0.2", first=2 * FIRST_PORT)
        yield tool, clients


def assert_older_sockets_have_no_process(result: Result) -> None:
    flows = [flow for port in range(2 * FIRST_PORT, 2 * FIRST_PORT + 3) for flow in of_port(result, port)]
    assert flows and not any("pid" in flow for flow in flows)


class Restricted(Namespace):
    """A namespace in which root may not look into other processes."""

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs `arguments` so."""
        return super().command("setpriv", "--bounding-set=-sys_ptrace", *arguments)


def test_without_the_right_to_look_into_processes_only_sockets_from_before_have_none() -> None:
    with watched_from(Restricted) as (tool, clients):
        result = tool.stop()
    assert_all_are(clients, result)
    assert any("CAP_SYS_PTRACE" in line for line in result.said)
    assert_older_sockets_have_no_process(result)


class Contained(Namespace):
    """A namespace whose commands see the processes of a PID namespace of their own."""

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs `arguments` so."""
        return super().command("unshare", "--pid", "--fork", "--mount-proc", *arguments)


def test_in_a_pid_namespace_of_its_own_sockets_from_before_have_no_process_and_one_line_says_so() -> None:
    with watched_from(Contained) as (tool, clients):
        outer = tool.process.pid
        (inner,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        result = tool.wait()
    assert_all_are(clients, result)
    (line,) = [line for line in result.said if line.startswith("--owners")]
    assert "--pid host" in line
    assert_older_sockets_have_no_process(result)


def test_what_another_drops_between_xdp_and_tc_is_counted_and_has_no_owner() -> None:
    off = {"XTRACE_FEATURES_OFF": "tcx"}
    options = ("-i", "far0", "--owners", "--hook", "xdp", "-o", "json", "-t", "1h")
    sending = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('10.0.0.2', 5001))"
    with veth_pair() as pair, service(pair.far, "serve", "10.0.0.2"):
        pair.far.run("tc", "qdisc", "add", "dev", "far0", "clsact")
        where = ("dev", "far0", "ingress", "protocol", "ip", "prio", "1")
        pair.far.run("tc", "filter", "add", *where, "bpf", "bytecode", "1,6 0 0 2", "direct-action")
        with running(pair.far, *options, variables=off) as tool:
            pair.near.run(sys.executable, "-c", sending)
            result = tool.stop()
    assert_sums_close(result.records)
    (flow,) = of_port(result, PORT)
    assert (flow["packets"], flow["owner"], flow.get("pid")) == (1, "unknown", None)


@contextmanager
def masquerading() -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """The same as routed(), with the router's outer side a bridge, `outer`, where the client is masqueraded.

    Port OTHER_PORT of the router is the client's PORT there. Of a bridge the tool knows no other end.
    """
    with routed() as (client, router, server):
        router.ip("link add outer type bridge")
        router.ip("addr del 10.2.0.1/24 dev r2")
        router.ip("link set r2 master outer")
        router.ip("addr add 10.2.0.1/24 dev outer")
        router.ip("link set outer up")
        if Path("/proc/sys/net/bridge").is_dir():
            # translated where the bridge has it, not at its ports before
            router.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
        nat = ("iptables", "-w", "-t", "nat", "-A")
        masquerade = router.command(*nat, "POSTROUTING", "-o", "outer", "-j", "MASQUERADE")
        if subprocess.run(masquerade, capture_output=True).returncode:
            pytest.xfail("this kernel has no NAT")
        for protocol in ("tcp", "udp"):
            published = ("-i", "outer", "-p", protocol, "--dport", str(OTHER_PORT))
            router.run(*nat, "PREROUTING", *published, "-j", "DNAT", "--to-destination", f"10.1.0.2:{PORT}")
        yield client, router, server


def test_masqueraded_flows_are_those_of_who_sent_them_behind_a_watched_veth() -> None:
    with (
        masquerading() as (client, router, server),
        service(server, "serve", "10.2.0.2"),
        service(client, "serve", "10.1.0.2") as published,
        running(router, "-i", "outer,r1", *BOTH, "-t", "1h", programs=4) as tool,
    ):
        clients = run_clients(client, "10.2.0.2", KINDS * 2)
        run_clients(server, "10.2.0.1", KINDS, port=OTHER_PORT, first=2 * FIRST_PORT)
        result = tool.stop()
    assert_sums_close(result.records)
    for each in clients:
        flows = of_port(result, each.port, interface="outer")
        assert {"10.2.0.1" in (flow["src_ip"], flow["dst_ip"]) for flow in flows} == {True}
        found = {(flow["direction"], flow["owner"], flow.get("pid")) for flow in flows}
        assert found == {("ingress", "created", each.pid), ("egress", "created", each.pid)}
    for port in range(2 * FIRST_PORT, 2 * FIRST_PORT + len(KINDS)):
        flows = of_port(result, port, interface="outer")
        assert {flow["direction"] for flow in flows} == {"ingress", "egress"}
        assert {flow.get("pid") for flow in flows} == {published}

"""Checks: what they find, how bad it is, and what helps."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from tests.support.net import records
from tests.support.schema import validate
from tests.unit.make import features
from tests.unit.make_rdma import MLX5, port
from xtrace.doctor import interfaces as interfaces_module
from xtrace.doctor import jobs, machine
from xtrace.doctor.check import Check, Status, fail, ok, warn
from xtrace.doctor.shown import show
from xtrace.errors import KernelError, RdmaError, UsageError
from xtrace.kernel import features as features_module
from xtrace.kernel import privileges
from xtrace.kernel.rtnetlink import LinkInfo, XdpOwner
from xtrace.model.owners import Surroundings, TcOwners
from xtrace.model.rdma import PortInfo, PortRecord
from xtrace.monitors.flows import kinds
from xtrace.monitors.flows.hooks import Choice
from xtrace.monitors.flows.interfaces import Selection
from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.push.batch import Outcome
from xtrace.sinks.stream import OutputStream
from xtrace.target import parse_target

Output = tuple[OutputStream, Callable[[], bytes]]

UP = 0x1 | 0x40
ETH0 = LinkInfo(
    index=4, name="eth0", flags=UP | 0x10000, link_type=1, operstate="up", mtu=1500, address="02:00:00:00:00:01"
)


@pytest.fixture(autouse=True)
def no_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kinds, interfaces_module):
        monkeypatch.setattr(module, "driver", lambda name: "mlx5_core")
    monkeypatch.setattr(interfaces_module, "takes_vlan_tags_off", lambda name: False)


def found(
    *links: LinkInfo,
    around: Surroundings | None = None,
    patterns: Sequence[str] = ("eth0",),
    choice: Choice | None = None,
) -> list[Check]:
    """The checks of interfaces."""
    surroundings = {link.index: around or Surroundings() for link in links}
    return list(interfaces_module.interfaces(links, surroundings, Selection(tuple(patterns)), choice or Choice()))


def only(checks: Sequence[Check], name: str) -> Check:
    (check,) = [check for check in checks if check.name == name]
    return check


def test_interface_in_order_is_ok_and_attaching_says_what_it_changes() -> None:
    checks = found(ETH0, around=Surroundings(("10.0.0.1/24",)))
    assert only(checks, "interface") == ok("interface", "up, mlx5_core mtu 1500 10.0.0.1/24", "eth0")
    attaching = only(checks, "attaching")
    assert attaching.status is Status.WARN
    assert attaching.detail.startswith("by native XDP if the driver supports it, else at tc: many NICs restart")
    assert "--hook tc" in attaching.cure


@pytest.mark.parametrize("choice", [Choice.of("tc", "auto"), Choice.of("auto", "auto")])
def test_attaching_at_tc_changes_nothing(choice: Choice) -> None:
    link = ETH0 if choice.hook else ETH0._replace(kind="veth")
    assert only(found(link, choice=choice), "attaching") == ok("attaching", "at tc; nothing is reconfigured", "eth0")


@pytest.mark.parametrize("hook, status", [("auto", Status.WARN), ("xdp", Status.FAIL), ("tc", Status.OK)])
def test_owner_of_xdp_is_named_and_fatal_only_to_those_who_insist(hook: str, status: Status) -> None:
    check = only(found(ETH0._replace(xdp=XdpOwner("native", 77)), choice=Choice.of(hook, "auto")), "attaching")
    assert check.status is status
    assert ("program id 77 (native)" in check.detail) == (hook != "tc")


def test_programs_of_others_at_tc_stay_and_are_named() -> None:
    around = Surroundings(tc={"ingress": TcOwners((5,), ("cilium",)), "egress": TcOwners(None)})
    owners = [check for check in found(ETH0, around=around) if check.name == "owners"]
    assert [check.status for check in owners] == [Status.OK, Status.WARN]
    assert owners[0].detail == "tc ingress: TCX program id 5, filter cilium; they stay, and run after ours"
    assert "CAP_NET_ADMIN" in owners[1].detail


@pytest.mark.parametrize(
    "link, status, told",
    [
        (ETH0._replace(flags=0), Status.WARN, "down"),
        (ETH0._replace(flags=0x1, operstate="down"), Status.WARN, "no carrier"),
        (ETH0._replace(link_type=280), Status.FAIL, "link type 280 are not supported"),
    ],
)
def test_interface_that_cannot_carry_packets_is_reported(link: LinkInfo, status: Status, told: str) -> None:
    check = only(found(link), "interface")
    assert check.status is status
    assert told in check.detail
    assert check.cure


def test_missing_interface_fails_with_those_that_exist() -> None:
    assert found(ETH0, patterns=("eth7",)) == [fail("interface", "not found", "choose one of eth0", "eth7")]
    (check,) = found(ETH0._replace(flags=0), patterns=("any",))
    assert check.status is Status.FAIL and "matches no interface" in check.detail


def test_rdma_device_on_an_interface_warns_of_what_no_hook_sees() -> None:
    check = only(found(ETH0, around=Surroundings(rdma_device="mlx5_0")), "rdma")
    assert check.status is Status.WARN and "mlx5_0" in check.detail and "-m xdp,rdma" in check.cure


@pytest.mark.parametrize(
    "release, status",
    [("5.10.0-8-amd64", Status.OK), ("6.18.1", Status.OK), ("5.9.16", Status.FAIL), ("4.19", Status.FAIL)],
)
def test_kernel_is_old_enough_or_the_run_fails(release: str, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release, machine="x86_64"))
    assert only(list(machine.kernel()), "kernel").status is status


@pytest.mark.parametrize(
    "text, status", [("1\n", Status.OK), ("2\n", Status.OK), ("0\n", Status.WARN), (None, Status.WARN)]
)
def test_jit_that_is_off_or_unknown_is_no_silence(
    text: str | None, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "jit").write_text(text)
    monkeypatch.setattr(machine, "JIT", tmp_path / "jit")
    assert only(list(machine.kernel()), "jit").status is status


def test_lacking_capabilities_fail_and_leave_features_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "missing", lambda needed: list(needed))
    checks = list(machine.rights(("xdp", "rdma")))
    by_mode = {check.subject: check.status for check in checks if check.name == "capabilities"}
    assert by_mode == {"xdp": Status.FAIL, "rdma": Status.OK}
    assert only(checks, "features").status is Status.WARN


def test_features_that_lack_are_named_with_what_that_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "missing", lambda needed: [])
    monkeypatch.setattr(features_module, "probe", lambda: features(tcx=False))
    told = [
        check.detail for check in machine.rights(("xdp",)) if check.name == "features" and check.status is Status.WARN
    ]
    assert any(detail.startswith("no tcx: ") for detail in told)
    assert set(machine.WITHOUT) == set(features()._fields) - {"realtime"}


def test_bpf_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe() -> None:
        raise KernelError("BPF_MAP_CREATE(probe)", 1)

    monkeypatch.setattr(privileges, "missing", lambda needed: [])
    monkeypatch.setattr(features_module, "probe", probe)
    assert only(list(machine.rights(("xdp",))), "features").status is Status.FAIL


def test_rdma_ports_are_ok_or_say_why_not() -> None:
    healthy = port()
    down = replace(healthy, info=replace(healthy.info, state="DOWN"))
    unread = PortRecord(MLX5, PortInfo(), None, unavailable="sysfs: no such file")
    assert [check.status for check in jobs.rdma([healthy, down, unread])] == [Status.OK, Status.WARN, Status.WARN]
    assert jobs.no_rdma(RdmaError("no RDMA devices"), wanted=True).status is Status.FAIL
    assert jobs.no_rdma(RdmaError("no RDMA devices"), wanted=False).status is Status.OK


@pytest.mark.parametrize(
    "outcome, status, told",
    [
        (Outcome(True), Status.OK, "accepts samples"),
        (Outcome(True, doubt="200 OK"), Status.WARN, "200 OK"),
        (Outcome(False, True, "Connection refused"), Status.FAIL, "Connection refused"),
    ],
)
def test_server_is_asked_with_an_import_that_stores_nothing(
    outcome: Outcome, status: Status, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def send(body: bytes, headers: object) -> Outcome:
        sent.append(body)
        return outcome

    fake = SimpleNamespace(send=send, close=lambda: None)
    target = parse_target("http://localhost:8428", {})
    assert target is not None
    check = jobs.push(target, Exposition(()), lambda: fake)
    assert check.status is status
    assert [gzip.decompress(body) for body in sent] == [b""]
    assert told in check.detail


def test_target_that_cannot_be_used_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def http() -> NoReturn:
        raise UsageError("VICTORIAMETRICS_CA_FILE: no such file")

    target = parse_target("http://localhost:8428", {})
    assert target is not None
    check = jobs.push(target, Exposition(()), http)
    assert (check.name, check.status, check.subject) == ("push", Status.FAIL, target.shown)
    assert check.detail == "VICTORIAMETRICS_CA_FILE: no such file"


def test_lines_and_records_have_the_same_and_the_worst_decides(output: Output) -> None:
    stream, contents = output
    checks = [
        ok("kernel", "Linux"),
        warn("jit", "off", "turn it on"),
        fail("interface", "not \x1b found", "choose", "eth7"),
    ]
    assert show(checks[:2], stream, False, "n1") == 0
    assert show(checks[2:], stream, False, "n1") == 1
    assert contents().decode().splitlines() == [
        "ok    kernel        Linux",
        "warn  jit           off -> turn it on",
        "fail  interface     eth7: not ? found -> choose",
    ]
    assert show(checks, stream, True, "n1") == 1
    lines = records(b"\n".join(contents().splitlines()[3:]))
    validate(lines)
    assert [(line["status"], line["subject"], line["cure"]) for line in lines] == [
        ("ok", None, None),
        ("warn", None, "turn it on"),
        ("fail", "eth7", "choose"),
    ]

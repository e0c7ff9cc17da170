"""Network namespaces: which there are, by names and by processes, and what is read of one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from xtrace.errors import KernelError
from xtrace.kernel import network_namespaces
from xtrace.kernel.network_namespaces import TcpCounters, all_namespaces, inode_of


def test_namespaces_are_those_with_a_name_or_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, of_process, shared = tmp_path / "run/blue", tmp_path / "proc/7/ns/net", tmp_path / "proc/8/ns/net"
    for path in (named, of_process, shared):
        path.parent.mkdir(parents=True)
    named.touch()
    of_process.touch()
    shared.hardlink_to(named)
    monkeypatch.setattr(network_namespaces, "NAMED", tmp_path / "run")
    monkeypatch.setattr(network_namespaces, "procfs", lambda: tmp_path / "proc")
    monkeypatch.setattr(network_namespaces, "pids", lambda: [7, 8, 9])
    assert all_namespaces() == {inode_of(named): named, inode_of(of_process): of_process}, "9 has ended"


def test_own_namespace_is_that_of_this_thread() -> None:
    assert inode_of() == Path("/proc/self/ns/net").stat().st_ino


def test_retransmissions_are_the_counter_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snmp = tmp_path / "snmp"
    monkeypatch.setattr(network_namespaces, "SNMP", str(snmp))
    snmp.write_text("Ip: InReceives\nIp: 5\nTcp: InSegs RetransSegs InErrs\nTcp: 7 8 9\nUdp: InDatagrams\nUdp: 4\n")
    with closing(TcpCounters()) as counters:
        assert counters.retrans_segs() == 8
        snmp.write_text(snmp.read_text().replace("8", "11"))
        assert counters.retrans_segs() == 11


def test_namespace_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=f"open\\({tmp_path}/none\\): ENOENT"):
        network_namespaces.opened(tmp_path / "none")

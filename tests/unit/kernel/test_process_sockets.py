"""Sockets that a process has open: this one's own."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from xtrace.errors import KernelError
from xtrace.kernel import process_sockets
from xtrace.kernel.bpf import Fd
from xtrace.kernel.process_sockets import command_of, cookie_of, internet_sockets, raw_sockets, socket_descriptors

OWN = os.getpid()
NOBODY = 1 << 22
"""Beyond every process id (PID_MAX_LIMIT)."""


def test_descriptors_are_those_that_are_sockets() -> None:
    here, there = socket.socketpair()
    reading, writing = os.pipe()
    with here, there:
        found = socket_descriptors(OWN)
        assert {found[one.fileno()] for one in (here, there)} == {
            os.fstat(one.fileno()).st_ino for one in (here, there)
        }
        assert not {reading, writing} & found.keys()
    os.close(reading)
    os.close(writing)
    assert socket_descriptors(NOBODY) == {}


def test_internet_sockets_are_copied_by_cookie_and_closed() -> None:
    with socket.socket() as ipv4, socket.socket(socket.AF_INET6) as ipv6, socket.socket(socket.AF_UNIX) as local:
        cookies = [int.from_bytes(one.getsockopt(socket.SOL_SOCKET, 57, 8), "little") for one in (ipv4, ipv6)]
        copies = []
        for copy in internet_sockets(OWN, [local.fileno(), ipv4.fileno(), 1 << 20, ipv6.fileno()]):
            copies.append(copy)
            assert cookie_of(copy) == cookies[len(copies) - 1] != 0
    assert len(copies) == 2
    assert all(copy.closed for copy in copies)
    assert list(internet_sockets(NOBODY, [0])) == []


def test_option_that_cannot_be_read_is_named_with_its_reason() -> None:
    with socket.socket() as made, closing(Fd(os.dup(made.fileno()))) as copy:
        assert made.fileno() != copy.fileno()
        with pytest.raises(KernelError, match=r"getsockopt\(9999\): ENOPROTOOPT") as refused:
            process_sockets._option(copy, 9999, 8)
        assert refused.value.errno == errno.ENOPROTOOPT
        assert cookie_of(copy), "it is still open"


def test_raw_sockets_are_those_of_both_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when ...\n"
    line = "   1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 {} 2 0 0\n"
    (tmp_path / "raw").write_text(head + line.format(11) + line.format(12))
    (tmp_path / "raw6").write_text(head + line.format(13))
    monkeypatch.setattr(process_sockets, "RAW", (tmp_path / "raw", tmp_path / "raw6", tmp_path / "none"))
    assert raw_sockets() == {11, 12, 13}


def test_command_is_the_kernels_name_of_a_process() -> None:
    assert command_of(OWN) == Path(f"/proc/{OWN}/comm").read_bytes().rstrip(b"\n")
    assert command_of(NOBODY) == b""

"""A veth pair: the tool and the servers are at this end, traffic comes from a namespace at the other."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.netns.tool import Tool, bounded, running
from tests.support.net import ROOT, Namespace

_numbers = itertools.count()


class Here(Namespace):
    """The tests' own namespace."""

    def __init__(self) -> None:
        super().__init__("")

    def command(self, *arguments: str) -> list[str]:
        return list(arguments)


@dataclass(frozen=True)
class Wire:
    """`watched` is the local end; frames are sent from `sender` in namespace `far`."""

    watched: str
    far: Namespace
    sender: str = "near0"

    @contextmanager
    def traffic(self, flows: int = 200, rate: int = 4000) -> Iterator[None]:
        """Send frames of many flows, some RoCE, during the block."""
        with self._sending("tests.push.sender", str(flows), str(rate)):
            yield

    @contextmanager
    def churn(self, rate: int = 400) -> Iterator[None]:
        """Send frames of that many new flows a second during the block."""
        with self._sending("tests.push.churn", str(rate)):
            yield

    @contextmanager
    def _sending(self, program: str, *arguments: str) -> Iterator[None]:
        command = (sys.executable, "-m", program, self.sender, *arguments)
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with bounded(self.far.start(*command, **options)) as sender:
            assert sender.stdout is not None and sender.stdin is not None
            assert sender.stdout.readline() == b"sending\n"
            yield
            sender.stdin.close()
            assert sender.wait(10) == 0

    @contextmanager
    def watching(self, *arguments: str, variables: dict[str, str] | None = None, **options: Any) -> Iterator[Tool]:
        """Run the tool on this wire; it is attached when the block begins."""
        hook = () if "--hook" in arguments else ("--hook", "xdp")  # at tc a veth drops frames sent without an IP stack
        with running(Here(), "-i", self.watched, *hook, *arguments, variables=variables, **options) as tool:
            yield tool


@contextmanager
def wire() -> Iterator[Wire]:
    """Set up a Wire for the block; without IPv6, so that only frames sent by a test move."""
    number = next(_numbers)
    namespace, watched = f"xt{os.getpid()}-push{number}", f"xp{os.getpid()}-{number}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        far = Namespace(namespace)
        far.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        far.ip("link add near0 type veth peer name far0")
        far.run("sysctl", "-qw", "net.ipv6.conf.near0.disable_ipv6=1")
        far.ip(f"link set far0 netns {os.getpid()} name {watched}")
        subprocess.run(["sysctl", "-qw", f"net.ipv6.conf.{watched}.disable_ipv6=1"], check=True, cwd=ROOT)
        subprocess.run(["ip", "link", "set", watched, "up"], check=True)
        far.ip("link set near0 up")
        yield Wire(watched, far)
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)

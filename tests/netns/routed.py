"""A router between a client and a server, in three network namespaces."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.net import Namespace

_numbers = itertools.count()


@contextmanager
def routed() -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """Namespaces of a client (10.1.0.2), a router with veths r1, in bridge br0, and r2, and a server (10.2.0.2)."""
    names = [f"xt{os.getpid()}-routed{next(_numbers)}" for _ in range(3)]
    client, router, server = (Namespace(name) for name in names)
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        router.ip("link add br0 type bridge")
        for number, end in ((1, client), (2, server)):
            router.ip(f"link add r{number} type veth peer name eth0 netns {end.name}")
            end.ip(f"addr add 10.{number}.0.2/24 dev eth0")
            end.ip("link set eth0 up")
            end.ip("link set lo up")
            end.ip(f"route add default via 10.{number}.0.1")
            router.ip(f"link set r{number} up")
        router.ip("link set r1 master br0")
        router.ip("addr add 10.1.0.1/24 dev br0")
        router.ip("link set br0 up")
        router.ip("addr add 10.2.0.1/24 dev r2")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield client, router, server
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=True)

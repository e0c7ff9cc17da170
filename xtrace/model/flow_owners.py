"""Whose a flow is: what the programs found out (csrc/owner.h), and the names that user space adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from xtrace.kernel import abi
from xtrace.kernel.syscall import lib
from xtrace.model.words import Word

OWNER = abi.layout("struct flow_owner", "cgroup", "pid", "uid", "command", "kind", "role")
SOCKET_OWNER = abi.layout("struct socket_owner", "owner", "cookie")
"""The fields of an owner, and the cookie."""


class How(Word):
    """How a flow's owner is known, as records have it."""

    CREATED = "created"
    """its process created the socket"""
    LISTENED = "listened"
    """its process created the listening socket that accepted the connection; whoever uses it now"""
    HELD = "held"
    """its process had the socket open when the run began"""
    CGROUP = "cgroup"
    """the socket's control group is known, not the process"""
    KERNEL = "kernel"
    """it is the kernel's own"""
    NOT_LOCAL = "not_local"
    """forwarded: it has no socket here"""
    UNKNOWN = "unknown"


ROLES = {lib.OWNER_CREATED: How.CREATED, lib.OWNER_LISTENED: How.LISTENED, lib.OWNER_HELD: How.HELD}
KINDS = {
    lib.OWNER_UNKNOWN: How.UNKNOWN,
    lib.OWNER_LISTENER: How.UNKNOWN,
    lib.OWNER_NOT_LOCAL: How.NOT_LOCAL,
    lib.OWNER_CGROUP: How.CGROUP,
    lib.OWNER_KERNEL: How.KERNEL,
}
"""All but OWNER_SOCKET. A listening socket alone is no owner: NAT may send what is for its port elsewhere."""


class FlowOwner(NamedTuple):
    """The owner of a flow, as far as it is known."""

    how: How
    pid: int | None = None
    uid: int | None = None
    command: str | None = None
    """the name of the thread that created the socket"""
    cgroup: str | None = None
    """path below the mount; None if it is not known or removed"""
    container: str | None = None
    """64 hexadecimal digits"""
    container_name: str | None = None
    pod: str | None = None
    """uid"""
    pod_name: str | None = None
    """NAMESPACE/NAME"""
    unit: str | None = None
    """of systemd"""

    @property
    def name(self) -> str:
        """One word for a person, the most telling that is known: container, pod, unit, command, group."""
        known = (self.container_name, self.pod_name, self.container and self.container[:12], self.unit)
        return next(filter(None, (*known, self.command, self.cgroup)), str(self.how))


UNKNOWN_OWNER = FlowOwner(How.UNKNOWN)

Names = Mapping[bytes, FlowOwner]
"""By struct flow_owner, as bytes."""

"""What else is on an interface: its addresses, the programs of others at its hooks, its RDMA device."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TcOwners:
    """Programs at tc in one direction, in the order they run."""

    tcx: tuple[int, ...] | None = ()
    """program IDs; None: not known without CAP_NET_ADMIN"""
    filters: tuple[str, ...] = ()
    """names of the filters of clsact, or their kinds"""


@dataclass(frozen=True)
class Surroundings:
    """Of one interface."""

    addresses: tuple[str, ...] = ()
    tc: dict[str, TcOwners] = field(default_factory=dict)
    """by direction"""
    rdma_device: str | None = None

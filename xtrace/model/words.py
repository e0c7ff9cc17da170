"""Enums of documented words that all modes share, in output and on the command line."""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """An enum of strings, like StrEnum of Python 3.11."""

    __str__ = str.__str__


class Hook(Word):
    """The hook where a program sees packets."""

    XDP = "xdp"
    TC = "tc"


class XdpMode(Word):
    """Whether XDP runs in the driver or in the network stack."""

    NATIVE = "native"
    GENERIC = "generic"


class Absence(Word):
    """Why no program of ours is attached to a selected interface."""

    NOT_FOUND = "not_found"
    DETACHED = "detached"
    """by someone else"""
    REFUSED = "refused"
    NO_SLOT = "no_slot"


class Share(Word):
    """How the packets seen by a hook compare with those that the interface counts itself."""

    FULL = "full"
    NONE = "none"
    PARTIAL = "partial"
    REPEATED = "repeated"
    """some are seen more than once, or dropped behind the hook"""


class Direction(Word):
    """The direction in which packets cross an interface."""

    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def bit(self) -> int:
        """FLOW_EGRESS of a flow key's flags; also the direction's index among an interface's counters."""
        return int(self is Direction.EGRESS)

    @property
    def in_out(self) -> str:
        """The word in text output."""
        return "out" if self is Direction.EGRESS else "in"

    @property
    def rx_tx(self) -> str:
        """The word of ports and their counters."""
        return "tx" if self is Direction.EGRESS else "rx"


class Health(Word):
    """How bad the state of something is, best first."""

    OK = "ok"
    WARN = "warn"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 is the best."""
        return tuple(Health).index(self)

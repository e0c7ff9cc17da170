"""Which interfaces to monitor: names, globs, `any`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xtrace.kernel.rtnetlink import LinkInfo

ANY = "any"

SEEN_ALONE = frozenset({"vrf", "openvswitch"})
"""Kinds of masters whose own hooks see nothing of what their members receive."""

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Selection:
    """What -i asks for."""

    patterns: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns that are plain names, which must exist."""
        return tuple(pattern for pattern in self.patterns if not is_open(pattern))

    @property
    def is_open(self) -> bool:
        """Whether interfaces that nobody named may come."""
        return len(self.names) < len(self.patterns)

    def takes(self, link: LinkInfo) -> bool:
        """Whether the interface is asked for."""
        return any(_matches(pattern, link) for pattern in self.patterns)

    def gives_up(self, link: LinkInfo) -> bool:
        """Whether an interface that is monitored no longer should be: taken as any, it got a master."""
        return ANY in self.patterns and _is_member(link) and not self._takes_by_name(link)

    def left_out(self, links: Iterable[LinkInfo]) -> list[str]:
        """Names of bridge ports, as far as they are devices, that only `any` could mean: it leaves them out."""
        if ANY not in self.patterns:
            return []
        ports = (link for link in links if link.is_up and not link.kind and link.slave_kind == "bridge")
        return [link.name for link in ports if not self._takes_by_name(link)]

    def _takes_by_name(self, link: LinkInfo) -> bool:
        return any(_matches(pattern, link) for pattern in self.patterns if pattern != ANY)

    def nothing_chosen(self, links: Iterable[LinkInfo]) -> str:
        """Why nothing of what there is is asked for, where only `any` and globs were."""
        why = (
            ", which leaves out lo, veths, members of bonds, teams and bridges, and what is down"
            if ANY in self.patterns
            else ""
        )
        there_are = ", ".join(link.name for link in links)
        asked = ",".join(self.patterns)
        return f"no interface is meant by -i {asked}{why}: there are {there_are}; name one, as in -i eth0"

    def missing(self, links: Iterable[LinkInfo]) -> Sequence[str]:
        """Names that none of the interfaces has."""
        present = {name for link in links for name in (link.name, *link.altnames)}
        return [name for name in self.names if name not in present]


def is_open(pattern: str) -> bool:
    """Whether a pattern may stand for any number of interfaces."""
    return pattern == ANY or bool(_GLOB.search(pattern))


def _is_member(link: LinkInfo) -> bool:
    """Whether what it receives is counted at its master, too: that of a bond, team or bridge."""
    return link.master is not None and link.slave_kind not in SEEN_ALONE


def _matches(pattern: str, link: LinkInfo) -> bool:
    if pattern == ANY:
        # lo and veth are not the host's own traffic
        return link.is_up and not _is_member(link) and link.name != "lo" and link.kind != "veth"
    names = (link.name, *link.altnames)
    return pattern in names or (is_open(pattern) and any(fnmatch.fnmatchcase(name, pattern) for name in names))

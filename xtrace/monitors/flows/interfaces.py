"""Selection of interfaces: names, globs, `any`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.monitors.flows.kinds import PAIR_KINDS
from xtrace.printable import some_of

ANY = "any"

SEEN_ALONE = frozenset({"vrf", "openvswitch"})
"""Kinds of masters that do not see their members' packets at their own hooks."""

_GLOB = re.compile(r"[*?\[]")


class Selection(NamedTuple):
    """The interfaces selected by -i."""

    patterns: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns that are plain names: they must exist."""
        return tuple(pattern for pattern in self.patterns if not is_open(pattern))

    @property
    def is_open(self) -> bool:
        """Whether interfaces may match that are not named."""
        return len(self.names) < len(self.patterns)

    def takes(self, link: LinkInfo) -> bool:
        """Whether the interface is selected."""
        return any(_matches(pattern, link) for pattern in self.patterns)

    def gives_up(self, link: LinkInfo) -> bool:
        """Whether a monitored interface must be released: it matched only `any` and now has a master."""
        return ANY in self.patterns and _is_member(link) and not self._takes_by_name(link)

    def left_out(self, links: Iterable[LinkInfo]) -> list[str]:
        """Names of the bridge ports, physical devices only, that `any` excludes and no other pattern matches."""
        if ANY not in self.patterns:
            return []
        ports = (link for link in links if link.is_up and not link.kind and link.slave_kind == "bridge")
        return [link.name for link in ports if not self._takes_by_name(link)]

    def _takes_by_name(self, link: LinkInfo) -> bool:
        return any(_matches(pattern, link) for pattern in self.patterns if pattern != ANY)

    def nothing_chosen(self, links: Iterable[LinkInfo]) -> str:
        """The error where `any` and globs match nothing."""
        why = (
            ": any excludes lo, veth and netkit, members of bonds, teams and bridges, and interfaces that are down"
            if ANY in self.patterns
            else ""
        )
        available = some_of([link.name for link in links])
        return f"-i {','.join(self.patterns)} matches no interface{why} (available: {available})"

    def missing(self, links: Iterable[LinkInfo]) -> Sequence[str]:
        """Selected names that no interface has."""
        present = {name for link in links for name in (link.name, *link.altnames)}
        return [name for name in self.names if name not in present]


def is_open(pattern: str) -> bool:
    """Whether a pattern may match any number of interfaces."""
    return pattern == ANY or bool(_GLOB.search(pattern))


def _is_member(link: LinkInfo) -> bool:
    """Whether its master, a bond, team or bridge, sees its packets too."""
    return link.master is not None and link.slave_kind not in SEEN_ALONE


def _matches(pattern: str, link: LinkInfo) -> bool:
    if pattern == ANY:
        # lo, veth and netkit do not carry the host's own traffic
        return link.is_up and not _is_member(link) and link.name != "lo" and link.kind not in PAIR_KINDS
    names = (link.name, *link.altnames)
    return pattern in names or (is_open(pattern) and any(fnmatch.fnmatchcase(name, pattern) for name in names))

"""Which interfaces to monitor: names, globs, `any`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xtrace.kernel.rtnetlink import LinkInfo

ANY = "any"
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
        others = (pattern for pattern in self.patterns if pattern != ANY)
        return ANY in self.patterns and link.master is not None and not any(_matches(p, link) for p in others)

    def nothing_chosen(self, links: Iterable[LinkInfo]) -> str:
        """Why nothing of what there is is asked for, where only `any` and globs were."""
        why = ", which leaves out lo, veths, members of others and what is down" if ANY in self.patterns else ""
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


def _matches(pattern: str, link: LinkInfo) -> bool:
    if pattern == ANY:
        # members of a bond or bridge would be counted there again; lo and veth are not the host's own traffic
        return link.is_up and link.master is None and link.name != "lo" and link.kind != "veth"
    names = (link.name, *link.altnames)
    return pattern in names or (is_open(pattern) and any(fnmatch.fnmatchcase(name, pattern) for name in names))

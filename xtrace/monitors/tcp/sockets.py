"""All TCP sockets of one namespace from one reading to the next: which changed, which began, which ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.sock_diag import Samples, dump_tcp
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import ACTIVITY_WORD, COOKIE_WORD, COUNTERS, SAMPLE, SAMPLE_WORDS, Connection, Sample, growth
from xtrace.monitors.tcp.ends import End

MOST_MISSING = 65536
"""Sockets remembered that are in no dump and were not seen to end: closed by an error, still held by a process."""


@dataclass
class Changes:
    """What one reading found."""

    connections: list[Connection] = field(default_factory=list)
    """those that changed, began or ended"""
    alive: int = 0
    began: int = 0
    ended: int = 0
    closed: dict[int, tuple[int, Sample | None]] = field(default_factory=dict)
    """by address of a socket that was closed: its place among the connections, and what it is compared with"""


class Sockets:
    """Reads a namespace's sockets; the first reading is what later ones are compared with."""

    def __init__(self) -> None:
        self._now, self._before = Samples(), Samples()
        self._places: dict[int, int] = {}
        """cookie -> index into the last dump"""
        self._activity: dict[int, int] = {}
        self._missing: dict[int, Sample] = {}
        """by cookie, oldest first"""
        self._closed: dict[int, Sample] = {}
        """by address of a socket: what was counted of one that was closed and is not destroyed yet"""
        self._view = memoryview(b"")
        """of the dump before"""
        self._is_first = True

    def dump(self, netlink: NetlinkSocket) -> None:
        """Read all sockets; changes() tells what is new. Raises KernelError, and then nothing is changed."""
        self._now, self._before = self._before, self._now
        self._now.clear()
        try:
            dump_tcp(netlink, self._now)
        except BaseException:
            self._now, self._before = self._before, self._now
            raise

    def changes(self, ends: Iterable[End], *, sees_ends: bool) -> Changes:
        """Compare the dump with the one before. `ends` were read after it: what is among them lives no more."""
        words = self._now.view().cast("Q")
        places = dict(zip(words[COOKIE_WORD::SAMPLE_WORDS].tolist(), range(len(self._now)), strict=True))
        activity = words[ACTIVITY_WORD::SAMPLE_WORDS].tolist()
        found = Changes()
        self._view = self._before.view()
        for end in ends:
            self._end(end, places, found)
        for cookie in self._places.keys() - places.keys():
            if cookie in self._activity:  # not among the ends
                self._miss(cookie, found, sees_ends=sees_ends)
        view = self._now.view()
        for cookie, place in places.items():
            if self._activity.get(cookie) != activity[place]:
                self._change(cookie, Sample.unpack(view, place * SAMPLE.size), found)
        self._places = places
        self._activity = {cookie: activity[place] for cookie, place in places.items()}
        found.alive = len(places)
        if self._is_first:
            self._is_first = False
            return Changes(alive=found.alive)
        return found

    def _last(self, cookie: int) -> Sample | None:
        """The socket's sample as of the dump before, or the last one that had it."""
        place = self._places.get(cookie)
        if place is not None:
            return Sample.unpack(self._view, place * SAMPLE.size)
        return self._missing.get(cookie)

    def _change(self, cookie: int, sample: Sample, found: Changes) -> None:
        before = self._last(cookie)
        self._missing.pop(cookie, None)
        found.began += before is None
        found.connections.append(Connection(sample, before is None, growth(sample, before)))

    def _end(self, end: End, places: dict[int, int], found: Changes) -> None:
        """Count what a socket did until its end, once: closing and being destroyed may be far apart."""
        sample = end.sample
        counted = self._closed.pop(end.socket, None)
        if counted is None and _is_spare(sample):
            return
        before = self._last(sample.cookie) if sample.cookie else None
        is_counted = counted is not None and _is_same(counted, sample)
        is_new = before is None and not is_counted
        before = before or (counted if is_counted else None)
        for known in (places, self._activity, self._missing):
            known.pop(sample.cookie, None)
        self._places.pop(sample.cookie, None)
        if sample.event == lib.TCP_CLOSED:
            self._closed[end.socket] = sample
            while len(self._closed) > MOST_MISSING:
                self._closed.pop(next(iter(self._closed)))
        if not sample.remote_port and (is_new or counted is not None):
            return  # it listened, was never connected, or has been disconnected since
        if counted is not None and is_counted and sample.values == counted.values:
            return
        was_opening = sample.event == lib.TCP_CLOSED and sample.state == lib.TCP_STATE_SYN_SENT
        error = sample.error if was_opening else sample.error or None
        if is_counted and end.socket in found.closed:
            _go_on(found, end.socket, sample)
            return
        found.began += is_new and not was_opening
        found.ended += not was_opening and not is_counted
        grown = growth(sample, before)
        if sample.event == lib.TCP_CLOSED:
            found.closed[end.socket] = len(found.connections), before
        found.connections.append(Connection(sample, is_new, grown, has_ended=True, error=error, closer=end.closer))

    def _miss(self, cookie: int, found: Changes, *, sees_ends: bool) -> None:
        """A socket that is not listed any more, and was not seen to end."""
        sample = self._last(cookie)
        if sample is None:
            return
        if sees_ends:
            self._missing[cookie] = sample
            while len(self._missing) > MOST_MISSING:
                self._missing.pop(next(iter(self._missing)))
            return
        found.ended += 1
        found.connections.append(Connection(sample, False, growth(sample, sample), has_ended=True))


def _is_same(closed: Sample, later: Sample) -> bool:
    """Whether a socket that was closed is still of the same connection, and has not been connected again.

    It is closed once in each; without what forgets its counters (tcp_disconnect()) none of them becomes less.
    """
    counters = zip(closed.values[:COUNTERS], later.values[:COUNTERS], strict=True)
    return later.event == lib.TCP_DESTROYED and closed.ends == later.ends and all(now >= then for then, now in counters)


def _go_on(found: Changes, socket: int, sample: Sample) -> None:
    """What a socket did since it was closed, in the same interval, belongs to the same connection: a reset, say."""
    place, before = found.closed[socket]
    known = found.connections[place]
    sample = sample._replace(state=known.sample.state)
    found.connections[place] = known._replace(sample=sample, growth=growth(sample, before))


def _is_spare(sample: Sample) -> bool:
    """Whether this was never a connection.

    Two packets that end a handshake, on two CPUs, make a socket each. One becomes the connection; the other is
    destroyed, with the same cookie and the same repeated SYN-ACKs, before it is given a segment after the SYN
    (inet_ehash_nolisten()).
    """
    received, sent = sample.value(lib.TCP_SEGMENTS_RECEIVED), sample.value(lib.TCP_SEGMENTS_SENT)
    return sample.event == lib.TCP_DESTROYED and received is not None and received <= 1 and sent == 0

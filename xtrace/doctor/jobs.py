"""Checks of RDMA devices, of processes that use NCCL, and of the server that metrics are pushed to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from xtrace.doctor.check import Check, fail, ok, warn
from xtrace.errors import XtraceError
from xtrace.model.rdma import PortRecord

if TYPE_CHECKING:
    from xtrace.sinks.metrics.encoding import Encoding
    from xtrace.sinks.push.batch import Transport
    from xtrace.target import Target

SEARCH_S = 3.0
"""How long processes are searched for NCCL."""
MOST_NAMED = 8
LONGEST_COMMAND = 40


def rdma(ports: Sequence[PortRecord]) -> Iterator[Check]:
    """Check every RDMA port."""
    for port in ports:
        subject, info = str(port.id), port.info
        what = ", ".join(filter(None, (info.state, info.link_layer, info.rate, info.netdev, info.driver)))
        lacking = port.unavailable or port.uncounted
        if lacking:
            yield warn("rdma", f"{what}: no counters: {lacking}", "", subject)
        elif info.is_down:
            yield warn("rdma", f"not active: {what}", "check cable, subnet manager and peer", subject)
        else:
            counters = len(port.hardware) + len(port.standard)
            yield ok("rdma", f"{what}, {counters} counters", subject)


def no_rdma(error: XtraceError, wanted: bool) -> Check:
    """Return what the lack of RDMA devices means."""
    if wanted:
        return fail("rdma", str(error), "load the driver, or leave out -m rdma and -d")
    return ok("rdma", "no RDMA devices")


def nccl() -> Iterator[Check]:
    """Find processes that use NCCL, for at most SEARCH_S."""
    from xtrace.monitors.nccl.finder import Finder  # a slow import

    finder = Finder()
    finder.sweep()
    end = time.monotonic() + SEARCH_S
    while time.monotonic() < end and finder.step():
        finder.grant(1_000_000_000)
    users = [f"{user.command[:LONGEST_COMMAND]} ({user.pid})" for user in finder.users.values()]
    if users:
        more = f" and {len(users) - MOST_NAMED} more" if len(users) > MOST_NAMED else ""
        yield ok("nccl", f"used by {', '.join(users[:MOST_NAMED])}{more}")
    else:
        yield ok("nccl", "no process uses it now; those that start later are found")
    if finder.refused:
        detail = f"processes that may not be searched: {len(finder.refused)}"
        yield warn("nccl", detail, "run it with sudo, in a container with --pid host and CAP_SYS_PTRACE")


def push(target: Target, empty: Encoding, connect: Callable[[], Transport]) -> Check:
    """Send the server a request without samples, which stores nothing, in the encoding that it takes."""
    try:
        http = connect()
    except XtraceError as error:
        return fail("push", str(error), "see the cause named there", target.shown)
    try:
        body = empty.compress(empty.body())
        outcome = http.send(body, empty.headers(body))
    finally:
        http.close()
    if not outcome.delivered:
        return fail("push", outcome.reason, "start the server, or correct the URL or its credentials", target.shown)
    if outcome.doubt:
        detail = f"the answer is unusual: {outcome.doubt}"
        return warn("push", detail, "check that the URL is that of an import", target.shown)
    return ok("push", "reachable, accepts samples", target.shown)

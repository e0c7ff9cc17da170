"""Figures that documents promise are those of the code: each row is a document, and its words with the code's."""

from __future__ import annotations

from pathlib import Path

import pytest

from xtrace.model import flow_totals, nccl_ras
from xtrace.monitors import backoff
from xtrace.monitors.flows import absent, coverage, tables
from xtrace.monitors.nccl import probed, slots, sums, watcher
from xtrace.monitors.rdma import blind_spots, ports
from xtrace.report import interfaces
from xtrace.report import sums as report_sums
from xtrace.sinks.ipfix import exporter, link
from xtrace.sinks.listen import connection, pages, server
from xtrace.sinks.live import flows, history, notices, owned
from xtrace.sinks.metrics import nccl, nccl_ranks, rdma, series
from xtrace.sinks.push import acknowledged, delivery, selfcheck

DOCS = Path(__file__).parents[2] / "docs"
NS = 1_000_000_000
WORDS = {2: "two", 3: "three"}
RETRIED_S = [backoff.FIRST_PAUSE_NS // NS, 2 * backoff.FIRST_PAUSE_NS // NS]
RETRIED_MINUTES = backoff.LONGEST_PAUSE_NS // NS // 60

PROMISES = [
    ("fleet.md", f"if none has ended for {WORDS[pages.STALE_INTERVALS]} intervals and {pages.STALE_S:g} s"),
    ("fleet.md", f"A flow that is idle keeps its series, and its counters, for {series.KEPT_NS / NS / 60:g} minutes"),
    ("fleet.md", f"It keeps at most {server.MOST_CONNECTIONS} connections"),
    ("fleet.md", f"A request's head has at most {connection.MOST_HEAD} bytes (else 431) and {connection.HEAD_S:g} s"),
    ("fleet.md", f"a response has {connection.REPLY_S:g} s"),
    ("fleet.md", f"{WORDS[pages.MOST_STREAMS].capitalize()} clients may read `/flows` at a time"),
    ("fleet.md", f"up to {delivery.QUEUE_BYTES / (1 << 20):g} MiB of samples wait in memory"),
    ("fleet.md", f"removed {delivery.SPOOLED_S / 60:g} minutes after it was acknowledged"),
    ("fleet.md", f"or once {delivery.SPOOLED_BYTES / (1 << 20):g} MiB more were"),
    ("fleet.md", f"is looked for in the server, {selfcheck.VISIBLE_AFTER_S:g} s after the start"),
    ("fleet.md", f"UDP datagrams have at most {link.UDP_MESSAGE} bytes"),
    ("fleet.md", f"spread over half of an interval, at most {exporter.MOST_SPREAD_S:g} s"),
    ("fleet.md", f"Up to {exporter.QUEUE_BYTES / (1 << 20):g} MiB of flows"),
    (
        "limits.md",
        f"attached again after {absent.FIRST_PAUSE_NS / NS:g} s, then {2 * absent.FIRST_PAUSE_NS / NS:g} s, up to"
        f" {'a minute' if absent.LONGEST_PAUSE_NS == 60 * NS else absent.LONGEST_PAUSE_NS}",
    ),
    ("metrics.md", f"keeps its series until it has been idle for {series.KEPT_NS / NS / 60:g} minutes"),
    ("metrics.md", "halved for every minute since" if series.HALF_LIFE_NS == 60 * NS else "another half-life"),
    ("metrics.md", "needs more than twice that weight" if series.OUTWEIGHS == 2 else "another factor"),
    ("metrics.md", f"for up to {series.REMEMBERED} x N flows"),
    ("metrics.md", f"Beyond {flow_totals.MOST_TOTALS} combinations of the two"),
    ("metrics.md", f"communicators of {nccl.MOST_PROCESSES} processes; {nccl_ranks.MOST_RANKS} ranks"),
    ("metrics.md", f"calls of {sums.MOST_SERIES} combinations of process, function and datatype"),
    ("metrics.md", f"of a RAS service the {nccl.MOST_COMMUNICATORS} communicators in the worst state"),
    ("metrics.md", f"after {delivery.FIRST_PAUSE_S:g} to {delivery.LONGEST_PAUSE_S:g} s, or after `Retry-After`"),
    ("metrics.md", f"up to {delivery.QUEUE_BYTES / (1 << 20):g} MiB of compressed samples are queued in order"),
    ("metrics.md", "Once a minute, one sample is read back" if selfcheck.PROBE_EVERY_S == 60 else "another pace"),
    (
        "metrics.md",
        f"of the {acknowledged.KEPT_S:g} s before (at most {acknowledged.KEPT_BYTES / (1 << 20):g} MiB)",
    ),
    ("architecture.md", f"what was acknowledged in the {acknowledged.UNSURE_S:g} s before"),
    ("nccl.md", f"no new process is found; after {watcher.STUCK_NS / NS:g} s that is reported"),
    ("nccl.md", f"**More than {probed.MOST_PROBED} files** at once"),
    ("nccl.md", "was not called for a minute makes room" if slots.IDLE_NS == 60 * NS else "another time"),
    ("nccl.md", f"retried after {RETRIED_S[0]} s, {RETRIED_S[1]} s, up to {RETRIED_MINUTES} minutes"),
    ("nccl.md", f"For the first {nccl_ras.MOST_NAMED} missing ranks, and the first {nccl_ras.MOST_NAMED} of those"),
    ("rdma.md", f"retried after {RETRIED_S[0]} s, then {RETRIED_S[1]} s, up to {RETRIED_MINUTES} minutes"),
    ("rdma.md", f"If the first {WORDS[ports.GIVE_UP_AFTER]} files of a directory fail"),
    ("rdma.md", f"after {blind_spots.WINDOW_NS / NS:g} s, or after {WORDS[blind_spots.SILENT_INTERVALS]} intervals"),
    ("rdma.md", f"for the {rdma.MOST_COMMANDS} commands with the most"),
    ("output.md", f"Up to {flows.LISTED:,} flows can be scrolled through"),
    (
        "output.md",
        f"misses more than {100 * (1 - coverage.LEAST_SEEN):.3g} % over {coverage.WINDOW_NS / NS:g} s",
    ),
    ("output.md", f"with at least {coverage.LEAST_GROSS} packets each decide"),
    (
        "output.md",
        f"{report_sums.MOST_KEYS:,} keys per table, of {interfaces.MOST_DETAILED} interfaces",
    ),
    ("architecture.md", f"for up to {tables.FRAGMENT_TIME_NS / NS:g} s, and holds for the later ones"),
    ("architecture.md", f"The end waits for it for {watcher.CLOSE_S:g} s, then detaches itself"),
    ("architecture.md", f"passes on what it kept ({notices.MOST} messages)"),
    ("architecture.md", f"on pause it copies the {flows.FROZEN:,} largest flows"),
    (
        "architecture.md",
        f"History has {history.POINTS} points of at least a second for at most {history.MOST_KEYS:,} keys",
    ),
    ("architecture.md", f"Each interval begins the history of the {flows.REMEMBERED} largest flows"),
]


@pytest.mark.parametrize("document, words", PROMISES, ids=[words[:40] for _, words in PROMISES])
def test_document_has_the_figure_of_the_code(document: str, words: str) -> None:
    assert words in " ".join((DOCS / document).read_text().split())


def test_owners_are_listed_and_remembered_as_flows_are() -> None:
    from xtrace.sinks.live import owners

    assert (owned.LISTED, owners.REMEMBERED, history.SHORTEST_S) == (flows.LISTED, flows.REMEMBERED, 1.0)

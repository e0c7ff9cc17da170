"""For each alert the series of hosts where its fault is, and of hosts where it is not, the closest to it included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

STEP_S = 30
LENGTH = 361
"""Three hours."""

Values = Sequence[float | None]
"""One per step; None: no sample."""


class Series(NamedTuple):
    """A series and its values."""

    name: str
    labels: dict[str, str]
    values: Values


class Host(NamedTuple):
    """The labels and series of a host, or of one of the runs on it; and whether the alert must fire at the end."""

    labels: dict[str, str]
    series: Sequence[tuple[str, dict[str, str], Values]]
    fires: bool

    def all(self) -> list[Series]:
        """Return its series with its labels."""
        return [Series(name, {**self.labels, **labels}, values) for name, labels, values in self.series]


def steady(value: float, steps: int = LENGTH) -> Values:
    return [value] * steps


def ramp(start: float, step: float, steps: int) -> Values:
    return [start + step * number for number in range(steps)]


def then(*parts: Values) -> Values:
    """Return the parts one after the other, cut, or filled up by the last value."""
    joined = [value for part in parts for value in part][:LENGTH]
    return joined + [joined[-1]] * (LENGTH - len(joined))


def gone(steps: int = LENGTH) -> Values:
    return [None] * steps


def late(steps: int, value: float, usual: float) -> Values:
    """Return a value that is unusual in the last steps only."""
    return [*steady(usual, LENGTH - steps), *steady(value, steps)]


def bursts(value: float) -> Values:
    """Return a gauge with one sample in ten, as of flows that last an interval."""
    return [value if number % 10 == 0 else 0 for number in range(LENGTH)]


def counter(rate: float, start: float = 0.0) -> Values:
    """Return a counter that grows in the last hour only."""
    return [*steady(start, 240), *ramp(start, rate, LENGTH - 240)]


NIC, PORT = {"interface": "eth0", "direction": "ingress"}, {"device": "mlx5_0", "port": "1"}
OTHER = {**NIC, "src_ip": "other", "dst_ip": "other"}
JOB = {"pid": "7", "command": "train", "error": "6"}
BUILD = "xtrace_catch_build_info"
FLOWS = "xtrace_network_flow_bytes"
TABLE, CAPACITY = "xtrace_catch_flow_table_flows", "xtrace_catch_flow_table_capacity"
DRAIN, GRACE = "xtrace_catch_drain_seconds", "xtrace_catch_grace_period_seconds"


def simple(name: str, labels: dict[str, str], bad: Values, *good: Values) -> list[Host]:
    """Return hosts with one series each."""
    return [
        Host({"host": "bad"}, [(name, labels, bad)], True),
        *(Host({"host": f"good-{n}"}, [(name, labels, values)], False) for n, values in enumerate(good, start=1)),
    ]


def table(flows: Values) -> list[tuple[str, dict[str, str], Values]]:
    return [(TABLE, {}, flows), (CAPACITY, {}, steady(1000))]


CATCH: dict[str, list[Host]] = {
    "XtraceCatchSilent": [
        Host({"host": "bad"}, [(BUILD, {"version": "1"}, then(steady(1, 60), gone(1)))], True),
        Host({"host": "two", "run": "a"}, [(BUILD, {"version": "1"}, steady(1))], False),
        Host({"host": "two", "run": "b"}, [(BUILD, {"version": "1"}, then(steady(1, 300), gone(1)))], True),
        Host(
            {"host": "upgraded"},
            [
                (BUILD, {"version": "1"}, then(steady(1, 100), gone(1))),
                (BUILD, {"version": "2", "host_ip": "192.0.2.1"}, then(gone(101), steady(1))),
            ],
            False,
        ),
        Host({"host": "short"}, [(BUILD, {"version": "1"}, [*steady(1, LENGTH - 8), *gone(8)])], False),
    ],
    "XtraceCatchInterfaceNotMonitored": simple(
        "xtrace_catch_interfaces_unattached", {}, late(10, 1, 0), steady(0), late(3, 1, 0)
    ),
    "XtraceCatchUnattributedPackets": simple(
        "xtrace_unattributed_packets_total", NIC, counter(10), steady(0), counter(0, 500)
    ),
    "XtraceCatchFlowTableNearlyFull": [
        Host({"host": "bad"}, table(late(20, 850, 100)), True),
        Host({"host": "good-1"}, table(steady(790)), False),
        Host({"host": "good-2"}, table(late(8, 850, 100)), False),
    ],
    "XtraceCatchFewSeries": [
        Host({"host": "bad"}, [(FLOWS, OTHER, bursts(900)), (FLOWS, NIC, bursts(100))], True),
        Host({"host": "good-1"}, [(FLOWS, OTHER, bursts(400)), (FLOWS, NIC, bursts(600))], False),
        Host({"host": "good-2"}, [(FLOWS, OTHER, late(20, 900, 0)), (FLOWS, NIC, steady(600))], False),
    ],
    "XtraceCatchSamplesDropped": simple(
        "xtrace_catch_push_dropped_samples_total", {"reason": "overflow"}, counter(100), steady(0), counter(0, 100)
    ),
    "XtraceCatchPushFailing": simple("xtrace_catch_push_failures_total", {}, counter(1), counter(0.5), counter(0, 900)),
    "XtraceCatchNotStored": simple("xtrace_catch_push_stored", {}, late(6, 0, 1), steady(1), late(2, 0, 1)),
    "XtraceCatchFilesOutdated": simple("xtrace_catch_files_outdated", {}, late(12, 1, 0), steady(0), late(4, 1, 0)),
    "XtraceCatchSlowDrain": [
        Host({"host": "bad"}, [(DRAIN, {}, late(20, 0.7, 0.1)), (GRACE, {}, steady(0.4))], True),
        Host({"host": "good-1"}, [(DRAIN, {}, steady(0.5)), (GRACE, {}, steady(0.4))], False),
        Host({"host": "good-2"}, [(DRAIN, {}, late(8, 0.7, 0.1)), (GRACE, {}, steady(0.4))], False),
    ],
    "XtraceCatchMemory": simple(
        "xtrace_catch_resident_memory_bytes", {}, late(40, 260e6, 1e8), steady(240e6), late(20, 260e6, 1e8)
    ),
}

RX, TX = "xtrace_rdma_rx_packets_total", "xtrace_rdma_tx_packets_total"


def ratio(part: str, whole: str, growth: float, steps: int) -> list[tuple[str, dict[str, str], Values]]:
    """Return two counters, of which the first grows in the last steps only."""
    first = [*steady(50, LENGTH - steps), *ramp(50, growth, steps)]
    return [(part, PORT, first), (whole, PORT, ramp(1e9, 10_000, LENGTH))]


def port(available: Values, health: Values) -> list[tuple[str, dict[str, str], Values]]:
    return [("xtrace_rdma_port_available", PORT, available), ("xtrace_rdma_port_health", PORT, health)]


def port_of_host(active: Values, rails_down: Values) -> list[tuple[str, dict[str, str], Values]]:
    return [("xtrace_rdma_port_active", PORT, active), ("xtrace_rdma_rails_down", {}, rails_down)]


def until(steps: int, value: float) -> Values:
    """Return a series that ends this many steps before the end."""
    return [*steady(value, LENGTH - steps), *gone(steps)]


SINCE_START = then(gone(355), steady(3))
"""A hardware's counter, as a run finds it that began minutes ago."""

RDMA: dict[str, list[Host]] = {
    "RdmaRetriesExceeded": simple("xtrace_rdma_retry_exceeded_total", PORT, counter(1), counter(0, 7), SINCE_START),
    "RdmaLinkDowned": simple("xtrace_rdma_link_downed_total", PORT, counter(1), counter(0, 7), SINCE_START),
    "RdmaPortUnavailable": [
        Host({"host": "bad"}, port(late(20, 0, 1), late(20, 2, 0)), True),
        Host({"host": "good-1"}, port(steady(1), late(20, 2, 0)), False),
        Host({"host": "good-2"}, port(late(1, 0, 1), late(1, 2, 0)), False),
        Host({"host": "good-3"}, port(late(20, 0, 1), late(20, 1, 0)), False),
    ],
    "RdmaPortMissing": [
        Host({"host": "bad"}, port_of_host(until(50, 1), steady(0)), True),
        Host({"host": "good-1"}, port_of_host(steady(1), steady(0)), False),
        Host({"host": "good-2"}, port_of_host(until(50, 1), until(50, 0)), False),
        Host({"host": "good-3"}, port_of_host(until(50, 0), steady(0)), False),
    ],
    "RdmaPortNotJudged": [
        Host({"host": "bad"}, port(late(40, 0, 1), late(40, 1, 0)), True),
        Host({"host": "good-1"}, port(steady(1), late(40, 1, 0)), False),
        Host({"host": "good-2"}, port(late(20, 0, 1), late(20, 1, 0)), False),
    ],
    "RdmaRepeatedRequests": [
        Host({"host": "bad"}, ratio("xtrace_rdma_dup_req_total", RX, 200, 40), True),
        Host({"host": "good-1"}, ratio("xtrace_rdma_dup_req_total", RX, 50, 40), False),
        Host({"host": "good-2"}, ratio("xtrace_rdma_dup_req_total", RX, 200, 8), False),
    ],
    "RdmaAckTimeouts": simple(
        "xtrace_rdma_ack_timeout_total", PORT, counter(2), counter(0.5), then(gone(355), steady(30)), SINCE_START
    ),
    "RdmaOutOfSequence": [
        Host({"host": "bad"}, ratio("xtrace_rdma_rx_oos_total", RX, 2, 40), True),
        Host({"host": "good-1"}, ratio("xtrace_rdma_rx_oos_total", RX, 0.5, 40), False),
        Host({"host": "good-2"}, ratio("xtrace_rdma_rx_oos_total", RX, 2, 8), False),
    ],
    "RdmaCongested": [
        Host({"host": "bad"}, ratio("xtrace_rdma_cnp_rx_total", TX, 200, 60), True),
        Host({"host": "good-1"}, ratio("xtrace_rdma_cnp_rx_total", TX, 50, 60), False),
        Host({"host": "good-2"}, ratio("xtrace_rdma_cnp_rx_total", TX, 200, 16), False),
    ],
    "RdmaCounterSaturated": simple("xtrace_rdma_saturated_counters", PORT, late(4, 1, 0), steady(0)),
    "RdmaRailsUneven": simple("xtrace_rdma_rail_imbalance", {}, late(30, 1.6, 1), steady(1.4), late(16, 1.6, 1)),
    "RdmaRailIdle": simple("xtrace_rdma_rails_idle", {}, late(30, 1, 0), steady(0), late(16, 1, 0)),
}

COMMUNICATOR = {"communicator": "0x5"}
NCCL: dict[str, list[Host]] = {
    "XtraceNcclMissingRanks": simple(
        "xtrace_nccl_ras_missing_ranks", COMMUNICATOR, late(8, 1, 0), steady(0), late(2, 1, 0)
    ),
    "XtraceNcclSkew": simple("xtrace_nccl_ras_skew_calls", COMMUNICATOR, late(20, 3, 0), steady(2), late(8, 3, 0)),
    "XtraceNcclAsyncErrors": [
        *simple("xtrace_nccl_async_errors_total", JOB, counter(1), counter(0, 1)),
        Host({"host": "new"}, [("xtrace_nccl_async_errors_total", JOB, then(gone(355), steady(1)))], True),
    ],
    "XtraceNcclAsyncErrorRanks": simple("xtrace_nccl_ras_async_error_ranks", COMMUNICATOR, late(4, 2, 0), steady(0)),
    "XtraceNcclErrors": [
        *simple("xtrace_nccl_errors_total", JOB, counter(1), counter(0, 1)),
        Host({"host": "new"}, [("xtrace_nccl_errors_total", JOB, then(gone(355), steady(1)))], True),
    ],
    "XtraceNcclUnattributedCalls": simple(
        "xtrace_nccl_unattributed_calls_total", {}, counter(3), steady(0), counter(0, 500)
    ),
    "XtraceNcclRasSilent": simple("xtrace_nccl_ras_up", {}, late(20, 0, 1), steady(1), late(8, 0, 1)),
}


def part(
    name: str, of: str, labels: dict[str, str], grows: float, all_grow: float, steps: int = 60
) -> list[tuple[str, dict[str, str], Values]]:
    """Return both counters, which grow so per step; the first one in the last steps only."""
    return [
        (name, labels, [*steady(7, LENGTH - steps), *ramp(7, grows, steps)]),
        (of, labels, ramp(1e6, all_grow, LENGTH)),
    ]


def share_of_data(name: str, of: str, labels: dict[str, str]) -> list[Host]:
    """Return hosts of an alert on more than 2 % of the data, and one packet per second, for 10 minutes."""
    return [
        Host({"host": "bad"}, part(name, of, labels, 300, 10_000), True),
        Host({"host": "good-1"}, part(name, of, labels, 150, 10_000), False),
        Host({"host": "good-2"}, part(name, of, labels, 20, 100), False),
        Host({"host": "good-3"}, part(name, of, labels, 300, 10_000, steps=8), False),
    ]


WIRE = {"interface": "eth0"}
PATH_DATA = "xtrace_tcp_path_data_packets_total"


REFUSED, ABANDONED = {"reason": "refused"}, {"reason": "abandoned"}

TCP: dict[str, list[Host]] = {
    "XtraceTcpRetransmissions": share_of_data(
        "xtrace_tcp_retransmitted_packets_total", "xtrace_tcp_data_segments_sent_total", {}
    ),
    "XtraceTcpConnectsFail": [
        *simple("xtrace_tcp_failed_connects_total", REFUSED, counter(40), counter(20), counter(0, 500)),
        Host({"host": "impatient"}, [("xtrace_tcp_failed_connects_total", ABANDONED, counter(40))], False),
    ],
    "XtraceTcpPathRetransmissions": share_of_data("xtrace_tcp_path_retransmitted_packets_total", PATH_DATA, WIRE),
    "XtraceTcpPathLate": share_of_data("xtrace_tcp_path_late_packets_total", PATH_DATA, WIRE),
    "XtraceTcpPathRefused": simple(
        "xtrace_tcp_path_refused_total", WIRE, counter(40), counter(20), counter(0, 500), late(8, 900, 0)
    ),
    "XtraceTcpPathNoRoom": simple(
        "xtrace_tcp_path_no_room_packets_total", WIRE, counter(2), steady(0), counter(0, 500), late(6, 900, 0)
    ),
}

CASES = {"xtrace-catch.yml": CATCH, "rdma.yml": RDMA, "xtrace-nccl.yml": NCCL, "xtrace-tcp.yml": TCP}
"""By file."""


def hosts(cases: dict[str, list[Host]]) -> list[tuple[str, Host]]:
    """Return all hosts with their alert; names of hosts begin with the alert's, so that no two are one."""
    return [
        (alert, host._replace(labels={**host.labels, "host": f"{alert}-{host.labels['host']}"}))
        for alert, of_alert in cases.items()
        for host in of_alert
    ]


def firing(cases: dict[str, list[Host]]) -> set[tuple[str, str, str]]:
    """Return alert, host and run of all that must fire."""
    return {(alert, host.labels["host"], host.labels.get("run", "")) for alert, host in hosts(cases) if host.fires}

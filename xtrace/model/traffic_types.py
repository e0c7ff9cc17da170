"""Types of traffic: what packets are by protocol and port (csrc/traffic_type.h)."""

from __future__ import annotations

from xtrace.kernel import abi
from xtrace.kernel.syscall import lib

TRAFFIC_TYPES = abi.names(
    {
        lib.TRAFFIC_TCP: "TCP",
        lib.TRAFFIC_UDP: "UDP",
        lib.TRAFFIC_ICMP: "ICMP",
        lib.TRAFFIC_SCTP: "SCTP",
        lib.TRAFFIC_ROCE_V2: "RoCE_v2",
        lib.TRAFFIC_ROCE_V1_IBOE: "RoCE_v1_IBoE",
        lib.TRAFFIC_ARP: "ARP",
        lib.TRAFFIC_OTHER: "Other",
    },
    lib.TRAFFIC_TYPES,
)
"""Names in the order of enum traffic_type (csrc/flow.h)."""

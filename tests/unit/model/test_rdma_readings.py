"""Widths of counters, as the specification and the drivers have them."""

from __future__ import annotations

import pytest

from xtrace.model.rdma_readings import MLX5_WIDE, OCTETS, STICKY_BITS, WORDS, WRAPS_AT

PORT_COUNTERS = {
    4: {"local_link_integrity_errors", "excessive_buffer_overrun_errors"},
    8: {"link_error_recovery", "link_downed", "port_xmit_constraint_errors", "port_rcv_constraint_errors"},
    16: {
        "symbol_error",
        "port_rcv_errors",
        "port_rcv_remote_physical_errors",
        "port_rcv_switch_relay_errors",
        "port_xmit_discards",
        "VL15_dropped",
    },
    32: {"port_xmit_data", "port_rcv_data", "port_xmit_packets", "port_rcv_packets", "port_xmit_wait"},
}
"""InfiniBand Architecture Specification, volume 1, table PortCounters: bits of each."""


@pytest.mark.parametrize("bits", PORT_COUNTERS)
def test_counters_of_a_port_have_the_specifications_width(bits: int) -> None:
    assert {name for name, width in STICKY_BITS.items() if width == bits} == PORT_COUNTERS[bits]


def test_no_counter_has_another_width() -> None:
    assert set(STICKY_BITS.values()) == set(PORT_COUNTERS)
    assert (WRAPS_AT, OCTETS) == (1 << 32, 4)
    assert frozenset({"port_xmit_data", "port_rcv_data"}) == WORDS


def test_wide_counters_of_mlx5_are_those_of_its_congestion_control_and_of_all_rdma() -> None:
    for start in ("cc_rx_", "cc_tx_", "rdma_rx_", "rdma_tx_", "np_", "rp_cnp_"):
        assert any(name.startswith(start) for name in MLX5_WIDE)
    assert not {"out_of_sequence", "packet_seq_err", "duplicate_request", "local_ack_timeout_err"} & MLX5_WIDE

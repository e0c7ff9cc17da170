"""What readings become: wraps, resets, saturation; names common to all drivers."""

from __future__ import annotations

import pytest

from tests.unit.make_rdma import grew, port, traffic
from xtrace.model.rdma import Reading
from xtrace.model.rdma_counters import FIGURES, OUTGOING, Source, direction_of, figures
from xtrace.model.rdma_readings import (
    ALL_ONES,
    MOST,
    SLACK_NS,
    Track,
    impossible,
    is_gauge,
    most_growth,
    saturates_at,
    wraps,
)
from xtrace.model.words import Direction

U32 = 1 << 32


def follow(*values: int, wrapping: bool = False, maximum: int | None = None) -> list[Reading]:
    track = Track()
    return [track.read(value, wrapping=wrapping, maximum=maximum) for value in values]


def test_first_reading_is_a_total_without_growth() -> None:
    assert follow(7) == [Reading(7, None, "first")]


def test_growth_is_the_difference() -> None:
    assert follow(7, 7, 19)[1:] == [Reading(7, 0, "ok"), Reading(19, 12, "ok")]


def test_32_bit_counter_that_wraps_goes_on_and_its_total_with_it() -> None:
    _, wrapped, after = follow(U32 - 10, 5, 6, wrapping=True)
    assert wrapped == Reading(U32 + 5, 15, "wrapped")
    assert after == Reading(U32 + 6, 1, "ok")


def test_total_grows_over_two_wraps() -> None:
    totals = [reading.total for reading in follow(U32 - 1, 1, U32 // 2, U32 - 1, 0, wrapping=True)]
    assert totals == [U32 - 1, U32 + 1, U32 + U32 // 2, 2 * U32 - 1, 2 * U32]


def test_32_bit_counter_that_shrinks_from_the_middle_was_reset() -> None:
    assert follow(1000, 5, 6, wrapping=True)[1:] == [Reading(5, None, "reset"), Reading(6, 1, "ok")]


def test_64_bit_counter_that_shrinks_was_reset_wherever_it_stood() -> None:
    assert follow(U32 - 10, 5)[1] == Reading(5, None, "reset")


def test_reset_after_a_wrap_starts_the_total_again() -> None:
    assert follow(U32 - 1, 1, 0, wrapping=True)[2] == Reading(0, None, "reset")


def test_counter_at_its_maximum_is_saturated_and_no_longer_counts() -> None:
    assert follow(250, 255, 255, maximum=255)[1:] == [Reading(255, 5, "saturated"), Reading(255, None, "saturated")]


def test_counter_found_at_its_maximum_is_saturated() -> None:
    assert follow(15, maximum=15) == [Reading(15, None, "saturated")]


def test_saturated_counter_that_was_cleared_is_a_reset() -> None:
    assert follow(255, 3, maximum=255)[1] == Reading(3, None, "reset")


def after_a_gap(*values: int, wrapping: bool = False, maximum: int | None = None) -> list[Reading]:
    """Readings of the values; between the first and the second it could not be read for two intervals."""
    track = Track()
    first, *others = values
    readings = [track.read(first, wrapping=wrapping, maximum=maximum)]
    for _ in range(2):
        assert track.missed("EINVAL") == Reading(None, None, "unavailable", "EINVAL")
    return [*readings, *(track.read(value, wrapping=wrapping, maximum=maximum) for value in others)]


def test_growth_during_failed_reads_is_in_the_total_and_in_no_interval() -> None:
    assert after_a_gap(10, 14, 15)[1:] == [Reading(14, None, "first"), Reading(15, 1, "ok")]


def test_wrap_during_failed_reads_is_in_the_total() -> None:
    _, back, after = after_a_gap(U32 - 10, 5, 6, wrapping=True)
    assert back == Reading(U32 + 5, None, "first")
    assert after == Reading(U32 + 6, 1, "ok")


def test_reset_and_saturation_during_failed_reads_are_reported() -> None:
    assert after_a_gap(10, 4)[1] == Reading(4, None, "reset")
    assert after_a_gap(10, 255, maximum=255)[1] == Reading(255, None, "saturated")


def test_wider_counter_does_not_wrap() -> None:
    assert follow(9_000_000_000, 0, 7, wrapping=True)[1:] == [Reading(0, None, "reset"), Reading(7, 7, "ok")]


@pytest.mark.parametrize(
    "name, maximum",
    [("symbol_error", 65535), ("link_downed", 255), ("local_link_integrity_errors", 15), ("port_xmit_wait", U32 - 1)],
)
def test_widths_of_the_infiniband_specification(name: str, maximum: int) -> None:
    assert saturates_at(name) == maximum


def test_only_mlx5s_q_counters_wrap() -> None:
    assert wraps("mlx5_core", "local_ack_timeout_err")
    assert not wraps("mlx5_core", "np_cnp_sent")
    assert not wraps("bnxt_en", "local_ack_timeout_err")
    assert not wraps(None, "local_ack_timeout_err")


def test_mlx4s_diagnostic_counters_that_shrink_are_a_reset() -> None:
    assert not wraps("mlx4_core", "rq_num_oos")


def test_levels_are_no_counters() -> None:
    assert is_gauge("active_qps") and is_gauge("watermark_qps") and not is_gauge("rx_pkts")


@pytest.mark.parametrize(
    "last, value, delta",
    [
        (U32 - 1, 0, 1),
        (U32 // 2 + 1, 0, U32 // 2 - 1),  # the longest way that is taken for a wrap
        (U32 // 2, 0, None),
        (U32 - 1, U32 // 2 - 2, U32 // 2 - 1),
        (U32 - 1, U32 // 2 - 1, None),
    ],
)
def test_decrease_is_a_wrap_up_to_half_of_all_values(last: int, value: int, delta: int | None) -> None:
    reading = follow(last, value, wrapping=True)[1]
    expected = Reading(value, None, "reset") if delta is None else Reading(U32 + value, delta, "wrapped")
    assert reading == expected


def test_total_after_a_wrap_and_a_reset_excludes_the_wrap() -> None:
    readings = follow(U32 - 1, U32 // 4, 5, 9, wrapping=True)
    assert readings[1].total == U32 + U32 // 4
    assert readings[2:] == [Reading(5, None, "reset"), Reading(9, 4, "ok")]


@pytest.mark.parametrize(
    "kind, name, value, why",
    [
        ("hw", "rx_bytes", ALL_ONES, "all ones: the driver does not count it"),
        ("eth", "rx_prio3_pause", ALL_ONES, "all ones: the driver does not count it"),
        ("hw", "rx_bytes", ALL_ONES - 4, f"{ALL_ONES - 4}: not a possible count"),
        ("hw", "rx_bytes", -1, "-1: not a possible count"),
        ("hw", "rx_bytes", MOST, ""),
        ("std", "port_rcv_data", 1 << 62, f"{1 << 62}: not a possible count"),
        ("std", "port_rcv_data", 1 << 60, ""),
        ("std", "port_rcv_packets", 1 << 62, ""),
        ("std", "symbol_error", 65536, "65536: more than the counter's 16 bits"),
        ("std", "symbol_error", 65535, ""),
        ("std", "link_downed", 256, "256: more than the counter's 8 bits"),
        ("hw", "link_downed", 256, ""),
        ("std", "port_xmit_wait", U32, ""),  # extended counters have 64 bits
        ("hw", "out_of_sequence", U32 - 1, ""),  # where 32 bits wrap this is a count like any other
    ],
)
def test_impossible_values(kind: str, name: str, value: int, why: str) -> None:
    assert impossible(kind, name, value) == why


def doubting(*values: int, most: int = 1000) -> list[Reading]:
    track = Track()
    return [track.read(value, most=most) for value in values]


def test_impossible_growth_is_unavailable_and_the_next_value_continues_from_before() -> None:
    _, odd, back, after = doubting(100, 5_000_000, 150, 160)
    assert odd == Reading(None, None, "unavailable", "grew by 4999900: more than 4 times the line rate")
    assert (back, after) == (Reading(150, None, "first"), Reading(160, 10, "ok"))


def test_largest_possible_growth_is_accepted() -> None:
    assert doubting(100, 1100)[1] == Reading(1100, 1000, "ok")
    assert doubting(100, 1101)[1].status == "unavailable"


def test_impossible_growth_to_a_value_that_stays_is_a_reset() -> None:
    _, odd, stays, after = doubting(100, 5_000_000, 5_000_100, 5_000_101)
    assert odd.status == "unavailable"
    assert (stays, after) == (Reading(5_000_100, None, "reset"), Reading(5_000_101, 1, "ok"))


def test_erratic_impossible_values_stay_unavailable() -> None:
    assert [reading.status for reading in doubting(1, 10**9, 10**12, 10**6, 10**15)[1:]] == ["unavailable"] * 4


def test_growth_over_a_gap_is_not_limited() -> None:
    track = Track()
    track.read(1, most=10)
    track.missed("EIO")
    assert track.read(1000, most=10) == Reading(1000, None, "first")


def test_growth_is_limited_by_the_line_rate_or_by_the_fastest_if_unknown() -> None:
    second = 10**9
    assert most_growth(100 * 10**9, "mlx5_core", 5 * second) == 4 * 12_500_000_000 * 6, "and a second of slack"
    assert most_growth(100 * 10**9, "mlx5_core", -SLACK_NS) == 0
    for rate, driver in ((None, "mlx5_core"), (2_500_000_000, "rdma_rxe"), (100 * 10**9, "efa"), (10**9, None)):
        assert most_growth(rate, driver, 0) == 4 * 200_000_000_000


def test_figure_beyond_what_hardware_counts_is_unavailable() -> None:
    half = MOST // 2 + 1
    found = figures({"ip4InOctets": grew(3, half), "ip6InOctets": grew(4, half)}, {})["rx_bytes"].reading
    assert (found.total, found.delta, found.status) == (None, None, "unavailable")
    assert found.reason == f"{2 * half}: not a possible count"


def test_share_refers_to_packets_of_the_events_direction() -> None:
    """What happens to sent packets is a share of those."""
    events = {"out_of_sequence": grew(5), "packet_seq_err": grew(5)}
    record = port(events, traffic(4, 4, rx_packets=1000, tx_packets=10))
    assert (direction_of("rx_oos"), direction_of("seq_nak_rx")) == (Direction.INGRESS, Direction.EGRESS)
    shares = {name: record.per_million(name, direction_of(name)) for name in ("rx_oos", "seq_nak_rx")}
    assert shares == {"rx_oos": 5_000, "seq_nak_rx": 500_000}
    sent = {"cnp_rx", "cnp_ignored", "seq_nak_rx", "ack_timeout", "implied_nak", "rnr_rx", "retry_exceeded", "retrans"}
    assert sent == OUTGOING


NAMES = {
    "mlx5": ({"rp_cnp_handled": "cnp_rx", "np_cnp_sent": "cnp_tx", "out_of_sequence": "rx_oos",
              "local_ack_timeout_err": "ack_timeout", "req_transport_retries_exceeded": "retry_exceeded"}),
    "bnxt_re, old": ({"rx_bytes": "rx_bytes", "tx_pkts": "tx_packets", "to_retransmits": "ack_timeout",
                      "rx_cnp_pkts": "cnp_rx", "oos_drop_count": "rx_oos", "seq_err_naks_rcvd": "seq_nak_rx",
                      "dup_req": "dup_req", "missing_resp": "implied_nak", "rnr_naks_rcvd": "rnr_rx"}),
    "bnxt_re, new": ({"local_ack_timeout_err": "ack_timeout", "np_cnp_pkts": "cnp_tx", "rp_cnp_handled": "cnp_rx",
                      "duplicate_request": "dup_req", "max_retry_exceeded": "retry_exceeded"}),
    "irdma": ({"cnpHandled": "cnp_rx", "cnpSent": "cnp_tx", "RxECNMrkd": "ecn_rx", "RNR received": "rnr_rx",
               "tcpRetransSegs": "retrans", "RTO": "ack_timeout"}),
    "efa": ({"tx_bytes": "tx_bytes", "retrans_timeout_events": "ack_timeout", "rx_drops": "no_rx_wqe",
             "unresponsive_remote_events": "retry_exceeded"}),
    "hns": ({"rx_pkt": "rx_packets", "tx_cnp_pkt": "cnp_tx", "rx_cnp_pkt": "cnp_rx"}),
    "efa, of the device": ({"cmds_err": "command_errors"}),
    "ionic": ({"rx_rdma_ucast_bytes": "rx_bytes", "tx_rdma_ucast_bytes": "tx_bytes", "rx_rdma_ucast_pkts": "rx_packets",
               "tx_rdma_ucast_pkts": "tx_packets", "rx_rdma_cnp_pkts": "cnp_rx", "tx_rdma_cnp_pkts": "cnp_tx",
               "rx_rdma_ecn_pkts": "ecn_rx", "resp_rx_outouf_seq": "rx_oos", "req_rx_pkt_seq_err": "seq_nak_rx",
               "tx_rdma_ack_timeout": "ack_timeout", "req_rx_impl_nak_seq_err": "implied_nak",
               "req_rx_rnr_retry_err": "rnr_rx", "req_tx_retry_excd_err": "retry_exceeded",
               "resp_rx_dup_request": "dup_req", "resp_rx_outof_buf": "no_rx_wqe", "tx_rdma_retx_pkts": "retrans"}),
    "rxe": ({"rcvd_pkts": "rx_packets", "completer_retry_err": "ack_timeout", "rcvd_seq_err": "seq_nak_rx",
             "out_of_seq_request": "rx_oos", "link_downed": "link_downed"}),
}  # fmt: skip


@pytest.mark.parametrize("driver", NAMES)
def test_drivers_names_old_and_new_become_the_same(driver: str) -> None:
    hardware = {name: grew(index + 1) for index, name in enumerate(NAMES[driver])}
    found = figures(hardware, {})
    assert {figure.names[0]: name for name, figure in found.items()} == NAMES[driver]
    assert all(figure.reading == hardware[figure.names[0]] for figure in found.values())


def test_data_is_counted_in_words_of_four_bytes() -> None:
    assert figures({}, {"port_rcv_data": grew(10, 100)})["rx_bytes"].reading == Reading(400, 40, "ok")


def test_counters_of_both_address_families_are_added() -> None:
    found = figures({"ip4InOctets": grew(3, 30), "ip6InOctets": grew(4, 40)}, {})["rx_bytes"]
    assert (found.reading, found.names) == (Reading(70, 7, "ok"), ("ip4InOctets", "ip6InOctets"))


def test_sum_with_an_unavailable_part_is_unavailable_and_not_the_rest() -> None:
    gone = Reading(None, None, "unavailable", "EINVAL")
    assert figures({"ip4InOctets": grew(3), "ip6InOctets": gone}, {})["rx_bytes"].reading == gone


def test_second_source_is_used_if_the_first_cannot_be_read() -> None:
    gone = Reading(None, None, "unavailable", "not a number: N/A (no PMA)")
    assert figures({"rx_bytes": grew(3)}, {"port_rcv_data": gone})["rx_bytes"].reading.delta == 3


def test_figure_keeps_to_the_counter_it_was_first_read_from() -> None:
    kept: dict[str, Source] = {}
    gone = Reading(None, None, "unavailable", "EIO")
    other = {"rdma_rx_bytes": grew(9)}
    readings = [
        figures(other, {"port_rcv_data": reading}, kept)["rx_bytes"].reading
        for reading in (gone, grew(1), gone, grew(2))
    ]
    assert readings == [grew(9)] * 4, "the standard one could not be read at first"
    kept.clear()
    readings = [figures(other, {"port_rcv_data": reading}, kept)["rx_bytes"].reading for reading in (grew(1, 10), gone)]
    assert readings == [Reading(40, 4, "ok"), gone]


def test_sum_is_unavailable_when_a_part_of_it_goes() -> None:
    kept: dict[str, Source] = {}
    figures({"ip4InOctets": grew(3), "ip6InOctets": grew(4)}, {}, kept)
    found = figures({"ip4InOctets": grew(3)}, {}, kept)["rx_bytes"]
    assert (found.reading.total, found.reading.status) == (None, "unavailable")
    assert found.reading.reason == "the driver no longer has it"


def test_figure_that_the_driver_does_not_count_is_absent() -> None:
    assert "rx_bytes" not in figures({"rcvd_pkts": grew(3)}, {})
    assert port({"rcvd_pkts": grew(3)}).delta("rx_bytes") is None


def test_every_vendor_name_belongs_to_one_figure() -> None:
    seen: dict[tuple[str, str], str] = {}
    for figure, sources in FIGURES.items():
        for source in sources:
            for name in source.names:
                assert seen.setdefault((source.set, name), figure) == figure


def test_rates_and_share_of_the_line_rate() -> None:
    record = port(standard=traffic(62_500_000_000, 0))
    assert record.bit_rate(Direction.INGRESS) == 100e9
    assert record.share(Direction.INGRESS) == 1.0
    assert record.bit_rate(Direction.EGRESS) == 0


def test_rate_without_an_interval_is_not_known() -> None:
    assert port(standard=traffic(4, 4), interval_ns=None).bit_rate(Direction.INGRESS) is None
    assert port(standard=traffic(4, 4), rate_bps=None).share(Direction.INGRESS) is None


def test_share_per_million_packets_is_not_known_without_packets() -> None:
    some, none = (port({"out_of_sequence": grew(5)}, traffic(4, 4, rx_packets=packets)) for packets in (1000, 0))
    assert some.per_million("rx_oos", Direction.INGRESS) == 5000
    assert none.per_million("rx_oos", Direction.INGRESS) is None


@pytest.mark.parametrize("total, is_possible", [((1 << 63) - 1, True), (1 << 63, False)])
def test_figure_beyond_63_bits_is_no_count(total: int, is_possible: bool) -> None:
    reading = figures({}, {"port_rcv_packets": Reading(total, 0, "ok")})["rx_packets"].reading
    assert reading == (
        Reading(total, 0, "ok") if is_possible else Reading(None, None, "unavailable", f"{total}: not a possible count")
    )

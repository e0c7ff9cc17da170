"""Health of ports and rails, and its reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.make import NS
from tests.unit.make_rdma import grew, port, traffic
from xtrace.errors import UsageError
from xtrace.model.limits import Limit, changed
from xtrace.model.rdma import PortId, PortRecord, Reading
from xtrace.model.rdma_health import judge, rails
from xtrace.model.rdma_limits import LIMITS


def parse_limits(text: str) -> dict[str, Limit]:
    return changed(LIMITS, text, "--threshold")


def verdict(record: PortRecord, threshold: str = "", was_active: bool = False) -> tuple[str, tuple[str, ...]]:
    judged = judge(record, parse_limits(threshold), was_active)
    return judged.health, judged.reasons


def test_port_without_events_is_ok() -> None:
    assert verdict(port({"local_ack_timeout_err": grew(0)}, traffic(4, 4))) == ("ok", ())


def test_reason_has_words_count_and_interval() -> None:
    assert verdict(port({"local_ack_timeout_err": grew(3)})) == ("warn", ("local ACK timeouts 3 in 5 s",))
    assert verdict(port({"local_ack_timeout_err": grew(12)})) == ("critical", ("local ACK timeouts 12 in 5 s",))


def test_verdict_does_not_depend_on_the_interval() -> None:
    assert verdict(port({"local_ack_timeout_err": grew(36)}, interval_ns=60 * NS))[0] == "warn"


def test_one_exceeded_retry_is_critical() -> None:
    reasons = ("transport retries exceeded 1 in 5 s",)
    assert verdict(port({"req_transport_retries_exceeded": grew(1)})) == ("critical", reasons)


def test_loss_is_judged_by_its_share_of_the_packets() -> None:
    few = port({"out_of_sequence": grew(50)}, traffic(4, 4, rx_packets=1_000_000))
    assert verdict(few) == ("ok", ())
    many = port({"out_of_sequence": grew(50)}, traffic(4, 4, rx_packets=100_000))
    assert verdict(many) == ("warn", ("packets out of sequence 50 in 5 s (500 per million packets)",))


def test_loss_without_a_count_of_packets_is_not_overlooked() -> None:
    assert verdict(port({"out_of_sequence": grew(10)}))[0] == "critical"


@pytest.mark.parametrize("packets", [0, 9, 300])
def test_share_of_packets_is_judged_from_ten_events_on(packets: int) -> None:
    """A few events among few packets are a large share and no trend, unless a threshold is 0."""
    few, enough = (port({"out_of_sequence": grew(n)}, traffic(4, 4, rx_packets=packets)) for n in (9, 10))
    assert (verdict(few)[0], verdict(enough)[0]) == ("ok", "critical")
    assert judge(few, parse_limits("rx_oos=0"), False).health == "warn"
    assert judge(few, parse_limits("rx_oos=0:0"), False).health == "critical"
    assert judge(few, parse_limits("rx_oos=1:2"), False).health == "ok"


def test_saturated_counter_is_worth_a_warning() -> None:
    health, reasons = verdict(port(standard={"symbol_error": Reading(65535, None, "saturated")}))
    assert (health, reasons) == ("warn", ("symbol_error saturated at 65535: reset it to count again",))


def test_port_that_was_never_active_is_worth_a_warning_and_one_that_lost_its_link_is_critical() -> None:
    down = port(state="DOWN")
    assert verdict(down) == ("warn", ("port DOWN, link LINK_UP",))
    assert verdict(down, was_active=True) == ("critical", ("port DOWN, link LINK_UP, was ACTIVE",))


def test_unavailable_port_is_critical() -> None:
    assert verdict(port(unavailable="counters: EINVAL")) == ("critical", ("unavailable: counters: EINVAL",))


def test_paused_time_is_a_share_of_the_interval() -> None:
    paused = port(ethernet={"rx_prio3_pause_duration": grew(500_000)})
    assert verdict(paused) == ("warn", ("rx_prio3_pause: 10 % of the time paused",))
    assert verdict(paused, "paused=5:8")[0] == "critical"


def test_worst_reason_comes_first() -> None:
    record = port({"local_ack_timeout_err": grew(1), "req_transport_retries_exceeded": grew(1)})
    assert [reason.split()[0] for reason in verdict(record)[1]] == ["transport", "local"]


def test_thresholds_can_be_set_and_switched_off() -> None:
    record = port({"local_ack_timeout_err": grew(3)})
    assert verdict(record, "ack_timeout=100")[0] == "ok"
    assert verdict(record, "ack_timeout=0:1")[0] == "critical"
    assert verdict(record, "ack_timeout=off")[0] == "ok"
    assert parse_limits("rx_oos=5")["ack_timeout"] == LIMITS["ack_timeout"]


NOT_A_NUMBER = "is not a number (use 0 or more, or off)"


@pytest.mark.parametrize(
    "text, why",
    [
        ("timeouts=5", "--threshold: unknown threshold 'timeouts' (available: retry_exceeded, "),
        ("ack_timeout", "--threshold: 'ack_timeout' is not NAME=WARN[:CRITICAL] (for example ack_timeout=10:100)"),
        ("ack_timeout=", f"--threshold: ack_timeout=: '' {NOT_A_NUMBER}"),
        ("ack_timeout=-1", f"--threshold: ack_timeout=-1: '-1' {NOT_A_NUMBER}"),
        ("ack_timeout=nan", f"--threshold: ack_timeout=nan: 'nan' {NOT_A_NUMBER}"),
        ("ack_timeout=1:many", f"--threshold: ack_timeout=1:many: 'many' {NOT_A_NUMBER}"),
        ("ack_timeout=10:5", "--threshold: ack_timeout=10:5: critical is below warn (give the lower number first)"),
        ("idle=1,idle=2", "--threshold: idle is given twice (give it once)"),
    ],
)
def test_wrong_threshold_is_refused_with_its_name(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_limits(text)
    assert str(caught.value).startswith(why)


def rail(name: str, size: int, state: str = "ACTIVE") -> PortRecord:
    return port(standard=traffic(size, 0), where=PortId(name, 1), state=state)


def test_imbalance_is_the_busiest_rail_by_the_mean() -> None:
    found = rails([rail("mlx5_0", 4000), rail("mlx5_1", 4000), rail("mlx5_2", 8000), rail("mlx5_3", 0)], LIMITS)
    assert (found.ports, found.imbalance, found.idle) == (4, 2.0, (PortId("mlx5_3", 1),))
    assert found.health == "warn"
    assert found.reasons == (
        "2.00 times the mean on the busiest port",
        "1 active ports without traffic while others had some: mlx5_3/1",
    )


def test_rails_that_are_down_do_not_count() -> None:
    found = rails([rail("mlx5_0", 4000), rail("mlx5_1", 4000), rail("mlx5_2", 0, "DOWN")], LIMITS)
    assert (found.ports, found.imbalance, found.down, found.health) == (2, 1.0, (PortId("mlx5_2", 1),), "ok")


def test_silent_or_single_rail_has_no_imbalance() -> None:
    assert rails([rail("mlx5_0", 0), rail("mlx5_1", 0)], LIMITS).imbalance is None
    assert rails([rail("mlx5_0", 4000)], LIMITS).imbalance is None


def test_packets_are_compared_where_not_every_driver_counts_bytes() -> None:
    software = port({"rcvd_pkts": grew(300), "sent_pkts": grew(0)}, where=PortId("rxe0", 1))
    hardware = port(standard=traffic(4000, 0, rx_packets=100, tx_packets=0))
    assert rails([software, hardware], LIMITS).imbalance == 1.5


def on(driver: str | None, record: PortRecord) -> PortRecord:
    return replace(record, info=replace(record.info, driver=driver))


@pytest.mark.parametrize(
    "figure, counter, level",
    [
        ("dup_req", "duplicate_request", "critical"),
        ("rx_oos", "out_of_sequence", "critical"),
        ("implied_nak", "implied_nak_seq_err", "critical"),
        ("seq_nak_rx", "packet_seq_err", "critical"),
        ("rnr_rx", "rnr_nak_retry_err", "critical"),
        ("no_rx_wqe", "out_of_buffer", "critical"),
        ("retrans", "retrans_pkts", "critical"),
        ("cnp_rx", "rp_cnp_handled", "warn"),
    ],
)
def test_errors_for_a_quarter_of_the_packets_are_never_ok(figure: str, counter: str, level: str) -> None:
    record = port({counter: grew(258_649)}, traffic(4, 4, rx_packets=1_000_000, tx_packets=1_000_000))
    health, (reason,) = verdict(record)
    assert health == level and "258649 in 5 s (258649 per million packets)" in reason
    assert figure in LIMITS


@pytest.mark.parametrize(
    "counter",
    ["port_rcv_constraint_errors", "local_link_integrity_errors", "excessive_buffer_overrun_errors", "symbol_error"],
)
def test_errors_of_the_link_are_worth_a_warning(counter: str) -> None:
    assert verdict(port(standard={counter: grew(1)}))[0] == "warn"  # 12 a minute
    assert verdict(port(standard={counter: grew(1)}, interval_ns=10 * NS))[0] == "ok"


def test_failed_commands_of_the_device_and_wrong_checksums_are_worth_a_warning() -> None:
    assert verdict(port({"cmds_err": grew(1)})) == ("warn", ("failed device commands 1 in 5 s",))
    assert verdict(port({"rx_icrc_encapsulated": grew(1)}))[0] == "warn"


def test_reason_explains_a_counter_that_differs_from_its_figure() -> None:
    soft = on("rdma_rxe", port({"completer_retry_err": grew(12)}))
    reason = "local ACK timeouts 12 in 5 s: rxe counts every retry here, including those after a NAK"
    assert verdict(soft) == ("critical", (reason,))
    repeated = on("rdma_rxe", port({"duplicate_request": grew(10), "rcvd_pkts": grew(2000)}))
    reason = "repeated requests received 10 in 5 s (5000 per million packets): the remote side repeated them: a"
    assert verdict(repeated) == ("warn", (f"{reason} response was lost or late",))
    efa = on("efa", port({"unresponsive_remote_events": grew(1)}))
    assert "not retries" in verdict(efa)[1][0]
    assert ":" not in verdict(on(None, port({"completer_retry_err": grew(12)})))[1][0]


@pytest.mark.parametrize("name", ["duplicate_request", "dup_req", "resp_rx_dup_request"])
def test_repeated_requests_are_explained_whatever_the_driver_calls_them(name: str) -> None:
    _, (reason,) = verdict(port({name: grew(100), "rcvd_pkts": grew(2000)}))
    assert reason.endswith(": the remote side repeated them: a response was lost or late")


@pytest.mark.parametrize(
    "driver, counter, words",
    [
        ("efa", "unresponsive_remote_events", "efa counts unresponsive remote hosts here, not retries"),
        ("efa", "rx_drops", "efa counts packets dropped for any reason here"),
        ("mlx5_core", "roce_adp_retrans", "mlx5 counts only retransmissions by its adaptive timer"),
    ],
)
def test_what_a_drivers_counter_means_is_said(driver: str, counter: str, words: str) -> None:
    _, (reason,) = verdict(on(driver, port({counter: grew(100_000)})))
    assert reason.endswith(f": {words}")
    assert words not in str(verdict(on("other", port({counter: grew(100_000)}))))


def test_time_waited_to_send_is_no_alarm() -> None:
    full = Reading((1 << 32) - 1, None, "saturated")
    assert verdict(port(standard={"port_xmit_wait": full})) == ("ok", ())
    assert verdict(port(standard={"port_xmit_wait": grew(4_000_000_000)})) == ("ok", ())


@pytest.mark.parametrize("events, level", [(0, "ok"), (1, "warn"), (5, "warn"), (6, "critical")])
def test_value_at_the_limit_is_not_above_it(events: int, level: str) -> None:
    """ack_timeout: critical above 60 a minute, which are five in five seconds."""
    assert verdict(port({"local_ack_timeout_err": grew(events)}))[0] == level


@pytest.mark.parametrize("events, level", [(100, "ok"), (101, "warn"), (10_000, "warn"), (10_001, "critical")])
def test_share_at_the_limit_is_not_above_it(events: int, level: str) -> None:
    assert verdict(port({"out_of_sequence": grew(events)}, traffic(4, 4, rx_packets=1_000_000)))[0] == level


@pytest.mark.parametrize("state", ["INIT", "ARMED", "NOP", "ACTIVE_DEFER"])
def test_port_in_transition_to_active_is_a_warning(state: str) -> None:
    assert verdict(port(state=state)) == ("warn", (f"port {state}, link LINK_UP",))
    found = rails([rail("mlx5_0", 4000), rail("mlx5_1", 4000), rail("mlx5_2", 0, state)], LIMITS)
    assert (found.ports, found.idle, found.down) == (2, (), (PortId("mlx5_2", 1),))


def test_unreadable_or_gone_rail_is_critical_and_not_idle() -> None:
    lost = port(where=PortId("mlx5_2", 1), unavailable="counters: EINVAL")
    gone = replace(lost, id=PortId("mlx5_3", 1), info=replace(lost.info, state=None), gone=True)
    found = rails([rail("mlx5_0", 10_000), rail("mlx5_1", 6_000), lost, gone], LIMITS)
    assert (found.ports, found.imbalance, found.idle) == (2, 1.25, ()), "by bytes, which all that are left count"
    assert found.unavailable == (PortId("mlx5_2", 1), PortId("mlx5_3", 1)) and found.down == (PortId("mlx5_3", 1),)
    assert (found.health, found.reasons) == ("critical", ("2 ports gone or unreadable: mlx5_2/1, mlx5_3/1",))


def test_all_rails_gone_is_critical() -> None:
    gone = replace(port(unavailable="the RDMA device is gone"), gone=True)
    assert rails([gone], LIMITS).health == "critical"


def test_port_whose_state_or_traffic_is_not_known_is_no_rail() -> None:
    stateless = rail("mlx5_1", 4000)
    stateless = replace(stateless, info=replace(stateless.info, state=None))
    found = rails([rail("mlx5_0", 4000), stateless, port(where=PortId("mlx5_2", 1))], LIMITS)
    assert (found.ports, found.imbalance, found.idle, found.down) == (1, None, (), ())


@pytest.mark.parametrize("state", ["ACTIVE", "DOWN"])
def test_virtual_function_without_traffic_is_not_a_rail(state: str) -> None:
    waiting, busy = rail("mlx5_2", 0, state), rail("mlx5_3", 4000)
    functions = [replace(record, info=replace(record.info, is_function=True)) for record in (waiting, busy)]
    found = rails([rail("mlx5_0", 4000), rail("mlx5_1", 4000), *functions], LIMITS)
    assert (found.ports, found.imbalance, found.idle, found.down, found.health) == (3, 1.0, (), (), "ok")
    gone = replace(functions[0], gone=True, unavailable="the RDMA device is gone")
    assert rails([rail("mlx5_0", 4000), gone], LIMITS).health == "critical"


def test_worst_reason_comes_first_whatever_is_looked_at_first() -> None:
    """The state is judged before the counts, and a port that was never up only warns."""
    found = judge(
        port({"local_ack_timeout_err": grew(1)}, {"link_downed": grew(3)}, state="DOWN"), LIMITS, was_active=False
    )
    assert found.health == "critical"
    assert [reason.partition(" ")[0] for reason in found.reasons] == ["link", "port", "local"]


def test_virtual_function_of_which_nothing_is_known_waits_for_a_guest() -> None:
    idle = port(state="DOWN", where=PortId("mlx5_2", 1))
    function = replace(idle, info=replace(idle.info, is_function=True))
    one = port(standard=traffic(4, 4))
    assert rails([one, function], LIMITS).down == ()
    assert rails([one, idle], LIMITS).down == (PortId("mlx5_2", 1),)
    busy = port(standard=traffic(4, 4), state="DOWN", where=PortId("mlx5_2", 1))
    assert rails([one, replace(busy, info=function.info)], LIMITS).down == (PortId("mlx5_2", 1),)

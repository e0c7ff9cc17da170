"""Every packet is counted exactly once: under floods from all CPUs, with a full table, with every fallback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from tests.netns.load import FLOOD_FRAME, flood
from tests.netns.tool import (
    CPUS,
    FLOOD_PACKETS,
    XDP_ON_FAR0,
    running,
    started,
    tc_started,
    total,
    xdp_mode,
)
from tests.support.net import assert_sums_close, of_type, veth_pair
from xtrace.kernel.syscall import lib

SMALL_FLOOD = FLOOD_PACKETS // 10


def caught_flood(
    wanted: int, nets: Sequence[int], flows: int, *arguments: str, features_off: str = ""
) -> tuple[list[dict[str, Any]], list[str]]:
    """Records and stderr of a run under a flood, which were compared with what the interface received."""
    with veth_pair(addresses=False, queues=len(CPUS)) as pair:
        variables = {"XTRACE_FEATURES_OFF": features_off}
        with running(pair.far, *XDP_ON_FAR0, "-t", "100", *arguments, variables=variables) as tool:
            flood(pair, wanted, nets, flows)
            result = tool.stop()
        received = pair.far.statistics("far0")["packets"]
    assert result.code == 0, result.said
    lines = result.records
    assert_sums_close(lines)
    assert received >= wanted
    assert total(lines) == received
    assert total(lines, "bytes") == received * FLOOD_FRAME
    return lines, result.said


def names(lines: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What names each flow record within a run: its interval and its key."""
    return [(flow["ts"], flow["src_ip"], flow["src_port"], flow["dst_ip"], flow["dst_port"]) for flow in lines]


@pytest.mark.parametrize(
    ("nets", "flows"), [((1, 2), 512), ((1, 1), 1024)], ids=["flows of its own on each CPU", "the same flows on all"]
)
def test_a_flood_from_all_cpus_over_1024_flows_is_counted_to_the_packet_and_byte(
    nets: Sequence[int], flows: int
) -> None:
    lines, said = caught_flood(FLOOD_PACKETS, nets, flows)
    assert said == started()
    assert total(lines, "unattributed_packets") == 0
    seen = of_type(lines, "flow")
    assert len({flow["src_ip"] for flow in seen}) == flows * len(set(nets[: len(CPUS)]))
    assert len(set(names(seen))) == len(seen), "a flow came twice in one interval"
    busy = [record for record in of_type(lines, "interface") if record["packets"]]
    assert len(busy) > 1, "the flood was not drained while it lasted"
    assert all(record["hook"] == "xdp" and record["xdp_mode"] == "native" for record in busy)


def test_a_flood_of_the_same_16384_flows_on_all_cpus_goes_past_the_front_cache_and_is_counted_exactly() -> None:
    """Nearly every packet reaches the shared table, and in every interval the CPUs race to insert each flow."""
    lines, said = caught_flood(FLOOD_PACKETS, (1, 1), 1 << 14, "--top", "10")
    assert said == started()
    assert total(lines, "unattributed_packets") == 0
    # all of them, where an interval is long enough for all
    assert 4 * lib.FRONT_CACHE_ENTRIES < max(record["flows"] for record in of_type(lines, "interface")) <= 1 << 14


def test_a_full_table_counts_the_packets_of_flows_without_room_as_unattributed() -> None:
    lines, said = caught_flood(FLOOD_PACKETS, (1, 2), 512, "--max-flows", "500")
    assert said == started()
    intervals = of_type(lines, "interface")
    assert max(record["flows"] for record in intervals) == 500
    assert total(lines, "unattributed_packets") > 0
    for record in intervals:
        by_type = [entry["packets"] for entry in record["unattributed"] if entry["traffic_type"] == "UDP"]
        assert sum(by_type) == record["unattributed_packets"]


@pytest.mark.parametrize("off", ["frags", "percpu_batch", "btf", "btf,frags,percpu_batch"])
def test_without_a_kernel_feature_a_flood_is_counted_as_exactly(off: str) -> None:
    lines, said = caught_flood(SMALL_FLOOD, (1, 2), 512, features_off=off)
    how = "native" if "frags" in off else xdp_mode("native")
    assert said == started(how)
    assert not set(lines[0]["features"]) & set(off.split(","))


def test_the_end_record_adds_up_all_intervals() -> None:
    lines, _ = caught_flood(SMALL_FLOOD, (1, 2), 512, "--max-flows", "500")
    (end,) = of_type(lines, "end")
    assert lines[-1] == end
    assert end["intervals"] == len(of_type(lines, "interface"))
    (far0,) = end["interfaces"]
    for field in ("packets", "bytes", "unattributed_packets", "unattributed_bytes", "filtered_packets"):
        assert far0[field] == total(lines, field)


def test_the_floods_of_these_tests_reach_the_packet_program_on_all_cpus_at_once() -> None:
    wanted = {"1", "2"} & set(map(str, range(1, 1 + len(CPUS))))
    senders: list[set[str]] = []
    for _ in range(10):  # on a busy or emulated machine the senders may take turns
        lines, _ = caught_flood(SMALL_FLOOD, (1, 2), 512)
        senders = [
            {flow["src_ip"].split(".")[1] for flow in of_type(lines, "flow") if flow["ts"] == record["ts"]}
            for record in of_type(lines, "interface")
        ]
        if wanted in senders:
            break
    assert wanted in senders


@pytest.mark.parametrize(("max_flows", "features_off"), [(65536, ""), (500, ""), (65536, "tcx")])
def test_a_flood_is_counted_as_exactly_at_tc(max_flows: int, features_off: str) -> None:
    with veth_pair(addresses=False, queues=len(CPUS)) as pair:
        # a veth takes such frames with XDP or GRO only
        pair.far.run(sys.executable, "-m", "tests.netns.offloads", "far0", "on")
        options = ("-i", "far0", "-t", "100", "--hook", "tc", "--max-flows", str(max_flows))
        with running(pair.far, *options, variables={"XTRACE_FEATURES_OFF": features_off}) as tool:
            flood(pair, SMALL_FLOOD)
            result = tool.stop()
        received = pair.far.statistics("far0")["packets"]
    assert (result.code, result.said) == (0, tc_started("far0", "ingress", how="clsact" if features_off else None))
    lines = result.records
    assert_sums_close(lines)
    assert (total(lines), total(lines, "bytes")) == (received, received * FLOOD_FRAME)
    assert received >= SMALL_FLOOD
    assert (total(lines, "unattributed_packets") > 0) == (max_flows == 500)

"""Programs of others at tc: they keep their place and their verdict, and ours counts beside them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.netns.tool import (
    LIMIT_S,
    bounded,
    eventually,
    flows,
    running,
    tc_filters,
    tc_started,
    tc_way,
    tcx_programs,
    total,
)
from tests.support.net import Namespace, Pair, assert_sums_close, quiet_pair, read_until

GO_ON, PASS, DROP = -1, 0, 2
"""TCX_NEXT, TC_ACT_OK, TC_ACT_SHOT, which is TCX_DROP too"""

OPTIONS = ("-i", "far0", "-t", "1h", "--hook", "tc", "--direction", "both")
WITHOUT_TCX = {"XTRACE_FEATURES_OFF": "tcx"}


@contextmanager
def other_program(namespace: Namespace, direction: str, verdict: int) -> Iterator[int]:
    """Another TCX program on far0, behind those that are there; its id."""
    command = (sys.executable, "-m", "tests.netns.tcx", "attach", "far0", direction, str(verdict))
    before = tcx_programs(namespace, "far0")
    with bounded(namespace.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as holder:
        read_until(holder.stdout, b"attached")
        (program,) = set(tcx_programs(namespace, "far0")) - set(before)
        yield program


def add_filter(namespace: Namespace, direction: str, verdict: int) -> None:
    """A filter by iproute2 that decides about every packet."""
    if "clsact" not in namespace.run("tc", "qdisc", "show", "dev", "far0"):
        namespace.run("tc", "qdisc", "add", "dev", "far0", "clsact")
    where = ("dev", "far0", direction, "protocol", "all", "prio", "10")
    namespace.run("tc", "filter", "add", *where, "bpf", "bytecode", f"1,6 0 0 {verdict}", "direct-action")


def answers(pair: Pair) -> bool:
    """Whether far0 answers three requests."""
    command = pair.near.command("ping", "-q", "-c3", "-i0.01", "-W1", "10.0.0.2")
    return subprocess.run(command, capture_output=True, timeout=LIMIT_S).returncode == 0


def requests(lines: list[dict[str, Any]], direction: str = "ingress") -> int:
    """How many echo requests, or at egress answers, were counted."""
    kind = {"ingress": 8, "egress": 0}[direction]
    return sum(flow["packets"] for flow in flows(lines, direction=direction, icmp_type=kind))


needs_tcx = pytest.mark.usefixtures("tcx")


@pytest.fixture
def tcx() -> None:
    if tc_way() != "tcx":
        pytest.skip("TCX links are of Linux 6.6")


@needs_tcx
@pytest.mark.parametrize(("verdict", "passes"), [(GO_ON, True), (DROP, False)])
@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_a_tcx_program_of_others_keeps_its_verdict_and_ours_counts_in_either_order(
    first: str, verdict: int, passes: bool
) -> None:
    with quiet_pair() as pair:
        if first == "theirs":
            with other_program(pair.far, "ingress", verdict) as theirs, running(pair.far, *OPTIONS, programs=2) as tool:
                assert tcx_programs(pair.far, "far0")[1] == theirs, "theirs is not behind ours"
                assert answers(pair) == passes
                result = tool.stop()
                assert tcx_programs(pair.far, "far0") == [theirs]
        else:
            with running(pair.far, *OPTIONS, programs=2) as tool, other_program(pair.far, "ingress", verdict):
                assert answers(pair) == passes
                result = tool.stop()
    assert result.said == tc_started("far0", "ingress", "egress")
    assert_sums_close(result.records)
    assert requests(result.records) == 3
    assert requests(result.records, "egress") == (3 if passes else 0)


@pytest.mark.parametrize(("verdict", "passes"), [(PASS, True), (DROP, False)])
@pytest.mark.parametrize("first", ["theirs", "ours"])
@pytest.mark.parametrize("variables", [None, WITHOUT_TCX], ids=["tcx", "clsact"])
def test_a_filter_by_iproute2_keeps_its_verdict_and_ours_counts_before_it(
    variables: dict[str, str] | None, first: str, verdict: int, passes: bool
) -> None:
    with quiet_pair() as pair:
        if first == "theirs":
            add_filter(pair.far, "ingress", verdict)
        with running(pair.far, *OPTIONS, programs=2, variables=variables) as tool:
            if first == "ours":
                add_filter(pair.far, "ingress", verdict)
            assert answers(pair) == passes
            result = tool.stop()
        (left,) = tc_filters(pair.far, "far0", "ingress")
        assert left["pref"] == 10
    how = "clsact" if variables else None
    assert (result.code, result.said) == (0, tc_started("far0", "ingress", "egress", how=how))
    assert_sums_close(result.records)
    assert requests(result.records) == 3
    assert requests(result.records, "egress") == (3 if passes else 0)


def test_what_a_filter_by_iproute2_refuses_at_egress_was_counted_before() -> None:
    """What leaves is what the host sends: at tc, before anybody drops it."""
    with quiet_pair() as pair:
        add_filter(pair.far, "egress", DROP)
        with running(pair.far, *OPTIONS, programs=2) as tool:
            sent = pair.far.statistics("far0", "tx")["packets"]
            assert not answers(pair)
            lines = tool.stop().records
            assert pair.far.statistics("far0", "tx")["packets"] == sent
    assert (requests(lines), requests(lines, "egress")) == (3, 3)


@pytest.mark.parametrize("variables", [None, WITHOUT_TCX], ids=["tcx", "clsact"])
def test_two_instances_at_tc_count_the_same(variables: dict[str, str] | None) -> None:
    with quiet_pair() as pair:
        with (
            running(pair.far, *OPTIONS, programs=2, variables=variables) as one,
            running(pair.far, *OPTIONS, programs=2, variables=variables) as other,
        ):
            assert answers(pair)
            results = one.stop(), other.stop()
        assert eventually(lambda: not tcx_programs(pair.far, "far0"))
    for result in results:
        assert result.code == 0
        assert_sums_close(result.records)
        assert total(result.records, direction="ingress") == total(result.records, direction="egress") == 3

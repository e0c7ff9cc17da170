"""Recorded RoCE traffic, sent into an interface again, is shown as what was recorded (tests/fixtures/roce)."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import pytest

from tests.kernel.test_roce import TRUTH, by_opcode_and_queue_pair, frames_of, opcodes_in_truth
from tests.netns.load import send_frames
from tests.netns.tool import flows, running, total
from tests.support.net import assert_sums_close, quiet_pair
from xtrace.model.flow import PacketCount

HOOKS = pytest.mark.parametrize(
    "options", [("--hook", "xdp"), ("--hook", "tc"), ("--xdp-mode", "generic")], ids=["XDP", "tc", "generic"]
)
KERNELS = [kernel for kernel, _ in groupby(TRUTH, lambda name: name.partition("/")[0])]


@HOOKS
@pytest.mark.parametrize("kernel", KERNELS)
def test_replayed_captures_have_their_packets_by_opcode_and_destination_queue_pair(
    kernel: str, options: tuple[str, ...]
) -> None:
    names = [name for name in TRUTH if name.startswith(f"{kernel}/")]
    frames = [frame for name in names for frame in frames_of(name)]
    with quiet_pair(mtu=9000) as pair, running(pair.far, "-i", "far0", "-t", "1h", *options) as tool:
        send_frames(pair.near, "near0", frames)
        result = tool.stop()
    assert result.code == 0
    assert_sums_close(result.records)
    assert (total(result.records), total(result.records, "bytes")) == (len(frames), sum(map(len, frames)))
    shown = flows(result.records, traffic_type="RoCE_v2")
    by_pair: dict[tuple[int, int], PacketCount] = {}
    by_opcode: Counter[int] = Counter()
    for flow in shown:
        pair_of_flow = (flow["opcode"], flow["dst_qpn"])
        count = PacketCount(flow["packets"], flow["bytes"])
        by_pair[pair_of_flow] = by_pair.get(pair_of_flow, PacketCount(0, 0)) + count
        by_opcode[flow["opcode"]] += flow["packets"]
    assert by_pair == by_opcode_and_queue_pair(frames)
    assert by_opcode == sum((opcodes_in_truth(name) for name in names), Counter())

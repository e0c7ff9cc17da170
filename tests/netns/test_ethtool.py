"""Driver statistics by our ioctl, against ethtool's."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.net import veth_pair

SHOW = """
import sys
from xtrace.kernel import ethtool
names = ethtool.statistics_names(sys.argv[1])
for name, value in zip(names, ethtool.statistics(sys.argv[1], len(names))):
    print(f"{name}: {value}")
"""

TOO_SMALL = """
import errno, os, struct, sys
from xtrace.kernel.syscall import ffi, lib
from xtrace.kernel import ethtool
count = len(ethtool.statistics_names(sys.argv[1]))
for command, entry, header in ((ethtool.ETHTOOL_GSTRINGS, 32, (1, 0)), (ethtool.ETHTOOL_GSTATS, 8, (0,))):
    head = struct.pack(f"={1 + len(header)}I", command, *header)  # a count of 0: old kernels and new tell all there is
    for room in (0, 1, count // 2, count - 1):
        request = bytearray(head + bytes(room * entry))
        before = bytes(request)
        result = lib.xt_ethtool(os.fsencode(sys.argv[1]), ffi.from_buffer(request), len(request))
        assert (result, bytes(request)) == (-errno.EFAULT, before), (command, room, result)
    request = bytearray(head + bytes(count * entry))
    assert lib.xt_ethtool(os.fsencode(sys.argv[1]), ffi.from_buffer(request), len(request)) == 0
print("bounded", count)
"""

READ_AGAIN = """
import sys
from xtrace.kernel import ethtool
names = ethtool.statistics_names(sys.argv[1])
print(len(names), flush=True)
sys.stdin.readline()  # queues come
assert ethtool.statistics(sys.argv[1], len(names)) is None
names = ethtool.statistics_names(sys.argv[1])
print(len(names), len(ethtool.statistics(sys.argv[1], len(names))))
"""


def test_answer_that_is_longer_than_its_buffer_ends_there() -> None:
    with veth_pair(addresses=False) as pair:
        said = pair.far.run(sys.executable, "-c", TOO_SMALL, pair.far_if)
    assert said.startswith("bounded ") and int(said.split()[1]) > 3


def test_queues_that_come_between_two_readings_are_noticed() -> None:
    with veth_pair(addresses=False, queues=2) as pair:
        pair.far.run("ethtool", "-L", pair.far_if, "rx", "1")
        reader = pair.far.start(
            sys.executable, "-c", READ_AGAIN, pair.far_if, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert reader.stdin and reader.stdout
        before = int(reader.stdout.readline())
        pair.far.run("ethtool", "-L", pair.far_if, "rx", "2")
        after, _ = reader.communicate(b"go\n", timeout=30)
    assert reader.returncode == 0
    names, values = map(int, after.split())
    assert names == values > before


def test_statistics_are_those_that_ethtool_shows() -> None:
    with veth_pair(addresses=False) as pair:
        ours = pair.far.run(sys.executable, "-c", SHOW, pair.far_if)
        theirs = pair.far.run("ethtool", "-S", pair.far_if)
    shown = re.findall(r"^\s+(\S.*: \d+)$", theirs, re.MULTILINE)
    assert ours.splitlines() == shown
    assert len(shown) > 3

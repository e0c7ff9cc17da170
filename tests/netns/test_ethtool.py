"""Driver statistics by our ioctl, against ethtool's."""

from __future__ import annotations

import re
import sys

from tests.support.net import veth_pair

SHOW = """
import sys
from xtrace.kernel import ethtool
names = ethtool.statistics_names(sys.argv[1])
for name, value in zip(names, ethtool.statistics(sys.argv[1], len(names))):
    print(f"{name}: {value}")
"""


def test_statistics_are_those_that_ethtool_shows() -> None:
    with veth_pair(addresses=False) as pair:
        ours = pair.far.run(sys.executable, "-c", SHOW, pair.far_if)
        theirs = pair.far.run("ethtool", "-S", pair.far_if)
    shown = re.findall(r"^\s+(\S.*: \d+)$", theirs, re.MULTILINE)
    assert ours.splitlines() == shown
    assert len(shown) > 3

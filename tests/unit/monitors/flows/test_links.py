"""Look-ups that fail are unknown answers, and end nothing."""

from __future__ import annotations

from typing import cast

import pytest

from xtrace.errors import KernelError
from xtrace.kernel import rtnetlink, tc
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.kernel.tc import RootQdisc
from xtrace.monitors.flows.links import Links

ETH0 = LinkInfo(index=4, name="eth0", flags=1, link_type=1)
SOCKET = cast("NetlinkSocket", object())


@pytest.fixture
def links() -> Links:
    return Links(SOCKET)


def test_answers_are_the_kernels(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    def one(socket: object, wanted: int | str) -> LinkInfo | None:
        assert socket is SOCKET
        return ETH0 if wanted in (4, "eth0") else None

    monkeypatch.setattr(rtnetlink, "link", one)
    monkeypatch.setattr(rtnetlink, "links", lambda socket: [ETH0])
    monkeypatch.setattr(tc, "root_qdiscs", lambda socket: {4: RootQdisc("fq", 1, 2)})
    assert (links.look_up(4), links.look_up(5), links.all()) == (ETH0, None, [ETH0])
    assert (links.is_missing("eth0"), links.is_missing("eth1")) == (False, True)
    assert links.queues() == {4: RootQdisc("fq", 1, 2)}


def test_failures_are_unknown_answers(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """An interface that cannot be asked about is not missing: nothing is said that is not known."""

    def fail(*_: object) -> None:
        raise KernelError("RTM_GETLINK", 105)

    for module, name in ((rtnetlink, "link"), (rtnetlink, "links"), (tc, "root_qdiscs")):
        monkeypatch.setattr(module, name, fail)
    assert links.look_up(4) is None
    assert links.is_missing("eth0") is False
    assert links.queues() == {}
    with pytest.raises(KernelError):
        links.all()

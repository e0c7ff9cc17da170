"""What stands on every record and series: host, address, labels."""

from __future__ import annotations

from types import TracebackType

import pytest

from xtrace.errors import KernelError
from xtrace.kernel import routes
from xtrace.kernel.routes import DefaultRoute
from xtrace.sinks import identity as identity_module
from xtrace.sinks.identity import Identity, source_address


class FakeSocket:
    def __init__(self, protocol: int) -> None:
        assert protocol == 0, "NETLINK_ROUTE"

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        pass


def test_what_is_known_is_in_records_and_series_in_one_order() -> None:
    identity = Identity("n1", "192.0.2.1", "agg", (("rack", "r1"), ("row", "7")))
    assert list(identity.record().items()) == [
        ("host", "n1"),
        ("host_ip", "192.0.2.1"),
        ("collect_agg", "agg"),
        ("labels", {"rack": "r1", "row": "7"}),
    ]
    assert identity.series() == (
        ("host", "n1"),
        ("host_ip", "192.0.2.1"),
        ("collect_agg", "agg"),
        ("rack", "r1"),
        ("row", "7"),
    )


def test_what_is_unknown_is_left_out() -> None:
    assert Identity("n1").record() == {"host": "n1"}
    assert Identity("n1", "").series() == (("host", "n1"),)


def test_bytes_that_are_no_text_are_replaced() -> None:
    identity = Identity("n\udcff", labels=(("a", "\udcff"),))
    assert identity.record() == {"host": "n\ufffd", "labels": {"a": "\ufffd"}}
    assert identity.series() == (("host", "n\ufffd"), ("a", "\ufffd"))


@pytest.mark.parametrize(
    "route, address", [(DefaultRoute(2, "192.0.2.7", "192.0.2.1"), "192.0.2.7"), (None, None)], ids=["route", "none"]
)
def test_address_is_the_source_of_the_default_route(
    monkeypatch: pytest.MonkeyPatch, route: DefaultRoute | None, address: str | None
) -> None:
    monkeypatch.setattr(identity_module, "NetlinkSocket", FakeSocket)
    monkeypatch.setattr(routes, "default_route", lambda socket: route)
    assert source_address() == address


def test_kernel_that_does_not_tell_its_routes_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(socket: object) -> None:
        raise KernelError("RTM_GETROUTE", 1)

    monkeypatch.setattr(identity_module, "NetlinkSocket", FakeSocket)
    monkeypatch.setattr(routes, "default_route", refuse)
    assert source_address() is None

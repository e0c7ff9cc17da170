"""Which interfaces -i takes: names, globs, any."""

from __future__ import annotations

import pytest

from xtrace.kernel.rtnetlink import IFF_UP, LinkInfo
from xtrace.monitors.flows.interfaces import Selection


def test_a_host_with_thousands_of_interfaces_does_not_fill_the_screen_with_their_names() -> None:
    links = [link(f"veth{number}", kind="veth") for number in range(1000)]
    said = Selection(("eth*",)).nothing_chosen(links)
    assert said.endswith("veth30, veth31, and 968 more)")
    assert said.count("veth") == 32
    assert Selection(("eth*",)).nothing_chosen(links[:32]).endswith("veth30, veth31)")


def link(name: str, *, up: bool = True, kind: str = "", master: int | None = None, link_type: int = 1) -> LinkInfo:
    return LinkInfo(index=2, name=name, flags=IFF_UP if up else 0, link_type=link_type, kind=kind, master=master)


HOST = [
    link("lo", link_type=772),
    link("eth0"),
    link("eth1", up=False),
    link("eth10"),
    link("bond0", kind="bond"),
    link("ens1", master=5),
    link("br0", kind="bridge"),
    link("tap0", kind="tun", master=7),
    link("tun0", kind="tun", link_type=65534),
    link("veth1a2b", kind="veth"),
    link("nk0", kind="netkit"),
    link("ibs8f0", link_type=32),
    link("eth0.7", kind="vlan"),
]


def taken(*patterns: str) -> list[str]:
    return [found.name for found in HOST if Selection(patterns).takes(found)]


def test_any_is_every_interface_that_is_up_except_lo_veth_netkit_and_members() -> None:
    assert taken("any") == ["eth0", "eth10", "bond0", "br0", "tun0", "ibs8f0", "eth0.7"]


def test_any_takes_an_interface_once_it_goes_up() -> None:
    selection = Selection(("any",))
    assert not selection.takes(link("eth9", up=False))
    assert selection.takes(link("eth9"))


@pytest.mark.parametrize("name", ["lo", "eth1", "ens1", "veth1a2b", "nk0", "tap0"])
def test_what_any_leaves_out_is_taken_by_name(name: str) -> None:
    assert taken(name) == [name]
    assert name in taken("any", name)


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("eth*", ["eth0", "eth1", "eth10", "eth0.7"]),
        ("eth?", ["eth0", "eth1"]),
        ("eth[02-9]", ["eth0"]),
        ("*0", ["eth0", "eth10", "bond0", "br0", "tap0", "tun0", "nk0", "ibs8f0"]),
        ("ETH*", []),
        ("veth*", ["veth1a2b"]),
        ("wlan*", []),
    ],
)
def test_glob_takes_every_name_it_matches_up_or_not(pattern: str, names: list[str]) -> None:
    assert taken(pattern) == names


def test_several_patterns_take_what_any_of_them_takes() -> None:
    assert taken("lo", "br*", "eth1") == ["lo", "eth1", "br0"]


@pytest.mark.parametrize("name", ["eth", "eth00", "0", ""])
def test_name_is_not_taken_for_a_part_of_another(name: str) -> None:
    assert taken(name) == []


def test_names_that_no_interface_has_are_missing_in_the_order_they_were_named() -> None:
    assert Selection(("eth9", "eth0", "wlan*", "any", "eth7")).missing(HOST) == ["eth9", "eth7"]
    assert Selection(("eth0", "lo")).missing(HOST) == []
    assert Selection(("eth0",)).missing([]) == ["eth0"]


@pytest.mark.parametrize(
    "patterns, is_open",
    [
        (("eth0",), False),
        (("eth0", "eth1"), False),
        (("any",), True),
        (("eth0", "any"), True),
        (("eth*",), True),
        (("eth?",), True),
        (("eth[0]",), True),
        (("anyone",), False),
    ],
)
def test_number_of_interfaces_is_open_with_any_and_globs_only(patterns: tuple[str, ...], is_open: bool) -> None:
    assert Selection(patterns).is_open is is_open


@pytest.mark.parametrize(
    "patterns, master, gives_up",
    [
        (("any",), 9, True),
        (("any",), None, False),
        (("any", "eth0"), 9, False),
        (("any", "eth*"), 9, False),
        (("any", "wlan*"), 9, True),
        (("eth0",), 9, False),
        (("eth*",), 9, False),
    ],
)
def test_interface_that_only_any_took_is_given_up_when_it_becomes_a_member_of_another(
    patterns: tuple[str, ...], master: int | None, gives_up: bool
) -> None:
    assert Selection(patterns).gives_up(link("eth0", master=master)) is gives_up


@pytest.mark.parametrize("kind, seen_alone", [("vrf", True), ("openvswitch", True), ("bond", False), ("bridge", False)])
def test_member_is_taken_by_any_where_its_master_does_not_see_its_packets(kind: str, seen_alone: bool) -> None:
    member = link("eth0", master=9)._replace(slave_kind=kind)
    assert Selection(("any",)).takes(member) is seen_alone
    assert Selection(("any",)).gives_up(member) is not seen_alone


def test_interface_that_any_took_is_kept_while_it_is_down() -> None:
    assert not Selection(("any",)).gives_up(link("eth0", up=False))


@pytest.mark.parametrize("pattern", ["enp*", "eth*", "enx*", "eth0", "enp1s0"])
def test_one_matching_name_of_several_is_enough(pattern: str) -> None:
    assert Selection((pattern,)).takes(link("eth0")._replace(altnames=("enp1s0", "enx02")))


def test_without_any_no_bridge_port_is_left_out() -> None:
    port = link("eth1", master=9)._replace(slave_kind="bridge")
    assert Selection(("eth*",)).left_out([port]) == []
    assert Selection(("any",)).left_out([port]) == ["eth1"]

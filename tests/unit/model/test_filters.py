"""Filters: what the options mean, how the kernel is told, and how a mistake is said."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest

from tests.unit.make import packed
from xtrace.errors import UsageError
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.filters import TYPES, Filters, describe, network_key, parse_networks, parse_ports, parse_types
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.monitors.flows.tables import load_object_spec


@pytest.mark.parametrize(
    "text, types",
    [
        ("tcp", {"TCP"}),
        ("udp", {"UDP"}),
        ("icmp", {"ICMP"}),
        ("sctp", {"SCTP"}),
        ("roce_v1", {"RoCE_v1_IBoE"}),
        ("roce_v2", {"RoCE_v2"}),
        ("roce", {"RoCE_v1_IBoE", "RoCE_v2"}),
        ("ib", {"RoCE_v1_IBoE", "RoCE_v2"}),
        ("tcp,udp", {"TCP", "UDP"}),
        (" tcp , roce ", {"TCP", "RoCE_v1_IBoE", "RoCE_v2"}),
        ("tcp,tcp", {"TCP"}),
        ("TCP,RoCE_v2", {"TCP", "RoCE_v2"}),
        ("all", set()),
        ("tcp,all", set()),
    ],
)
def test_types_are_those_named_and_all_is_no_filter(text: str, types: set[str]) -> None:
    assert parse_types(text) == types


def test_roce_v2_is_not_udp() -> None:
    assert "RoCE_v2" not in parse_types("udp")
    assert "UDP" not in parse_types("roce")


def test_every_type_that_can_be_asked_for_is_one_that_flows_have() -> None:
    assert {kind for kinds in TYPES.values() for kind in kinds} <= set(TRAFFIC_TYPES)


CHOICES = "(available: tcp, udp, icmp, sctp, roce_v1, roce_v2, roce, ib, all)"
EMPTY = "--filter is empty (give a value or leave it out)"


@pytest.mark.parametrize(
    "text, told",
    [
        ("arp", f"--filter: unknown traffic type 'arp' {CHOICES}"),
        ("tcp,rdma", f"--filter: unknown traffic type 'rdma' {CHOICES}"),
        ("all,rdma", f"--filter: unknown traffic type 'rdma' {CHOICES}"),
        ("tcp udp", f"--filter: unknown traffic type 'tcp udp' {CHOICES}"),
        ("", EMPTY),
        ("tcp,", "--filter: empty value in 'tcp,' (remove the extra comma)"),
        ("tcp,,udp", "--filter: empty value in 'tcp,,udp' (remove the extra comma)"),
        (" ", EMPTY),
    ],
)
def test_unknown_type_is_refused_with_the_choices(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_types(text)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    "text, networks",
    [
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("10.0.0.1", ["10.0.0.1/32"]),
        ("0.0.0.0/0", ["0.0.0.0/0"]),
        ("fd00::/8", ["fd00::/8"]),
        ("fe80::1", ["fe80::1/128"]),
        ("10.0.0.0/255.0.0.0", ["10.0.0.0/8"]),
        ("10.0.0.0/8, fd00::/8", ["10.0.0.0/8", "fd00::/8"]),
    ],
)
def test_networks_are_those_named_and_an_address_is_one_of_its_own(text: str, networks: list[str]) -> None:
    assert [str(network) for network in parse_networks(text, "--net")] == networks


EXAMPLES = "(for example 10.0.0.1, 10.0.0.0/8 or fd00::/8)"


@pytest.mark.parametrize("option", ["--net", "--exclude-net"])
@pytest.mark.parametrize("item", ["fe80::1%eth0", "fe80::1%2", "fd00::/8,fe80::%eth0/64"])
def test_scope_which_no_packet_carries_is_refused(option: str, item: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_networks(item, option)
    told = item.rpartition(",")[2]
    assert str(caught.value) == (
        f"{option}: '{told}' has a scope, which packets do not carry (leave out the % and the scope)"
    )


@pytest.mark.parametrize("option", ["--net", "--exclude-net"])
@pytest.mark.parametrize(
    "text, reason",
    [
        ("10.0.0.1/8", "'10.0.0.1/8' has host bits set (use 10.0.0.0/8, or 10.0.0.1 for that address only)"),
        ("fd00::1/8", "'fd00::1/8' has host bits set (use fd00::/8, or fd00::1 for that address only)"),
        ("10.0.0.0/33", f"'10.0.0.0/33' is not an IP address or network {EXAMPLES}"),
        ("fd00::/129", f"'fd00::/129' is not an IP address or network {EXAMPLES}"),
        ("10.0.0/8", f"'10.0.0/8' is not an IP address or network {EXAMPLES}"),
        ("10.0.0.256", f"'10.0.0.256' is not an IP address or network {EXAMPLES}"),
        ("example.org", f"'example.org' is not an IP address or network {EXAMPLES}"),
        ("10.0.0.0/8,eth0", f"'eth0' is not an IP address or network {EXAMPLES}"),
        ("10.0.0.0/", f"'10.0.0.0/' is not an IP address or network {EXAMPLES}"),
    ],
)
def test_wrong_network_is_refused_with_the_reason_and_an_example(option: str, text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_networks(text, option)
    assert str(caught.value) == f"{option}: {reason}"


@pytest.mark.parametrize(
    "text, told",
    [
        ("", " is empty (give a value or leave it out)"),
        (",", " is empty (give a value or leave it out)"),
        ("10.0.0.0/8,", ": empty value in '10.0.0.0/8,' (remove the extra comma)"),
        (",10.0.0.0/8", ": empty value in ',10.0.0.0/8' (remove the extra comma)"),
    ],
)
def test_empty_network_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_networks(text, "--exclude-net")
    assert str(caught.value) == f"--exclude-net{told}"


def test_as_many_networks_are_taken_as_the_trie_has_room_for() -> None:
    texts = [str(ip_address(number)) for number in range(lib.MAX_NETWORKS + 1)]
    assert len(parse_networks(",".join(texts[:-1]), "--net")) == lib.MAX_NETWORKS == 256
    with pytest.raises(UsageError, match=r"^--net: 257 networks are too many \(at most 256\)$"):
        parse_networks(",".join(texts), "--net")


@pytest.mark.parametrize(
    "text, ports",
    [("80", {80}), ("80,443", {80, 443}), (" 80 , 443 ", {80, 443}), ("1,65535", {1, 65535}), ("53,53,053", {53})],
)
def test_ports_are_those_named(text: str, ports: set[int]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    "item",
    ["0", "65536", "-1", "+80", "80.0", "0x50", "http", "80-", "-90", "0-9", "80-90-99", "1-65536", "8 0", "²", "1e3"],
)
def test_wrong_port_is_refused_with_the_range(item: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ports(f"443,{item}")
    assert str(caught.value) == f"--port: '{item}' is not a port or range (1 to 65535, 8000-8100)"


def test_range_that_runs_backwards_is_refused_with_the_one_meant() -> None:
    with pytest.raises(UsageError, match=r"^--port: the range '90-80' is empty \(use 80-90\)$"):
        parse_ports("443,90-80")


@pytest.mark.parametrize(
    "text, written",
    [("443,80", "80 443"), ("8000-8100,80,81", "80 81 8000-8100"), ("1-65535", "1-65535"), ("7,8,9", "7-9")],
)
def test_ports_are_described_as_ranges(text: str, written: str) -> None:
    assert list(describe(Filters(ports=parse_ports(text)))) == [f"port {written}"]


@pytest.mark.parametrize(
    "text, told",
    [
        ("", " is empty (give a value or leave it out)"),
        (",", " is empty (give a value or leave it out)"),
        ("80,", ": empty value in '80,' (remove the extra comma)"),
        ("80,,443", ": empty value in '80,,443' (remove the extra comma)"),
    ],
)
def test_empty_port_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ports(text)
    assert str(caught.value) == f"--port{told}"


@pytest.mark.parametrize("name", TRAFFIC_TYPES)
def test_bit_of_a_wanted_type_is_that_of_the_c_enum(name: str) -> None:
    bit = 1 << getattr(lib, f"TRAFFIC_{name.upper()}")
    assert Filters(types=frozenset({name})).constants()["wanted_types"] == bit


def test_bits_of_several_wanted_types_are_added() -> None:
    assert Filters(types=parse_types("tcp,icmp,ib")).constants()["wanted_types"] == 0b110101


SWITCHES = ("wanted_types", "has_networks", "has_excluded_networks", "has_ports", "excludes_dns", "peels_tunnels")


@pytest.mark.parametrize(
    "filters, on",
    [
        (Filters(), None),
        (Filters(types=parse_types("all")), None),
        (Filters(networks=parse_networks("10.0.0.0/8", "--net")), "has_networks"),
        (Filters(excluded_networks=parse_networks("10.0.0.0/8", "--exclude-net")), "has_excluded_networks"),
        (Filters(ports=parse_ports("1")), "has_ports"),
        (Filters(exclude_dns=True), "excludes_dns"),
        (Filters(inner=True), "peels_tunnels"),
    ],
)
def test_each_filter_turns_on_its_own_switch_alone(filters: Filters, on: str | None) -> None:
    assert filters.constants() == {name: name == on for name in SWITCHES}


def test_switches_are_constants_of_the_packet_program_and_have_room() -> None:
    variables = load_object_spec().maps["rodata"].variables
    everything = Filters(frozenset(TRAFFIC_TYPES)).constants()
    assert {name for name in everything if name not in variables} == set()
    assert everything["wanted_types"] < 1 << 8 * variables["wanted_types"][1]


@pytest.mark.parametrize(
    "text, prefix, family, address",
    [
        ("10.1.2.3", 128, 4, "10.1.2.3"),
        ("10.0.0.0/8", 104, 4, "10.0.0.0"),
        ("192.168.128.0/17", 113, 4, "192.168.128.0"),
        ("0.0.0.0/0", 96, 4, "0.0.0.0"),
        ("::ffff:10.0.0.0/104", 104, 4, "10.0.0.0"),
        ("fd00::/8", 8, 6, "fd00::"),
        ("::/0", 0, 6, "::"),
        ("fe80::1", 128, 6, "fe80::1"),
    ],
)
def test_network_is_told_to_the_trie_as_addresses_stand_in_flow_keys(
    text: str, prefix: int, family: int, address: str
) -> None:
    assert network_key(ip_network(text)) == struct.pack("=II", 32 + prefix, family) + packed(address)


@pytest.mark.parametrize("length", range(96))
def test_mapped_addresses_have_no_network_shorter_than_all_of_them(length: int) -> None:
    with pytest.raises(UsageError, match="has host bits set"):
        parse_networks(f"::ffff:0:0/{length}", "--net")


def covers(key: bytes, address: str) -> bool:
    """Whether the trie's entry matches an address, as lpm_trie.c compares: bits from the first byte's highest on."""
    further = 32 + 128 - int(struct.unpack_from("=I", key)[0])
    host = struct.pack("=I", 4 if "." in address and ":" not in address else 6) + packed(address)
    return int.from_bytes(host, "big") >> further == int.from_bytes(key[4:], "big") >> further


@pytest.mark.parametrize(
    "network, inside, outside",
    [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("192.168.128.0/17", "192.168.128.1", "192.168.127.255"),
        ("0.0.0.0/0", "255.255.255.255", "fd00::1"),
        ("10.0.0.0/8", "10.0.0.0", "0a00::"),
        ("fd00::/8", "fdff::1", "fe00::"),
        ("::/96", "::10.0.0.1", "10.0.0.1"),
        ("::/64", "::fffe:0:1", "10.0.0.1"),
        ("::1", "::1", "0.0.0.1"),
        ("::ffff:0.0.0.0/96", "10.0.0.1", "::1"),
        ("::/0", "fd00::1", "10.0.0.1"),
    ],
)
def test_networks_of_one_family_do_not_take_in_the_other(network: str, inside: str, outside: str) -> None:
    key = network_key(ip_network(network))
    assert covers(key, inside)
    assert not covers(key, outside)


@pytest.mark.parametrize("name", ["networks", "excluded_networks"])
def test_network_has_the_size_of_the_tries_key(name: str) -> None:
    spec: MapSpec = load_object_spec().maps[name]
    assert spec.key_size == len(network_key(ip_network("10.0.0.0/8"))) == 24
    assert (spec.value_size, spec.max_entries) == (1, lib.MAX_NETWORKS)


@pytest.mark.parametrize(
    "ports, words",
    [
        (set(), {}),
        ({0}, {0: 1}),
        ({63}, {0: 1 << 63}),
        ({64}, {1: 1}),
        ({65535}, {1023: 1 << 63}),
        ({80, 443, 64}, {1: 1 << 16 | 1, 6: 1 << 59}),
    ],
)
def test_each_port_is_its_own_bit(ports: set[int], words: dict[int, int]) -> None:
    assert Filters(ports=frozenset(ports)).port_words() == words


def test_all_ports_are_all_bits_of_the_map_and_no_more() -> None:
    words = Filters(ports=frozenset(range(65536))).port_words()
    spec = load_object_spec().maps["ports"]
    assert sorted(words) == list(range(spec.max_entries))
    assert set(words.values()) == {2**64 - 1}
    assert spec.value_size == ffi.sizeof("__u64")


def test_filters_that_are_on_are_described_in_the_order_of_the_options() -> None:
    filters = Filters(
        types=parse_types("udp,tcp"),
        networks=parse_networks("10.0.0.1,fd00::/8", "--net"),
        excluded_networks=parse_networks("10.9.0.0/16", "--exclude-net"),
        ports=parse_ports("443,53"),
        exclude_dns=True,
        inner=True,
    )
    assert list(describe(filters)) == [
        "types TCP UDP",
        "net 10.0.0.1/32 fd00::/8",
        "exclude-net 10.9.0.0/16",
        "port 53 443",
        "exclude-dns",
        "tunnel inner",
    ]
    assert list(describe(Filters())) == []

"""What is typed after `/`, and what it selects of an interval."""

from __future__ import annotations

import pytest

from tests.unit.make import ARP, ICMP, SCTP, UDP, flow, key, roce, table
from tests.unit.make_tcp import sample
from xtrace.errors import UsageError
from xtrace.model.flow import FRAGMENT, LATER_FRAGMENT
from xtrace.sinks.live.words import matcher

FLOWS = {
    "web": key("10.0.0.1", "10.0.0.2", (443, 40000)),
    "dns": key("10.0.0.1", "192.0.2.1", (5353, 53), UDP),
    "ping": key("10.0.0.1", "10.0.0.2", (53, 0), ICMP),
    "sctp": key("198.51.100.1", "10.0.0.2", (2905, 443), SCTP),
    "roce": roce(dst_qpn=443, src="10.1.0.1", dst="10.1.0.2"),
    "fragment": key("10.0.0.1", "10.0.0.2", (443, 0), UDP, flags=FRAGMENT | LATER_FRAGMENT),
    "six": key("fd00::1", "2001:db8::1", (443, 50000)),
    "arp": key("10.9.0.1", "10.9.0.2", (0, 0), 0, ethertype=ARP),
    "frame": key("", "", (0, 0), 0, ethertype=0x88CC),
}
SHOWN = table([flow(where) for where in FLOWS.values()])


def selected(text: str) -> set[str]:
    names = list(FLOWS)
    return {names[index] for index in matcher(text).flows(SHOWN, range(len(names)))}


@pytest.mark.parametrize(
    "text, names",
    [
        ("", set(FLOWS)),
        ("all", set(FLOWS)),
        ("tcp", {"web", "six"}),
        ("-f tcp", {"web", "six"}),
        ("--filter=tcp,udp", {"web", "six", "dns", "fragment"}),
        ("TCP sctp", {"web", "six", "sctp"}),
        ("roce", {"roce"}),
        ("443", {"web", "sctp", "six"}),
        ("port 440-443,53", {"web", "sctp", "six", "dns"}),
        ("--port 443 tcp", {"web", "six"}),
        ("10.0.0.0/24", {"web", "dns", "ping", "sctp", "fragment"}),
        ("192.0.2.1", {"dns"}),
        ("net 192.0.2.1,fd00::/8", {"dns", "six"}),
        ("0.0.0.0/0", {"web", "dns", "ping", "sctp", "roce", "fragment", "arp"}),
        ("::/0", {"six"}),
        ("2001:db8::1", {"six"}),
        ("exclude-net 10.0.0.0/8", {"six", "frame"}),
        ("exclude-net ::/0", set(FLOWS) - {"six"}),
        ("exclude-dns", set(FLOWS) - {"dns"}),
        ("udp --exclude-dns", {"fragment"}),
    ],
)
def test_words_select_as_the_options_of_that_name(text: str, names: set[str]) -> None:
    assert selected(text) == names


def test_other_words_are_names_with_wildcards() -> None:
    assert matcher("tcp,eth0").names == ("tcp", "eth0"), "an interface may be called so, too"
    chosen = matcher("tcp eth*,mlx5_0 -i lo")
    assert chosen.names == ("eth*", "mlx5_0", "lo")
    assert chosen.named("eth7") and chosen.named("x", "mlx5_0") and chosen.named("lo")
    assert not chosen.named("mlx5_1", None)
    assert matcher("tcp").named("anything")
    assert matcher("-d mlx5_*").named("mlx5_1")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("port", "port needs a value"),
        ("99999", "port: '99999' is not a port or range"),
        ("net 10.0.0.1/8", "net: '10.0.0.1/8' has host bits set"),
        ("--frobnicate", "--frobnicate does not filter here"),
        ("filter tcp,nonsense", "filter: unknown traffic type 'nonsense'"),
        ("exclude-net", "exclude-net needs a value"),
        ("exclude-net x", "exclude-net: 'x' is not an IP address or network"),
        ("filter", "filter needs a value"),
        ("-i", "interface needs a value"),
    ],
)
def test_wrong_words_are_answered_with_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=f"^{complaint.replace('(', '[(]')}"):
        matcher(text)


@pytest.mark.parametrize(
    "text, is_shown",
    [
        ("", True),
        ("tcp", True),
        ("udp", False),
        ("443", True),
        ("444", False),
        ("10.0.0.0/24", True),
        ("192.0.2.1", False),
        ("exclude-net 10.0.0.1", False),
        ("exclude-dns", True),
    ],
)
def test_connections_are_selected_alike(text: str, is_shown: bool) -> None:
    assert matcher(text).connection(sample().ends) == is_shown


def test_a_connection_of_a_name_server_is_one_of_dns() -> None:
    assert not matcher("exclude-dns").connection(sample(remote=("10.0.0.1", 53)).ends)

"""The list of interfaces: the table and the records."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.net import records
from tests.support.schema import validate
from xtrace.kernel.rtnetlink import LinkInfo, XdpOwner
from xtrace.listing import print_interfaces
from xtrace.model.owners import Surroundings, TcOwners
from xtrace.sinks.stream import OutputStream

Output = tuple[OutputStream, Callable[[], bytes]]

LO = LinkInfo(index=1, name="lo", flags=0x49, link_type=772, mtu=65536, address="00:00:00:00:00:00")
OWNED = LinkInfo(
    index=12,
    name="enp0s31f6",
    flags=0x1003,
    link_type=1,
    operstate="up",
    mtu=1500,
    address="02:00:00:00:00:01",
    xdp=XdpOwner("native", 77),
)
TUN = LinkInfo(index=3, name="tun0", flags=0, link_type=65534, operstate="down", mtu=1400, kind="tun")
AROUND = {
    1: Surroundings(("127.0.0.1/8", "::1/128"), {"ingress": TcOwners(None)}),
    12: Surroundings(tc={"ingress": TcOwners((5, 6), ("cls_bpf",)), "egress": TcOwners()}, rdma_device="mlx5_0"),
}
STRANGE = LinkInfo(index=4, name="x25", flags=0, link_type=271)


def test_table_is_aligned_and_names_the_xdp_program(output: Output) -> None:
    stream, contents = output
    print_interfaces([LO, OWNED, TUN, STRANGE], AROUND, stream, as_json=False)
    assert contents().decode().splitlines() == [
        "NAME       INDEX  STATE    TYPE      MTU    MAC                XDP             TC"
        "                            RDMA    ADDRESSES",
        "lo         1      unknown  loopback  65536  00:00:00:00:00:00  -               ingress: ?"
        "                    -       127.0.0.1/8 ::1/128",
        "enp0s31f6  12     up       ethernet  1500   02:00:00:00:00:01  id 77 (native)  ingress: id 5,"
        " id 6, cls_bpf  mlx5_0  -",
        "tun0       3      down     tun       1400   -                  -               -"
        "                             -       -",
        "x25        4      unknown  271       0      -                  -               -"
        "                             -       -",
    ]


def test_records_have_the_same_and_are_valid(output: Output) -> None:
    stream, contents = output
    print_interfaces([LO, OWNED, TUN, STRANGE], AROUND, stream, as_json=True)
    lines = records(contents())
    validate(lines)
    assert lines[1] == {
        "type": "link",
        "name": "enp0s31f6",
        "index": 12,
        "state": "up",
        "up": True,
        "link_type": "ethernet",
        "mtu": 1500,
        "mac": "02:00:00:00:00:01",
        "xdp": {"prog_id": 77, "mode": "native"},
        "tc": {"ingress": {"tcx": [5, 6], "filters": ["cls_bpf"]}, "egress": {"tcx": [], "filters": []}},
        "rdma_device": "mlx5_0",
        "addresses": [],
    }
    assert [line["name"] for line in lines] == ["lo", "enp0s31f6", "tun0", "x25"]
    assert (lines[2]["up"], lines[2]["mac"], lines[2]["xdp"], lines[2]["link_type"]) == (False, None, None, "tun")


@pytest.mark.parametrize(
    "number, name", [(1, "ethernet"), (32, "infiniband"), (512, "ppp"), (772, "loopback"), (65534, "none")]
)
def test_link_type_has_its_name(number: int, name: str, output: Output) -> None:
    stream, contents = output
    print_interfaces([LinkInfo(index=9, name="x", flags=0, link_type=number)], AROUND, stream, as_json=True)
    assert records(contents())[0]["link_type"] == name


def test_namespace_without_interfaces_is_a_heading_or_nothing(output: Output) -> None:
    stream, contents = output
    print_interfaces([], {}, stream, as_json=True)
    assert contents() == b""
    print_interfaces([], {}, stream, as_json=False)
    assert contents() == b"NAME  INDEX  STATE  TYPE  MTU  MAC  XDP  TC  RDMA  ADDRESSES\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_one_interface_name_that_is_no_utf8_does_not_hide_the_others(output: Output, as_json: bool) -> None:
    stream, contents = output
    odd = LinkInfo(index=5, name=b"up\xff".decode("utf-8", "surrogateescape"), flags=0, link_type=1)
    print_interfaces([LO, odd, OWNED], AROUND, stream, as_json=as_json)
    assert b"enp0s31f6" in contents()


def test_table_cannot_act_on_a_terminal_and_its_columns_stay_aligned(output: Output) -> None:
    stream, contents = output
    print_interfaces(
        [LO, LinkInfo(index=5, name="e\x1b[31m\u202e", flags=0, link_type=1)], AROUND, stream, as_json=False
    )
    heading, _, row = contents().decode().splitlines()
    assert row.startswith("e?[31m?  ")
    assert row.index("5 ") == heading.index("INDEX")


def test_json_has_the_exact_name(output: Output) -> None:
    stream, contents = output
    print_interfaces([LinkInfo(index=5, name="e\x1b[31m\u202e", flags=0, link_type=1)], AROUND, stream, as_json=True)
    assert records(contents())[0]["name"] == "e\x1b[31m\u202e"

"""Kinds of interfaces: their first header, and what XDP does to them."""

from __future__ import annotations

from pathlib import Path

from xtrace.errors import InterfaceError
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.kernel.syscall import lib
from xtrace.model.words import XdpMode

LOOPBACK_LINK_TYPE = 772
ETHERNET_LINK_TYPES = (1, LOOPBACK_LINK_TYPE)
"""ARPHRD_ETHER, ARPHRD_LOOPBACK: frames begin with an Ethernet header (linux/if_arp.h)."""
INFINIBAND_LINK_TYPE = 32
"""ARPHRD_INFINIBAND: IPoIB."""
RAW_IP_LINK_TYPES = (512, 519, 65534, 768, 769, 776, 778, 823)
"""ARPHRD_PPP, RAWIP, NONE, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE: no link layer, mostly IP."""

EFFECTS = {
    "veth": "the peer's segmentation offload (GSO) is off while attached; detaching may drop queued packets",
    "bond": "the program runs in the members; an interface that has an XDP program or does not support XDP cannot join",
    "tun": "frames are copied into new buffers while attached",
    "virtio_net": "queues may restart; LRO is off while attached",
}
"""Side effects of native XDP, by rtnetlink kind or driver."""

MERGING_KINDS = frozenset({"tun"})
"""Kinds whose drivers pass packets merged by the sender (GSO) to XDP, even in native mode."""

PAIR_KINDS = frozenset({"veth", "netkit"})
"""Kinds with two ends on this host, one of them often in a container."""

TC_KINDS = MERGING_KINDS | PAIR_KINDS | {"bond"}
"""Kinds on which `auto` uses tc. XDP on a bond runs in the members' drivers, where it also sees packets that
the bond drops, and while it is attached bond_enslave() refuses other members. XDP on a veth takes away its peer's
segmentation offload and with it more than half of the throughput, and packets that bpf_redirect_peer() delivers do not
pass the driver. netkit has no native XDP."""

USUAL_EFFECT = "many NICs restart their queues briefly; LRO and hardware GRO are off while attached"
GENERIC_EFFECT = "packets are seen after the driver, and merged ones (GRO) count once; the NIC is not reconfigured"


UNKNOWN_PACKETS = "XDP cannot know what its packets are: they count without addresses; --hook tc sees them"
"""Reported if there is no link layer and the driver guarantees nothing."""


def link_layer(link: LinkInfo) -> int:
    """The first header of this interface's frames; InterfaceError for unsupported link types."""
    if link.has_ethernet is not None:
        return int(lib.LINK_LAYER_ETHERNET if link.has_ethernet else lib.LINK_LAYER_NONE)
    if link.link_type in ETHERNET_LINK_TYPES:
        return int(lib.LINK_LAYER_ETHERNET)
    if link.link_type == INFINIBAND_LINK_TYPE:
        return int(lib.LINK_LAYER_IPOIB)
    if link.link_type in RAW_IP_LINK_TYPES:
        return int(lib.LINK_LAYER_NONE)
    raise InterfaceError(
        f"{link.name}: frames of link type {link.link_type} are not supported; choose another interface"
    )


def xdp_layer(link: LinkInfo) -> int:
    """The same at XDP, where only the driver says where a packet without a link layer begins, and what it is.

    tun's does: from the first byte, and of the version that this byte says, unless the sender names a protocol
    (tun_get_user() in drivers/net/tun.c).
    """
    layer = link_layer(link)
    if layer == lib.LINK_LAYER_NONE and link.kind == "tun" and not link.names_protocol:
        return int(lib.LINK_LAYER_IP)
    return layer


def layers(link: LinkInfo) -> tuple[int, int] | None:
    """The first header at tc and at XDP; None for unsupported link types. It may change while there is an interface.

    A bond is what its first member is, a tun what its owner says (NETDEV_POST_TYPE_CHANGE in the kernel).
    """
    try:
        return link_layer(link), xdp_layer(link)
    except InterfaceError:
        return None


def effect(link: LinkInfo, mode: XdpMode) -> str:
    """The side effects of attaching XDP in `mode` to this interface, as half a sentence."""
    if mode is XdpMode.GENERIC:
        return GENERIC_EFFECT
    if link.link_type == LOOPBACK_LINK_TYPE:
        return ""  # does not support native XDP
    return EFFECTS.get(link.kind) or EFFECTS.get(driver(link.name)) or USUAL_EFFECT


def driver(name: str) -> str:
    """The interface's driver by sysfs; empty for virtual ones."""
    path = Path("/sys/class/net") / name / "device/driver"
    return path.resolve().name if path.exists() else ""

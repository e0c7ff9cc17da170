"""What kinds of interfaces there are: how their frames begin, what XDP does to them."""

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
"""ARPHRD_PPP, RAWIP, NONE, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE: frames begin with an IP header."""

EFFECTS = {
    "veth": "its peer stops segmentation offload (GSO) while attached; detaching may drop what waits in its queue",
    "bond": "it runs in its members, and no interface can join it that has an XDP program or takes none",
    "tun": "frames are copied into new buffers while attached",
    "virtio_net": "its queues may restart and LRO goes off while attached",
}
"""What native XDP changes, by rtnetlink kind or driver."""

MERGING_KINDS = frozenset({"tun"})
"""Kinds whose drivers give XDP what their sender merged (GSO), also in native mode."""

TC_KINDS = MERGING_KINDS | {"bond"}
"""Kinds on which tc is taken unless XDP is asked for. XDP on a bond runs in its members' drivers, where it sees what
the bond drops, and other members are refused while it is attached (bond_enslave())."""

USUAL_EFFECT = "many NICs restart their queues for a moment; LRO and hardware GRO go off while attached"
GENERIC_EFFECT = "packets are seen after the driver, merged ones (GRO) count once; nothing changes on the NIC"


def link_layer(link: LinkInfo) -> int:
    """Which header frames of this interface begin with; InterfaceError for those this version cannot read."""
    if link.link_type in ETHERNET_LINK_TYPES:
        return int(lib.LINK_LAYER_ETHERNET)
    if link.link_type == INFINIBAND_LINK_TYPE:
        return int(lib.LINK_LAYER_IPOIB)
    if link.link_type in RAW_IP_LINK_TYPES:
        return int(lib.LINK_LAYER_NONE)
    raise InterfaceError(
        f"{link.name}: frames of link type {link.link_type} are not understood: choose another interface"
    )


def effect(link: LinkInfo, mode: XdpMode) -> str:
    """What attaching XDP in `mode` changes on this interface, in half a sentence."""
    if mode is XdpMode.GENERIC:
        return GENERIC_EFFECT
    if link.link_type == LOOPBACK_LINK_TYPE:
        return ""  # it has no native XDP, and says so
    return EFFECTS.get(link.kind) or EFFECTS.get(driver(link.name)) or USUAL_EFFECT


def driver(name: str) -> str:
    """The interface's driver by sysfs; empty for virtual ones."""
    path = Path("/sys/class/net") / name / "device/driver"
    return path.resolve().name if path.exists() else ""

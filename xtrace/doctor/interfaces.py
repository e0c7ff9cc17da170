"""Checks of the selected interfaces: what would be attached where, what that changes, who else is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from xtrace.doctor.check import Check, fail, ok, warn
from xtrace.errors import InterfaceError
from xtrace.kernel.ethtool import takes_vlan_tags_off
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.model.owners import Surroundings
from xtrace.model.words import Hook, XdpMode
from xtrace.monitors.flows.hooks import Choice
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.kinds import TC_KINDS, driver, effect, link_layer
from xtrace.printable import some_of

LOOPBACK_TYPE = 772


def interfaces(
    links: Sequence[LinkInfo], around: Mapping[int, Surroundings], selection: Selection, choice: Choice
) -> Iterator[Check]:
    """Check every selected interface."""
    available = some_of([link.name for link in links])
    for name in selection.missing(links):
        yield fail("interface", "not found", f"choose one of {available}", name)
    chosen = [link for link in links if selection.takes(link)]
    if not chosen and not selection.names:
        yield fail("interface", selection.nothing_chosen(links), "choose one with -i")
    for link in chosen:
        yield from _interface(link, around.get(link.index, Surroundings()), choice)


def _interface(link: LinkInfo, around: Surroundings, choice: Choice) -> Iterator[Check]:
    name = link.name
    try:
        link_layer(link)
    except InterfaceError as error:
        yield fail("interface", str(error).removeprefix(f"{name}: "), "choose another interface", name)
        return
    what = " ".join(filter(None, (link.kind or driver(name), f"mtu {link.mtu}", *around.addresses)))
    if not link.is_up:
        yield warn("interface", f"down, {what}: no packets until it is up", f"ip link set {name} up", name)
    elif not link.is_operational:
        yield warn("interface", f"no carrier, {what}: no packets until the link is up", "check the cable", name)
    else:
        yield ok("interface", f"up, {what}", name)
    yield _hook(link, choice)
    yield from _others(link, around)
    if around.rdma_device:
        detail = f"RDMA device {around.rdma_device} is on it: RDMA traffic in hardware passes no hook"
        yield warn("rdma", detail, "add -m xdp,rdma to count it by the ports' own counters", name)


def _hook(link: LinkInfo, choice: Choice) -> Check:
    """Return where it would be attached, and what that changes."""
    name, mode = link.name, choice.xdp_mode or XdpMode.NATIVE
    at_tc = choice.hook is Hook.TC or (not choice.is_xdp and (link.kind in TC_KINDS or link.link_type == LOOPBACK_TYPE))
    if link.xdp and not at_tc:
        where = f"XDP has an owner already, program id {link.xdp.prog_id} ({link.xdp.mode}), which is not replaced"
        if choice.is_xdp:
            return fail("attaching", where, "use --hook tc", name)
        return warn("attaching", f"{where}: tc is used instead", "", name)
    if at_tc:
        return ok("attaching", "at tc; nothing is reconfigured", name)
    changes = [effect(link, mode)]
    if takes_vlan_tags_off(name):
        changes.append("VLAN tags stripped by the NIC (rxvlan offload) are not visible")
    detail = f"by {mode} XDP if the driver supports it, else at tc: {'; '.join(filter(None, changes))}"
    return warn("attaching", detail, "use --hook tc, which changes nothing", name)


def _others(link: LinkInfo, around: Surroundings) -> Iterator[Check]:
    """Name programs of others at tc. Ours runs before them and passes every packet on."""
    for way, owners in around.tc.items():
        others = [f"TCX program id {number}" for number in owners.tcx or ()]
        others += [f"filter {filter_name}" for filter_name in owners.filters]
        if owners.tcx is None:
            detail = f"tc {way}: TCX programs are not known without CAP_NET_ADMIN"
            yield warn("owners", detail, "run it with sudo", link.name)
        if others:
            yield ok("owners", f"tc {way}: {', '.join(others)}; they stay, and run after ours", link.name)

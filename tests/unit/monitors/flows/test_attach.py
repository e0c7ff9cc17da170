"""Attaching to an interface: which hook, what is said beforehand, who is never replaced, and what went wrong."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.fake_kernel import FakeKernel
from tests.unit.make import features
from xtrace.errors import InterfaceError, KernelError, PrivilegeError, error_name
from xtrace.kernel import constants, rtnetlink
from xtrace.kernel.attachment import LinkAttachment
from xtrace.kernel.bpf import Program
from xtrace.kernel.features import Features
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo, XdpOwner
from xtrace.kernel.syscall import lib
from xtrace.model.words import Direction, XdpMode
from xtrace.monitors.flows import attach as attach_module
from xtrace.monitors.flows import kinds
from xtrace.monitors.flows.attach import Attached, Attacher, loaded
from xtrace.monitors.flows.hooks import Choice
from xtrace.monitors.flows.kinds import driver, effect, layers, link_layer
from xtrace.monitors.flows.refusals import XdpRefused, refuse_if_owned, removal
from xtrace.monitors.flows.tables import FlowTables, Place

ETH0 = LinkInfo(index=4, name="eth0", flags=1, link_type=1)
SOCKET = cast("NetlinkSocket", object())
OWNED = ETH0._replace(xdp=XdpOwner("native", 77))

NATIVE, GENERIC = constants.XDP_FLAGS_NATIVE, constants.XDP_FLAGS_GENERIC
XDP, INGRESS, EGRESS = 37, 46, 47
"""BPF_XDP, BPF_TCX_INGRESS and BPF_TCX_EGRESS of enum bpf_attach_type (uapi/linux/bpf.h)."""
BEFORE = 8
"""BPF_F_BEFORE"""

WHAT_NATIVE_DOES = "many NICs restart their queues briefly; LRO and hardware GRO are off while attached"
WHAT_GENERIC_DOES = "packets are seen after the driver, and merged ones (GRO) count once; the NIC is not reconfigured"

OWNER_NAMED = (
    "eth0: XDP program id 77 is already attached (native) and is not replaced:"
    " `bpftool prog show id 77` shows what it is"
)


class FakeRtnetlink:
    """Plays the part of xtrace.kernel.rtnetlink that attaching uses, and the filters of clsact.py."""

    def __init__(self) -> None:
        self.now: LinkInfo | None = ETH0
        self.refusal = KernelError("RTM_SETLINK", errno.EOPNOTSUPP, "driver says no")
        self.takes = False
        self.refuses_filters = False
        self.takes_tags_off: bool | None = None
        self.done: list[tuple[Any, ...]] = []

    def link(self, socket: NetlinkSocket, wanted: str | int) -> LinkInfo | None:
        assert wanted == ETH0.index
        assert socket is SOCKET or isinstance(socket, NetlinkSocket)
        return self.now

    def xdp_attach(self, socket: NetlinkSocket, ifindex: int, prog_fd: int, flags: int) -> None:
        self.done.append(("attach", ifindex, prog_fd, flags))
        if not self.takes:
            raise self.refusal
        self.now = OWNED

    def xdp_detach(self, socket: NetlinkSocket, ifindex: int, expected_prog_fd: int, flags: int) -> None:
        self.done.append(("detach", ifindex, expected_prog_fd, flags))
        number = errno.ENODEV if self.now is None else errno.EEXIST if self.now.xdp is None else 0
        if number:
            raise KernelError("RTM_SETLINK", number)

    def add_filter(self, socket: NetlinkSocket, ifindex: int, direction: Direction, prog_fd: int) -> Any:
        self.done.append(("filter", ifindex, direction, prog_fd))
        if self.refuses_filters:
            raise KernelError("RTM_NEWTFILTER", errno.EEXIST, "an ingress qdisc")
        return SimpleNamespace(close=lambda: self.done.append(("filter removed",)))


class FakeTables:
    """Loads programs into a played kernel."""

    def __init__(self, kernel: FakeKernel, has: Features) -> None:
        self._kernel = kernel
        self.features = has
        self.owner_probe: object | None = None
        self.loaded: list[tuple[str, Place]] = []
        self.programs: list[int] = []

    def load(self, program: str, place: Place) -> Program:
        self.loaded.append((program, place))
        self.programs.append(self._kernel.xt_prog_load(None))
        return Program(self.programs[-1], program)


@pytest.fixture(autouse=True)
def interfaces(monkeypatch: pytest.MonkeyPatch) -> FakeRtnetlink:
    fake = FakeRtnetlink()
    for name in ("link", "xdp_attach", "xdp_detach"):
        monkeypatch.setattr(rtnetlink, name, getattr(fake, name))
    monkeypatch.setattr(attach_module, "TcAttachment", SimpleNamespace(attach=fake.add_filter))
    monkeypatch.setattr(kinds, "driver", lambda name: "")
    monkeypatch.setattr(attach_module, "takes_vlan_tags_off", lambda name: fake.takes_tags_off)
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    return fake


class Bench:
    """An Attacher on a played kernel; what it attached is detached afterwards."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.said: list[str] = []
        self.attached: list[Attached] = []
        self.tables = FakeTables(kernel, features())

    def attach(
        self, hook: str = "auto", mode: str = "auto", link: LinkInfo = ETH0, direction: Direction = Direction.INGRESS
    ) -> Attached:
        self.attached.append(self.attacher(hook, mode).attach(link, 3, direction))
        self.said.append(loaded(link.name, {direction: self.attached[-1]}))
        return self.attached[-1]

    def attacher(self, hook: str, mode: str) -> Attacher:
        tables = cast("FlowTables", self.tables)
        return Attacher(SOCKET, tables, Choice.of(hook, mode))

    def refused(
        self, hook: str = "auto", mode: str = "auto", link: LinkInfo = ETH0, direction: Direction = Direction.INGRESS
    ) -> str:
        """The error's text."""
        with pytest.raises(InterfaceError) as caught:
            self.attach(hook, mode, link, direction)
        return str(caught.value)

    def links_tried(self) -> list[tuple[Any, ...]]:
        """Interface, attach type and flags of every BPF_LINK_CREATE."""
        return [arguments[1:] for arguments in self.kernel.arguments_of("xt_link_create")]


@pytest.fixture
def bench(kernel: FakeKernel) -> Iterator[Bench]:
    made = Bench(kernel)
    yield made
    for attached in made.attached:
        attached.attachment.close()


def how(attached: Attached) -> tuple[str, str | None]:
    return attached.hook, attached.xdp_mode


def test_auto_takes_native_xdp_where_the_driver_has_it(bench: Bench) -> None:
    assert how(bench.attach()) == ("xdp", "native")
    assert bench.links_tried() == [(4, XDP, NATIVE)]
    assert bench.said == [f"XDP program loaded on eth0 (native, frags): {WHAT_NATIVE_DOES}"]


def test_that_the_nic_takes_tags_off_is_reported_once_and_only_of_xdp(bench: Bench, interfaces: FakeRtnetlink) -> None:
    told = "VLAN tags stripped by the NIC (rxvlan offload) are not visible at XDP, but with --hook tc"
    interfaces.takes_tags_off = True
    assert told not in bench.attach("tc").remarks
    attacher = bench.attacher("auto", "auto")
    for slot in (3, 4):
        bench.attached.append(attacher.attach(ETH0, slot, Direction.INGRESS))
    assert [told in attached.remarks for attached in bench.attached] == [False, True, False]
    interfaces.takes_tags_off = False
    assert told not in bench.attach().remarks


def test_with_owners_a_program_at_tc_is_attached_before_the_one_at_xdp_and_goes_with_it(
    bench: Bench, interfaces: FakeRtnetlink
) -> None:
    bench.tables.owner_probe, interfaces.takes_tags_off = object(), True
    attached = bench.attach("xdp", link=ETH0._replace(kind="veth", peer_netnsid=5))
    assert how(attached) == ("xdp", "native")
    assert bench.links_tried() == [(4, INGRESS, BEFORE), (4, XDP, NATIVE)]
    where = (3, Direction.INGRESS, lib.LINK_LAYER_ETHERNET)
    beside, counting = bench.tables.loaded
    assert beside == ("tc_beside_xdp", Place(*where, peer_netns=5, hides_tags=True))
    assert counting == ("xdp_ingress", Place(*where, frags=True))
    bench.attached.clear()
    attached.attachment.close()
    assert bench.kernel.open == set()


def test_with_owners_an_interface_that_refuses_one_of_the_two_programs_has_none(bench: Bench) -> None:
    bench.tables.owner_probe = object()
    bench.kernel.answer("xt_link_create", -errno.EBUSY)
    assert bench.refused("xdp").startswith("eth0: tc ingress refused: BPF_LINK_CREATE(tc_beside_xdp, ifindex 4): EBUSY")
    bench.kernel.answer("xt_link_create", 0, -errno.EOPNOTSUPP)
    assert bench.refused("xdp").startswith("eth0: native XDP refused: ")
    assert bench.kernel.open == set()


def test_loopback_which_has_no_native_xdp_is_not_reported_to_change(bench: Bench) -> None:
    bench.attach(link=ETH0._replace(link_type=772))
    assert bench.said == ["XDP program loaded on eth0 (native, frags)"]


def test_auto_falls_to_tc_with_the_kernels_own_reason(bench: Bench, interfaces: FakeRtnetlink) -> None:
    bench.kernel.answer("xt_link_create", -errno.EOPNOTSUPP, 0)
    assert how(bench.attach()) == ("tc", None)
    assert bench.links_tried() == [(4, XDP, NATIVE), (4, INGRESS, BEFORE)]
    assert bench.said == ["tc program loaded on eth0 (ingress, tcx): native XDP refused: driver says no"]
    assert interfaces.done == [("attach", 4, bench.tables.programs[0], NATIVE)]


def test_auto_never_takes_generic_xdp(bench: Bench) -> None:
    bench.kernel.answer("xt_link_create", -errno.EOPNOTSUPP)
    bench.refused()
    assert (4, XDP, GENERIC) not in bench.links_tried()


def test_interface_that_takes_neither_xdp_nor_tc_is_refused_with_the_last_reason(bench: Bench) -> None:
    bench.kernel.answer("xt_link_create", -errno.EINVAL)
    assert bench.refused() == (
        "eth0: tc ingress refused: BPF_LINK_CREATE(tc_packet, ifindex 4): EINVAL (Invalid argument); before that,"
        " native XDP refused: driver says no"
    )


@pytest.mark.parametrize("hook", ["auto", "xdp"])
def test_generic_mode_never_touches_the_driver(hook: str, bench: Bench) -> None:
    assert how(bench.attach(hook, "generic")) == ("xdp", "generic")
    assert bench.links_tried() == [(4, XDP, GENERIC)]
    assert bench.said == [f"XDP program loaded on eth0 (generic, frags): {WHAT_GENERIC_DOES}"]


@pytest.mark.parametrize("hook, mode", [("xdp", "auto"), ("xdp", "native"), ("auto", "native")])
def test_hook_or_mode_asked_for_never_falls_to_another_and_the_error_advises_both(
    hook: str, mode: str, bench: Bench
) -> None:
    bench.kernel.answer("xt_link_create", -errno.EOPNOTSUPP)
    assert bench.refused(hook, mode) == (
        "eth0: native XDP refused: driver says no; try --hook tc or --xdp-mode generic"
    )
    assert bench.links_tried() == [(4, XDP, NATIVE)]


@pytest.mark.parametrize("hook", ["auto", "xdp"])
def test_generic_mode_that_is_refused_advises_tc_alone(hook: str, bench: Bench) -> None:
    bench.kernel.answer("xt_link_create", -errno.EOPNOTSUPP)
    assert bench.refused(hook, "generic") == "eth0: generic XDP refused: driver says no; try --hook tc"
    assert bench.links_tried() == [(4, XDP, GENERIC)]


@pytest.mark.parametrize("direction, attach_type", [(Direction.INGRESS, INGRESS), (Direction.EGRESS, EGRESS)])
def test_hook_tc_touches_no_xdp_and_is_first_of_its_direction(
    direction: Direction, attach_type: int, bench: Bench, interfaces: FakeRtnetlink
) -> None:
    assert how(bench.attach("tc", direction=direction)) == ("tc", None)
    assert bench.links_tried() == [(4, attach_type, BEFORE)]
    assert bench.said == [f"tc program loaded on eth0 ({direction.value}, tcx)"]
    assert bench.tables.loaded == [("tc_packet", Place(3, direction, lib.LINK_LAYER_ETHERNET))]
    assert interfaces.done == []


def test_egress_is_at_tc_whatever_the_xdp_mode(bench: Bench) -> None:
    assert how(bench.attach("auto", "native", direction=Direction.EGRESS)) == ("tc", None)
    assert bench.links_tried() == [(4, EGRESS, BEFORE)]


@pytest.mark.parametrize("direction", list(Direction))
def test_kernel_without_tcx_gets_a_filter_at_clsact(
    direction: Direction, bench: Bench, interfaces: FakeRtnetlink
) -> None:
    bench.tables.features = features(tcx=False)
    assert how(bench.attach("tc", direction=direction)) == ("tc", None)
    assert interfaces.done == [("filter", 4, direction, bench.tables.programs[0])]
    assert bench.said == [f"tc program loaded on eth0 ({direction.value}, clsact)"]
    assert bench.links_tried() == []
    assert bench.kernel.open == set(), "the filter holds the program"


def test_auto_without_tcx_falls_to_clsact(bench: Bench, interfaces: FakeRtnetlink) -> None:
    bench.tables.features = features(tcx=False)
    bench.kernel.answer("xt_link_create", -errno.EOPNOTSUPP)
    assert how(bench.attach()) == ("tc", None)
    assert bench.said == ["tc program loaded on eth0 (ingress, clsact): native XDP refused: driver says no"]


def test_filter_that_is_refused_gives_the_reason(bench: Bench, interfaces: FakeRtnetlink) -> None:
    bench.tables.features = features(tcx=False)
    interfaces.refuses_filters = True
    assert bench.refused("tc") == ("eth0: tc ingress refused: RTM_NEWTFILTER: EEXIST (File exists): an ingress qdisc")
    assert bench.said == []


def test_tc_that_is_refused_names_direction_and_reason(bench: Bench) -> None:
    bench.kernel.answer("xt_link_create", -errno.EBUSY)
    assert bench.refused("tc", direction=Direction.EGRESS) == (
        "eth0: tc egress refused: BPF_LINK_CREATE(tc_packet, ifindex 4): EBUSY (Device or resource busy)"
    )


@pytest.mark.parametrize("has_frags, details", [(True, "native, frags"), (False, "native")])
def test_xdp_takes_frames_with_fragments_where_the_kernel_can_and_reports_it(
    has_frags: bool, details: str, bench: Bench
) -> None:
    bench.tables.features = features(frags=has_frags)
    bench.attach()
    assert bench.tables.loaded == [("xdp_ingress", Place(3, Direction.INGRESS, lib.LINK_LAYER_ETHERNET, has_frags))]
    assert bench.said == [f"XDP program loaded on eth0 ({details}): {WHAT_NATIVE_DOES}"]


def test_refusal_without_a_text_of_the_kernel_shows_its_error(bench: Bench, interfaces: FakeRtnetlink) -> None:
    bench.kernel.answer("xt_link_create", -errno.EINVAL)
    interfaces.refusal = KernelError("RTM_SETLINK(XDP attach)", errno.EINVAL)
    told = bench.refused("xdp")
    assert told.startswith("eth0: native XDP refused: RTM_SETLINK(XDP attach): EINVAL (Invalid argument); ")


def test_program_that_netlink_took_after_all_is_removed_again(bench: Bench, interfaces: FakeRtnetlink) -> None:
    bench.kernel.answer("xt_link_create", -errno.EINVAL)
    interfaces.takes = True
    told = bench.refused("xdp")
    (program,) = bench.tables.programs
    assert interfaces.done == [("attach", 4, program, NATIVE), ("detach", 4, program, NATIVE)]
    assert "BPF_LINK_CREATE(xdp_ingress, ifindex 4): EINVAL (Invalid argument)" in told


@pytest.mark.parametrize("hook, mode", [("auto", "native"), ("auto", "generic"), ("xdp", "auto"), ("xdp", "generic")])
def test_another_owners_program_is_named_and_not_replaced(
    hook: str, mode: str, bench: Bench, interfaces: FakeRtnetlink
) -> None:
    assert bench.refused(hook, mode, OWNED).startswith(f"{OWNER_NAMED}; try --hook tc")
    assert (bench.said, bench.tables.loaded, interfaces.done) == ([], [], [])


def test_auto_leaves_xdp_to_another_owner_and_takes_tc(bench: Bench, interfaces: FakeRtnetlink) -> None:
    assert how(bench.attach(link=OWNED)) == ("tc", None)
    assert bench.links_tried() == [(4, INGRESS, BEFORE)]
    assert bench.said == [f"tc program loaded on eth0 (ingress, tcx): {OWNER_NAMED.removeprefix('eth0: ')}"]
    assert interfaces.done == []


def test_tc_asked_for_does_not_mind_an_xdp_program(bench: Bench) -> None:
    assert how(bench.attach("tc", link=OWNED)) == ("tc", None)
    assert bench.said == ["tc program loaded on eth0 (ingress, tcx)"]


def test_program_of_another_xtrace_catch_is_recognized(bench: Bench) -> None:
    def info(fd: int, told: Any, length: Any) -> int:
        told.name = b"xdp_ingress"
        return 0

    bench.kernel.answer("xt_obj_get_info", info)
    assert bench.refused("xdp", link=OWNED).startswith(
        "eth0: XDP program id 77 is already attached (native) and is not replaced: it belongs to another xtrace-catch,"
        " or was left by a killed one: then `ip link set dev eth0 xdpdrv off` removes it; try --hook tc"
    )
    assert bench.kernel.arguments_of("xt_prog_get_fd_by_id") == [(77,)]


def test_program_left_by_the_second_try_is_reported_with_the_command_that_removes_it(
    bench: Bench, interfaces: FakeRtnetlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise KernelError("RTM_SETLINK", errno.ENOMEM)

    bench.kernel.answer("xt_link_create", -errno.EINVAL)
    interfaces.takes = True
    monkeypatch.setattr(rtnetlink, "xdp_detach", refuse)
    assert bench.refused() == (
        "eth0: an XDP program stays attached: RTM_SETLINK: ENOMEM (Cannot allocate memory):"
        " `ip link set dev eth0 xdpdrv off` removes it"
    )


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EEXIST])
@pytest.mark.parametrize("mode", ["auto", "native", "generic"])
def test_owner_that_came_first_by_a_moment_is_named_and_not_replaced(
    number: int, mode: str, bench: Bench, interfaces: FakeRtnetlink
) -> None:
    bench.kernel.answer("xt_link_create", -number)
    interfaces.now = OWNED
    assert OWNER_NAMED in bench.refused("xdp", mode)
    assert len(bench.links_tried()) == 1
    assert interfaces.done == []


def test_auto_takes_tc_where_an_owner_came_first_by_a_moment(bench: Bench, interfaces: FakeRtnetlink) -> None:
    bench.kernel.answer("xt_link_create", -errno.EBUSY, 0)
    interfaces.now = OWNED
    assert how(bench.attach()) == ("tc", None)
    assert bench.attached[0].remarks == (OWNER_NAMED.removeprefix("eth0: "),)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EEXIST, errno.ENOMEM])
def test_refusal_that_may_not_last_is_not_tried_again_for_its_words(
    number: int, bench: Bench, interfaces: FakeRtnetlink
) -> None:
    bench.kernel.answer("xt_link_create", -number)
    reason = f"BPF_LINK_CREATE(xdp_ingress, ifindex 4): {error_name(number)}"
    assert bench.refused("xdp").startswith(f"eth0: native XDP refused: {reason}; try --hook tc")
    assert interfaces.done == [], "it would have been attached by netlink, for a moment"


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL, errno.EBUSY])
def test_interface_that_disappears_meanwhile_is_an_error_and_tc_is_not_tried(
    number: int, bench: Bench, interfaces: FakeRtnetlink
) -> None:
    bench.kernel.answer("xt_link_create", -number)
    interfaces.now = None
    assert bench.refused() == "eth0: the interface disappeared while attaching"
    assert bench.links_tried() == [(4, XDP, NATIVE)]


@pytest.mark.parametrize("hook, program", [("auto", "xdp_ingress"), ("xdp", "xdp_ingress"), ("tc", "tc_packet")])
def test_missing_permission_is_no_refusal_of_the_interface(
    hook: str, program: str, bench: Bench, monkeypatch: pytest.MonkeyPatch, interfaces: FakeRtnetlink
) -> None:
    monkeypatch.setattr("xtrace.kernel.privileges._cause", lambda: "that is why")
    bench.kernel.answer("xt_link_create", -errno.EPERM)
    with pytest.raises(PrivilegeError, match=rf"BPF_LINK_CREATE\({program}, ifindex 4\): EPERM .*: that is why$"):
        bench.attach(hook)
    assert len(bench.links_tried()) == 1
    assert interfaces.done == []


def test_link_holds_the_program_whose_own_descriptor_is_released(bench: Bench) -> None:
    bench.attach()
    assert len(bench.kernel.open) == 1
    assert not bench.kernel.open & set(bench.tables.programs)


@pytest.mark.parametrize("hook", ["xdp", "tc"])
def test_closing_detaches_before_it_releases(hook: str, bench: Bench) -> None:
    attachment = bench.attach(hook).attachment
    bench.attached.clear()
    before = len(bench.kernel.calls)
    attachment.close()
    assert bench.kernel.calls[before:] == ["xt_link_detach", "xt_close"]


@pytest.mark.parametrize("ifindex, alive", [(4, True), (0, False)])
def test_link_is_alive_as_long_as_its_interface_is_there(ifindex: int, alive: bool, kernel: FakeKernel) -> None:
    def info(fd: int, told: Any, length: Any) -> int:
        told.ifindex = ifindex
        return 0

    kernel.answer("xt_obj_get_info", info)
    with closing(LinkAttachment.attach(Program(9, "xdp_ingress"), 4, XDP, NATIVE)) as attachment:
        assert attachment.alive() is alive


@pytest.fixture
def without_links(bench: Bench, interfaces: FakeRtnetlink) -> Bench:
    """Where links are switched off, and the interface takes XDP by netlink."""
    bench.tables.features = features(links=False)
    interfaces.takes = True

    def info(fd: int, told: Any, length: Any) -> int:
        told.id = 77
        return 0

    bench.kernel.answer("xt_obj_get_info", info)
    return bench


@pytest.mark.parametrize("mode, flags", [("auto", NATIVE), ("native", NATIVE), ("generic", GENERIC)])
def test_without_links_xdp_is_attached_by_netlink_in_the_same_mode(
    mode: str, flags: int, without_links: Bench, interfaces: FakeRtnetlink
) -> None:
    attached = without_links.attach("xdp", mode)
    assert how(attached) == ("xdp", "generic" if flags == GENERIC else "native")
    assert interfaces.done == [("attach", 4, without_links.tables.programs[0], flags)]
    assert without_links.links_tried() == []


@pytest.mark.parametrize("mode, flags", [("native", NATIVE), ("generic", GENERIC)])
def test_without_links_closing_detaches_our_program_and_no_other(
    mode: str, flags: int, without_links: Bench, interfaces: FakeRtnetlink
) -> None:
    attached = without_links.attach("xdp", mode)
    without_links.attached.clear()
    (program,) = without_links.tables.programs
    assert without_links.kernel.open == {program}, "it names what is to be detached"
    interfaces.done.clear()
    attached.attachment.close()
    assert interfaces.done == [("detach", 4, program, flags)]
    assert without_links.kernel.open == set()


def test_without_links_closing_after_the_interface_has_gone_is_no_error(
    without_links: Bench, interfaces: FakeRtnetlink
) -> None:
    attached = without_links.attach("xdp")
    without_links.attached.clear()
    assert attached.attachment.alive()
    interfaces.now = None
    assert not attached.attachment.alive()
    attached.attachment.close()
    assert without_links.kernel.open == set()


def test_without_links_a_program_that_another_replaced_by_force_is_not_alive(
    without_links: Bench, interfaces: FakeRtnetlink
) -> None:
    attached = without_links.attach("xdp")
    interfaces.now = ETH0._replace(xdp=XdpOwner("native", 78, native_id=78))
    assert not attached.attachment.alive()


def test_without_links_closing_after_others_removed_the_program_is_no_error(
    without_links: Bench, interfaces: FakeRtnetlink
) -> None:
    attached = without_links.attach("xdp")
    without_links.attached.clear()
    interfaces.now = ETH0
    assert not attached.attachment.alive()
    attached.attachment.close()
    assert without_links.kernel.open == set()


def test_without_links_a_refusal_has_the_kernels_reason_and_leaves_nothing(
    without_links: Bench, interfaces: FakeRtnetlink
) -> None:
    interfaces.takes = False
    assert without_links.refused("xdp") == (
        "eth0: native XDP refused: driver says no; try --hook tc or --xdp-mode generic"
    )
    assert without_links.kernel.open == set()


def test_without_links_auto_falls_to_tc_all_the_same(without_links: Bench, interfaces: FakeRtnetlink) -> None:
    interfaces.takes = False
    assert how(without_links.attach()) == ("tc", None)
    assert without_links.attached[0].remarks == ("native XDP refused: driver says no",)


def test_interface_without_an_owner_is_not_refused() -> None:
    refuse_if_owned(ETH0)
    with pytest.raises(XdpRefused):
        refuse_if_owned(ETH0._replace(xdp=XdpOwner("generic", 7)))


@pytest.mark.parametrize(
    "link_type, layer",
    [
        (1, lib.LINK_LAYER_ETHERNET),
        (772, lib.LINK_LAYER_ETHERNET),
        (32, lib.LINK_LAYER_IPOIB),
        (65534, lib.LINK_LAYER_NONE),
        (512, lib.LINK_LAYER_NONE),
        (519, lib.LINK_LAYER_NONE),
        (768, lib.LINK_LAYER_NONE),
        (769, lib.LINK_LAYER_NONE),
        (776, lib.LINK_LAYER_NONE),
        (778, lib.LINK_LAYER_NONE),
        (823, lib.LINK_LAYER_NONE),
    ],
    ids=[
        *("ethernet", "loopback", "infiniband", "tun, wireguard", "ppp", "rawip"),
        *("ipip", "ip6tnl", "sit", "gre", "ip6gre"),
    ],
)
def test_frames_are_read_from_the_header_that_the_link_type_begins_with(
    link_type: int, layer: int, bench: Bench
) -> None:
    link = ETH0._replace(link_type=link_type)
    assert link_layer(link) == layer
    bench.attach("tc", link=link, direction=Direction.EGRESS)
    assert bench.tables.loaded[0][1].link_layer == layer


TUNNEL = ETH0._replace(kind="ipip", link_type=768)


@pytest.mark.parametrize(
    "link, layer",
    [
        (ETH0, lib.LINK_LAYER_ETHERNET),
        (ETH0._replace(kind="tun", link_type=65534), lib.LINK_LAYER_IP),
        (ETH0._replace(kind="tun", link_type=65534, names_protocol=True), lib.LINK_LAYER_NONE),
        (ETH0._replace(kind="tun", link_type=1, names_protocol=True), lib.LINK_LAYER_ETHERNET),
        (TUNNEL, lib.LINK_LAYER_NONE),
        (ETH0._replace(kind="xfrm", link_type=65534), lib.LINK_LAYER_NONE),
        (ETH0._replace(link_type=32), lib.LINK_LAYER_IPOIB),
    ],
    ids=["Ethernet", "tun", "tun with packet information", "tap", "ipip", "xfrm", "IPoIB"],
)
def test_xdp_takes_a_packet_without_link_layer_for_ip_only_where_its_driver_checks_that(
    link: LinkInfo, layer: int, bench: Bench
) -> None:
    bench.attach("xdp", link=link)
    assert bench.tables.loaded[0][1].link_layer == layer
    told = "XDP cannot know what its packets are: they count without addresses; --hook tc sees them"
    assert (told in bench.attached[0].remarks) == (layer == lib.LINK_LAYER_NONE)


@pytest.mark.parametrize("link_type", [0, 1, 32, 512, 801, 65534])
def test_a_link_type_that_somebody_gave_a_tun_changes_no_frame(link_type: int) -> None:
    """TUNSETLINK."""
    link = ETH0._replace(kind="tun", link_type=link_type, has_ethernet=False)
    assert layers(link) == (lib.LINK_LAYER_NONE, lib.LINK_LAYER_IP)
    assert layers(link._replace(has_ethernet=True)) == (lib.LINK_LAYER_ETHERNET, lib.LINK_LAYER_ETHERNET)


@pytest.mark.parametrize("link_type", [0, 24, 280, 801, 803])
def test_interface_of_an_unsupported_link_type_is_refused_before_anything_is_loaded(
    link_type: int, bench: Bench
) -> None:
    told = bench.refused(link=ETH0._replace(link_type=link_type))
    assert told == f"eth0: frames of link type {link_type} are not supported; choose another interface"
    assert (bench.tables.loaded, bench.said) == ([], [])


TUN = ETH0._replace(kind="tun", link_type=65534)


def test_auto_takes_tc_on_tun_whose_driver_hands_merged_packets_to_xdp(bench: Bench) -> None:
    attached = bench.attach(link=TUN)
    assert (how(attached), attached.merges) == (("tc", None), False)
    assert bench.links_tried() == [(4, INGRESS, BEFORE)]


def test_auto_takes_tc_on_a_bond_which_others_could_not_join_with_xdp(bench: Bench) -> None:
    assert how(bench.attach(link=ETH0._replace(kind="bond"))) == ("tc", None)
    attached = bench.attach("xdp", link=ETH0._replace(kind="bond"))
    assert (how(attached), attached.merges) == (("xdp", "native"), False)
    assert "does not support XDP cannot join" in attached.remarks[0]


@pytest.mark.parametrize("hook, mode", [("xdp", "auto"), ("auto", "native"), ("auto", "generic")])
def test_xdp_asked_for_on_tun_is_taken_and_known_to_merge(hook: str, mode: str, bench: Bench) -> None:
    attached = bench.attach(hook, mode, TUN)
    assert (attached.hook, attached.merges) == ("xdp", True)


def test_xdp_on_other_interfaces_is_not_known_to_merge(bench: Bench) -> None:
    assert not bench.attach(link=ETH0._replace(kind="veth")).merges


def test_link_is_detached_and_released_once_however_often_it_is_closed(bench: Bench) -> None:
    attachment = bench.attach().attachment
    attachment.close()
    attachment.close()
    assert bench.kernel.calls.count("xt_link_detach") == 1


def test_lines_are_chinese_under_a_chinese_locale(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    attached = {
        Direction.INGRESS: bench.attach("xdp", link=ETH0._replace(link_type=772)),
        Direction.EGRESS: bench.attach("tc", direction=Direction.EGRESS),
    }
    assert loaded("eth0", attached) == "XDP 程序已加载到 eth0 (native, frags), tc 程序已加载到 eth0 (egress, tcx)"


def test_line_of_an_interface_has_its_programs_first_and_then_what_is_special(bench: Bench) -> None:
    bench.kernel.answer("xt_link_create", -errno.EOPNOTSUPP, 0, 0)
    attached = {direction: bench.attach(direction=direction) for direction in Direction}
    assert loaded("eth0", attached, ["no carrier"]) == (
        "tc program loaded on eth0 (ingress and egress, tcx): native XDP refused: driver says no; no carrier"
    )


@pytest.mark.parametrize(
    "link, named, told",
    [
        (ETH0, "mlx5_core", WHAT_NATIVE_DOES),
        (ETH0, "", WHAT_NATIVE_DOES),
        (ETH0, "virtio_net", "queues may restart; LRO is off while attached"),
        (
            ETH0._replace(kind="veth"),
            "",
            "the peer's segmentation offload (GSO) is off while attached; detaching may drop queued packets",
        ),
        (ETH0._replace(kind="tun"), "", "frames are copied into new buffers while attached"),
    ],
)
def test_effect_of_native_xdp_is_that_of_the_driver(
    link: LinkInfo, named: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "driver", lambda name: named)
    assert effect(link, XdpMode.NATIVE) == told
    assert effect(link, XdpMode.GENERIC) == WHAT_GENERIC_DOES


def test_driver_is_read_from_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drivers" / "virtio_net").mkdir(parents=True)
    (tmp_path / "eth0" / "device").mkdir(parents=True)
    (tmp_path / "eth0" / "device" / "driver").symlink_to(tmp_path / "drivers" / "virtio_net")
    (tmp_path / "br0").mkdir()
    monkeypatch.setattr(kinds, "Path", lambda path: {"/sys/class/net": tmp_path}[path])
    assert [driver(name) for name in ("eth0", "br0", "gone0")] == ["virtio_net", "", ""]


@pytest.mark.parametrize("kind", ["veth", "netkit"])
def test_auto_takes_tc_on_pairs_that_xdp_slows_down_or_does_not_see(kind: str, bench: Bench) -> None:
    assert how(bench.attach(link=ETH0._replace(kind=kind))) == ("tc", None)
    assert how(bench.attach("xdp", link=ETH0._replace(kind=kind))) == ("xdp", "native")


@pytest.mark.parametrize(
    "mode, word", [("native", "xdpdrv"), ("generic", "xdpgeneric"), ("offload", "xdpoffload"), ("unknown", "xdp")]
)
def test_command_that_removes_a_program_names_its_mode_as_ip_does(mode: str, word: str) -> None:
    assert removal("eth0", mode) == f"`ip link set dev eth0 {word} off`"

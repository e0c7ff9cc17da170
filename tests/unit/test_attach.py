"""Attaching to an interface: which mode, what is said beforehand, who is never replaced, and what went wrong."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.errors import InterfaceError, KernelError, PrivilegeError
from xtrace.kernel import constants, rtnetlink
from xtrace.kernel.bpf import Program
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo, XdpOwner
from xtrace.kernel.syscall import error_name
from xtrace.monitors import attach as attach_module
from xtrace.monitors.attach import Attachment, attach, driver, effect, refuse_if_owned

ETH0 = LinkInfo(index=4, name="eth0", flags=1, link_type=1)
OWNED = replace(ETH0, xdp=XdpOwner("native", 77))

NATIVE, GENERIC = constants.XDP_FLAGS_NATIVE, constants.XDP_FLAGS_GENERIC
PROGRAM = Program(9, "xdp_ingress")
NETLINK = cast("NetlinkSocket", object())

WHAT_NATIVE_DOES = "many NICs restart their queues for a moment; LRO and hardware GRO go off while attached"
WHAT_GENERIC_DOES = "packets are seen after the driver, merged ones (GRO) count once; nothing changes on the NIC"


class FakeRtnetlink:
    """Plays the part of xtrace.kernel.rtnetlink that attaching uses."""

    def __init__(self) -> None:
        self.now: LinkInfo | None = ETH0
        self.refusal = KernelError("RTM_SETLINK", errno.EOPNOTSUPP, error_name(errno.EOPNOTSUPP), "driver says no")
        self.takes = False
        self.done: list[tuple[str, int, int]] = []

    def link(self, socket: NetlinkSocket, wanted: str | int) -> LinkInfo | None:
        assert wanted == ETH0.index
        return self.now

    def xdp_attach(self, socket: NetlinkSocket, ifindex: int, prog_fd: int, flags: int) -> None:
        self.done.append(("attach", ifindex, flags))
        if not self.takes:
            raise self.refusal

    def xdp_detach(self, socket: NetlinkSocket, ifindex: int, expected_prog_fd: int, flags: int) -> None:
        assert expected_prog_fd == PROGRAM.fileno()
        self.done.append(("detach", ifindex, flags))


@pytest.fixture(autouse=True)
def interfaces(monkeypatch: pytest.MonkeyPatch) -> FakeRtnetlink:
    fake = FakeRtnetlink()
    for name in ("link", "xdp_attach", "xdp_detach"):
        monkeypatch.setattr(rtnetlink, name, getattr(fake, name))
    monkeypatch.setattr(attach_module, "driver", lambda name: "")
    return fake


@pytest.fixture
def attached(kernel: FakeKernel) -> Iterator[Callable[..., tuple[Attachment, list[str]]]]:
    """Attaches and tells what was said; detached afterwards."""
    made: list[Attachment] = []

    def run(mode: str, link: LinkInfo = ETH0) -> tuple[Attachment, list[str]]:
        said: list[str] = []
        made.append(attach(NETLINK, link, PROGRAM, mode, True, said.append))
        return made[-1], said

    yield run
    for attachment in made:
        attachment.close()


def refused(mode: str, link: LinkInfo = ETH0) -> tuple[str, list[str]]:
    """The error's text and what was said before."""
    said: list[str] = []
    with pytest.raises(InterfaceError) as caught:
        attach(NETLINK, link, PROGRAM, mode, True, said.append)
    return str(caught.value), said


def flags_tried(kernel: FakeKernel) -> list[int]:
    return [arguments[3] for arguments in kernel.arguments_of("xt_link_create")]


def test_auto_takes_native_where_the_driver_has_it(attached: Any, kernel: FakeKernel) -> None:
    attachment, said = attached("auto")
    assert (attachment.mode, attachment.frags, flags_tried(kernel)) == ("native", True, [NATIVE])
    assert said == [f"attaching native XDP to eth0: {WHAT_NATIVE_DOES}"]


def test_auto_falls_to_generic_with_the_kernels_own_reason(
    attached: Any, kernel: FakeKernel, interfaces: FakeRtnetlink
) -> None:
    kernel.answer("xt_link_create", -errno.EOPNOTSUPP, 0)
    attachment, said = attached("auto")
    assert (attachment.mode, flags_tried(kernel)) == ("generic", [NATIVE, GENERIC])
    assert said == [
        f"attaching native XDP to eth0: {WHAT_NATIVE_DOES}",
        "native XDP refused on eth0: driver says no; using generic XDP, which costs more per packet",
        f"attaching generic XDP to eth0: {WHAT_GENERIC_DOES}",
    ]
    assert interfaces.done == [("attach", 4, NATIVE)]


def test_generic_mode_never_touches_the_driver(attached: Any, kernel: FakeKernel) -> None:
    attachment, said = attached("generic")
    assert (attachment.mode, flags_tried(kernel)) == ("generic", [GENERIC])
    assert said == [f"attaching generic XDP to eth0: {WHAT_GENERIC_DOES}"]


def test_native_mode_never_falls_to_generic(kernel: FakeKernel) -> None:
    kernel.answer("xt_link_create", -errno.EOPNOTSUPP)
    told, _ = refused("native")
    assert told == "eth0: native XDP refused: driver says no; try --xdp-mode generic"
    assert flags_tried(kernel) == [NATIVE]


def test_interface_that_takes_no_mode_at_all_is_refused_with_the_last_reason(kernel: FakeKernel) -> None:
    kernel.answer("xt_link_create", -errno.EINVAL)
    told, said = refused("auto")
    assert told == "eth0: auto XDP refused: driver says no; another interface may take it, see -l"
    assert flags_tried(kernel) == [NATIVE, GENERIC]
    assert len(said) == 3


def test_refusal_without_a_text_of_the_kernel_shows_its_error(kernel: FakeKernel, interfaces: FakeRtnetlink) -> None:
    kernel.answer("xt_link_create", -errno.EINVAL)
    interfaces.refusal = KernelError("RTM_SETLINK(XDP attach)", errno.EINVAL, error_name(errno.EINVAL))
    told, _ = refused("native")
    assert told.startswith("eth0: native XDP refused: RTM_SETLINK(XDP attach): EINVAL (Invalid argument); ")


def test_program_that_netlink_took_after_all_is_removed_again(kernel: FakeKernel, interfaces: FakeRtnetlink) -> None:
    kernel.answer("xt_link_create", -errno.EINVAL)
    interfaces.takes = True
    told, _ = refused("native")
    assert interfaces.done == [("attach", 4, NATIVE), ("detach", 4, NATIVE)]
    assert "BPF_LINK_CREATE(xdp_ingress, ifindex 4): EINVAL (Invalid argument)" in told


OWNER_NAMED = (
    "eth0: XDP program id 77 is attached there (native), and is not replaced:"
    " `bpftool prog show id 77` tells what it is; stop its owner, or choose another interface"
)


@pytest.mark.parametrize("mode", ["auto", "native", "generic"])
def test_another_owners_program_is_named_and_not_replaced(
    mode: str, kernel: FakeKernel, interfaces: FakeRtnetlink
) -> None:
    assert refused(mode, OWNED) == (OWNER_NAMED, [])
    assert kernel.calls == []
    assert interfaces.done == []


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EEXIST])
@pytest.mark.parametrize("mode", ["auto", "native", "generic"])
def test_owner_that_came_first_by_a_moment_is_named_and_not_replaced(
    number: int, mode: str, kernel: FakeKernel, interfaces: FakeRtnetlink
) -> None:
    kernel.answer("xt_link_create", -number)
    interfaces.now = OWNED
    told, _ = refused(mode)
    assert told == OWNER_NAMED
    assert len(kernel.calls) == 1
    assert interfaces.done == []


def test_busy_without_an_owner_shows_the_kernels_reason(kernel: FakeKernel) -> None:
    kernel.answer("xt_link_create", -errno.EBUSY)
    told, _ = refused("native")
    assert "native XDP refused: driver says no" in told


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL, errno.EBUSY])
def test_interface_that_vanishes_meanwhile_is_said_to_have_vanished(
    number: int, kernel: FakeKernel, interfaces: FakeRtnetlink
) -> None:
    kernel.answer("xt_link_create", -number)
    interfaces.now = None
    told, _ = refused("auto")
    assert told == "eth0: the interface vanished while attaching"
    assert len(kernel.calls) == 1


def test_missing_permission_is_no_refusal_of_the_interface(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, interfaces: FakeRtnetlink
) -> None:
    monkeypatch.setattr("xtrace.kernel.privileges._cause", lambda: "that is why")
    kernel.answer("xt_link_create", -errno.EPERM)
    with pytest.raises(PrivilegeError, match=r"BPF_LINK_CREATE\(xdp_ingress, ifindex 4\): EPERM .*: that is why$"):
        attach(NETLINK, ETH0, PROGRAM, "auto", True, lambda line: None)
    assert flags_tried(kernel) == [NATIVE]
    assert interfaces.done == []


def test_closing_detaches_before_it_releases(kernel: FakeKernel) -> None:
    with closing(attach(NETLINK, ETH0, PROGRAM, "native", True, lambda line: None)):
        assert kernel.calls == ["xt_link_create"]
    assert kernel.calls == ["xt_link_create", "xt_link_detach", "xt_close"]


def test_interface_without_an_owner_is_not_refused() -> None:
    refuse_if_owned(ETH0)


@pytest.mark.parametrize(
    "link, named, told",
    [
        (ETH0, "mlx5_core", WHAT_NATIVE_DOES),
        (ETH0, "", WHAT_NATIVE_DOES),
        (ETH0, "virtio_net", "its queues may restart and LRO goes off while attached"),
        (replace(ETH0, kind="veth"), "", "its peer stops segmentation offload (GSO) while attached"),
        (replace(ETH0, kind="tun"), "", "frames are copied into new buffers while attached"),
    ],
)
def test_effect_of_native_xdp_is_that_of_the_driver(
    link: LinkInfo, named: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach_module, "driver", lambda name: named)
    assert effect(link, "native") == told
    assert effect(link, "generic") == WHAT_GENERIC_DOES


def test_driver_is_read_from_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drivers" / "virtio_net").mkdir(parents=True)
    (tmp_path / "eth0" / "device").mkdir(parents=True)
    (tmp_path / "eth0" / "device" / "driver").symlink_to(tmp_path / "drivers" / "virtio_net")
    (tmp_path / "br0").mkdir()
    monkeypatch.setattr(attach_module, "Path", lambda path: {"/sys/class/net": tmp_path}[path])
    assert [driver(name) for name in ("eth0", "br0", "gone0")] == ["virtio_net", "", ""]

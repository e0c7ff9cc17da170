"""What the paths of control groups tell: the layouts of runtimes, by both drivers and nested."""

from __future__ import annotations

import pytest

from xtrace.kernel.cgroup_paths import NOWHERE, Place, outer_part, place_in, place_of

ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
POD = "0a1b2c3d-0000-1111-2222-333344445555"
STATIC_POD = "0a1b2c3d" * 4
SCOPE, CONMON = f"crio-{ID}.scope", f"libpod-conmon-{ID}.scope"


@pytest.mark.parametrize(
    "path, container, pod, unit",
    [
        ("/", None, None, None),
        ("/user.slice/user-1000.slice/session-3.scope", None, None, "session-3.scope"),
        ("/system.slice/nginx.service", None, None, "nginx.service"),
        (f"/docker/{ID}", ID, None, None),
        (f"/system.slice/docker-{ID}.scope", ID, None, f"docker-{ID}.scope"),
        (f"/docker/{ID}/docker/{OTHER_ID}", OTHER_ID, None, None),
        (f"/machine.slice/libpod-{ID}.scope/container", ID, None, f"libpod-{ID}.scope"),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
            f"{POD.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
            ID,
            POD,
            f"cri-containerd-{ID}.scope",
        ),
        (f"/kubepods/besteffort/pod{POD}/{ID}", ID, POD, None),
        (f"/kubepods/burstable/pod{STATIC_POD}/{ID}", ID, STATIC_POD, None),
        (f"/kubepods/burstable/pod{STATIC_POD}0/{ID}", ID, None, None),
        (
            f"/system.slice/containerd.service/kubepods-pod{POD.replace('-', '_')}.slice:cri-containerd:{ID}",
            ID,
            POD,
            "containerd.service",
        ),
        (f"/kubelet.slice/kubelet-kubepods.slice/kubepods-pod{POD}.slice/crio-{ID}.scope/container", ID, POD, SCOPE),
        (f"/kubepods/pod{POD}/crio-{ID}", ID, POD, None),
        (f"/kubepods/pod{POD}/crio-conmon-{ID}", None, POD, None),
        (f"/system.slice/crio-conmon-{ID}.scope", None, None, f"crio-conmon-{ID}.scope"),
        (f"/machine.slice/libpod-conmon-{ID}.scope", None, None, f"libpod-conmon-{ID}.scope"),
        (f"/machine.slice/machine-libpod_pod_{OTHER_ID}.slice/libpod-conmon-{ID}.scope", None, None, CONMON),
        (f"/machine.slice/machine-libpod_pod_{OTHER_ID}.slice/libpod-{ID}.scope", ID, None, f"libpod-{ID}.scope"),
        ("/libpod_parent/conmon", None, None, None),
        (f"/libpod_parent/{OTHER_ID}/conmon", None, None, None),
        (f"/libpod_parent/{OTHER_ID}/libpod-{ID}", ID, None, None),
        # a process in a container does not leave it by what it calls a group
        (f"/system.slice/docker-{ID}.scope/conmon", ID, None, f"docker-{ID}.scope"),
        (f"/system.slice/docker-{ID}.scope/x-conmon-y", ID, None, f"docker-{ID}.scope"),
        (f"/libpod_parent/libpod-{ID}/conmon", ID, None, None),
        (f"/docker/{ID}/libpod_parent/{OTHER_ID}", ID, None, None),
        (f"/docker/{ID}/crio-conmon-{OTHER_ID}", ID, None, None),
        (f"/docker/{ID}/{CONMON}", ID, None, CONMON),
        (f"/docker/{ID}/crio-conmon-{ID}/x", ID, None, None),
        (f"/docker/{ID}/conmon-{OTHER_ID}x", OTHER_ID, None, None),
        (f"/system.slice/web.service/libpod-payload-{ID}", ID, None, "web.service"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ID, None, f"libpod-{ID}.scope"),
        (f"/system.slice/nerdctl-{ID}.scope", ID, None, f"nerdctl-{ID}.scope"),
        (f"/default/{ID}", ID, None, None),
        (f"/docker/{ID}/kubelet/kubepods/pod{POD}/{OTHER_ID}", OTHER_ID, POD, None),
        (f"/lxc.payload.web/docker/{ID}", ID, None, None),
        (f"/lxc.monitor.web/{ID}0", None, None, None),
        (
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator",
            None,
            None,
            "machine-qemu\\x2d1\\x2dvm.scope",
        ),
        ("/user.slice/user@1000.service/app.slice/machine-web.scope", None, None, "machine-web.scope"),
    ],
)
def test_path_tells_container_pod_and_unit(path: str, container: str | None, pod: str | None, unit: str | None) -> None:
    assert place_of(path) == Place(path, container, pod, unit)


@pytest.mark.parametrize(
    "path, name, unit",
    [
        ("/lxc.payload.web/system.slice/nginx.service", "web", "nginx.service"),
        ("/lxc.payload", None, None),
        ("/lxc/101/ns/system.slice/cron.service", "101", "cron.service"),
        (f"/docker/{ID}/lxc.payload.inner", "inner", None),
        (f"/lxc.payload.web/crio-conmon-{ID}", "web", None),
        ("/lxc/conmon", "conmon", None),
        # libvirt's containers: what machinectl calls them
        ("/machine.slice/machine-lxc\\x2d4711\\x2dweb.scope", "lxc-4711-web", "machine-lxc\\x2d4711\\x2dweb.scope"),
        ("/machine.slice/machine-my\\x2dbox.scope/payload", "my-box", "machine-my\\x2dbox.scope"),
        ("/machine.slice/systemd-nspawn@box.service/payload/init.scope", "box", "init.scope"),
        ("/machine.slice/machine-a\\x1b\\xff.scope", "a??", "machine-a\\x1b\\xff.scope"),
    ],
)
def test_container_without_an_id_has_the_name_in_its_path(path: str, name: str | None, unit: str | None) -> None:
    assert place_of(path) == Place(path, None, None, unit, name)


@pytest.mark.parametrize(
    "outer, inner",
    [
        (f"/docker/{ID}", ""),
        (f"/docker/{ID}", f"/docker/{OTHER_ID}"),
        (f"/system.slice/docker-{ID}", f".scope/kubelet/kubepods/pod{POD}/{OTHER_ID}"),
        (f"/kubepods/pod{POD}/{ID}", f"/user@0.service/{OTHER_ID}"),
        (f"/libpod_parent/{OTHER_ID}/libpod-{ID}", "/container"),
        ("/lxc.payload.web", f"/docker/{ID}"),
        ("/machine.slice/systemd-nspawn@box.service", "/payload/lxc/x"),
        ("/user.slice/user-1000.slice", f"/user@1000.service/app.slice/{ID}"),
        ("/user.slice/user-1000.slice", f"/user@1000.service/pod{POD}"),
        ("/user.slice/user-1000.slice", "/user@1000.service"),
        ("/system.slice/web.service", ""),
        ("/", ""),
    ],
)
def test_outer_part_ends_where_others_choose_the_names(outer: str, inner: str) -> None:
    assert outer_part(outer + inner) == outer


@pytest.mark.parametrize(
    "groups, place",
    [
        (f"0::/docker/{ID}\n", Place(f"/docker/{ID}", ID)),
        (f"2:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n", Place(f"/docker/{ID}", ID)),
        (f"2:name=systemd:/machine.slice/libpod-conmon-{ID}.scope\n0::/\n", NOWHERE),
        ("0::/lxc/a:b\n", Place("/lxc/a:b", container_name="a:b")),
        ("0::/user.slice\n", NOWHERE),
        ("", NOWHERE),
    ],
)
def test_a_process_is_where_any_of_its_hierarchies_says(groups: str, place: Place) -> None:
    assert place_in(groups.encode()) == place

"""What the kernel can do is tried, one feature at a time, and can be switched off for tests."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeKernel
from tests.unit.make import features as having
from xtrace.errors import UsageError
from xtrace.kernel import constants, features
from xtrace.kernel.features import SWITCH, probe
from xtrace.kernel.syscall import ffi

ENOTSUPP = 524
"""The kernel's own number, which never had a name in user space."""


@pytest.fixture(autouse=True)
def plain_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing switched off, no PREEMPT_RT; returns what stands for /sys/kernel/realtime."""
    monkeypatch.delenv(SWITCH, raising=False)
    realtime = tmp_path / "realtime"
    monkeypatch.setattr(features, "Path", lambda path: {"/sys/kernel/realtime": realtime}[path])
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(version="#1 SMP PREEMPT_DYNAMIC Debian"))
    return realtime


@pytest.fixture
def new(kernel: FakeKernel) -> FakeKernel:
    """A kernel that knows all of it; no interface has the index that TCX is tried with."""
    kernel.answer("xt_link_create", -errno.ENODEV)
    return kernel


def test_new_kernel_has_everything(new: FakeKernel) -> None:
    assert probe() == having(btf=True)
    assert probe().names() == ["btf", "frags", "links", "tcx", "percpu_batch", "cmpxchg", "ipsec"]


CAS = features.COMPARE_AND_SWAP
RETURN_2 = bytes.fromhex("b700000002000000 9500000000000000")
CALL_66 = bytes.fromhex(
    "b702000000000000 bfa3000000000000 07030000e0ffffff b70400001c000000 b705000000000000 8500000042000000"
    "b700000000000000 9500000000000000"
)
"""bpf_skb_get_xfrm_state()"""


def test_trials_are_small_programs_with_frags_and_at_tcx_and_an_empty_batch(new: FakeKernel) -> None:
    kinds: list[tuple[int, int, int, bytes]] = []

    def load(request: Any) -> int:
        code = bytes(ffi.buffer(ffi.cast("char *", request.insns), 8 * request.insn_cnt))
        kinds.append((request.prog_type, request.expected_attach_type, request.prog_flags, code))
        return 0

    def batch(fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any) -> int:
        assert count[0] == 0
        return 0

    new.answer("xt_prog_load", load)
    new.answer("xt_map_lookup_batch", batch)
    assert probe() == having(btf=True)
    xdp, tc = (6, 37, constants.PROG_HAS_FRAGS, RETURN_2), (3, 0, 0, RETURN_2)
    assert kinds == [xdp, tc, (6, 37, 0, CAS), (3, 0, 0, CALL_66)]
    assert CAS[24:26] == bytes([0xDB, 0x1A])  # BPF_STX | BPF_DW | BPF_ATOMIC


def test_kernel_without_the_helper_does_not_say_what_it_decrypted(new: FakeKernel) -> None:
    new.answer("xt_prog_load", 0, 0, 0, -errno.EINVAL)
    assert probe() == having(btf=True, ipsec=False)


def test_trial_of_tcx_can_reach_no_interface(new: FakeKernel) -> None:
    probe()
    ((_, ifindex, attach_type, flags),) = new.arguments_of("xt_link_create")
    assert (ifindex, attach_type, flags) == (2**31 - 1, constants.ATTACH_TYPE_TCX_INGRESS, 0)


def test_kernel_without_compare_and_swap_refuses_the_program_that_has_it(new: FakeKernel) -> None:
    new.answer("xt_prog_load", 0, 0, -errno.EINVAL, 0)
    assert probe() == having(btf=True, cmpxchg=False)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.E2BIG, errno.EPERM])
def test_kernel_that_refuses_the_flag_has_no_frags(number: int, new: FakeKernel) -> None:
    new.answer("xt_prog_load", -number, 0)
    assert probe() == having(btf=True, frags=False)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM])
def test_kernel_that_does_not_ask_for_the_interface_has_no_tcx(number: int, kernel: FakeKernel) -> None:
    kernel.answer("xt_link_create", -number)
    assert probe() == having(btf=True, tcx=False)


def test_kernel_without_tc_programs_has_no_tcx(new: FakeKernel) -> None:
    new.answer("xt_prog_load", 0, -errno.EINVAL, 0, -errno.EINVAL)
    assert probe() == having(btf=True, tcx=False, ipsec=False)
    assert new.arguments_of("xt_link_create") == []


@pytest.mark.parametrize(
    "result, there", [(0, True), (-errno.EFAULT, True), (-ENOTSUPP, False), (-errno.EINVAL, False)]
)
def test_per_cpu_batches_are_there_where_the_command_is_known(result: int, there: bool, new: FakeKernel) -> None:
    new.answer("xt_map_lookup_batch", result)
    assert probe().percpu_batch is there


def test_kernel_without_the_map_has_no_per_cpu_batches(new: FakeKernel) -> None:
    new.answer("xt_map_create", -errno.EPERM)
    assert not probe().percpu_batch
    assert "xt_map_lookup_batch" not in new.calls


@pytest.mark.parametrize("text, expected", [("1\n", True), ("0\n", False), ("", False)])
def test_realtime_kernel_is_recognized_by_its_file(
    text: str, expected: bool, plain_kernel: Path, new: FakeKernel
) -> None:
    plain_kernel.write_text(text)
    assert probe().realtime is expected


@pytest.mark.parametrize(
    "version, expected",
    [("#1 SMP PREEMPT_RT Debian 6.12.9-1", True), ("#1 SMP PREEMPT_DYNAMIC Debian", False), ("#1 SMP", False)],
)
def test_realtime_kernel_without_the_file_is_recognized_by_its_version(
    version: str, expected: bool, new: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(version=version))
    assert probe().realtime is expected


def test_file_goes_before_the_version(plain_kernel: Path, new: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_kernel.write_text("0\n")
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(version="#1 SMP PREEMPT_RT"))
    assert not probe().realtime


@pytest.mark.parametrize("name", ["btf", "frags", "links", "tcx", "percpu_batch", "cmpxchg", "realtime", "ipsec"])
def test_feature_that_is_switched_off_is_absent_and_the_others_stay(
    name: str, plain_kernel: Path, new: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_kernel.write_text("1")
    monkeypatch.setenv(SWITCH, name)
    assert {feature for feature, there in probe()._asdict().items() if not there} == {name}


def test_several_features_are_switched_off_by_comma(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "frags,percpu_batch,btf,tcx,links,cmpxchg,ipsec")
    assert probe().names() == []
    assert kernel.calls == []


def test_unknown_feature_is_refused_and_named(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "frags,tc,atomics")
    with pytest.raises(UsageError, match=r"^XTRACE_FEATURES_OFF: unknown feature atomics, tc$"):
        probe()

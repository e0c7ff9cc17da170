"""What the kernel can do is tried, one feature at a time, and can be switched off for tests."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.errors import UsageError
from xtrace.kernel import constants, features
from xtrace.kernel.features import SWITCH, Features, probe
from xtrace.kernel.syscall import ffi

ENOTSUPP = 524
"""The kernel's own number, which never had a name in user space."""


@pytest.fixture(autouse=True)
def plain_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing switched off, no PREEMPT_RT; returns what stands for /sys/kernel/realtime."""
    monkeypatch.delenv(SWITCH, raising=False)
    realtime = tmp_path / "realtime"
    monkeypatch.setattr(features, "Path", lambda path: {"/sys/kernel/realtime": realtime}[path])
    return realtime


def test_new_kernel_has_everything(kernel: FakeKernel) -> None:
    assert probe() == Features(btf=True, frags=True, percpu_batch=True, realtime=False)
    assert probe().names() == ["btf", "frags", "percpu_batch"]


def test_trials_are_a_small_program_with_frags_and_an_empty_batch(kernel: FakeKernel) -> None:
    def load(request: Any) -> int:
        assert (request.prog_type, request.expected_attach_type) == (6, 37)
        assert request.prog_flags == constants.PROG_HAS_FRAGS
        code = bytes(ffi.buffer(ffi.cast("char *", request.insns), 8 * request.insn_cnt))
        assert code == bytes.fromhex("b700000002000000 9500000000000000")
        return 0

    def batch(fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any) -> int:
        assert count[0] == 0
        return 0

    kernel.answer("xt_prog_load", load)
    kernel.answer("xt_map_lookup_batch", batch)
    assert probe().frags


@pytest.mark.parametrize("number", [errno.EINVAL, errno.E2BIG, errno.EPERM])
def test_kernel_that_refuses_the_flag_has_no_frags(number: int, kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_load", -number)
    assert probe() == Features(btf=True, frags=False, percpu_batch=True, realtime=False)


@pytest.mark.parametrize(
    "result, there", [(0, True), (-errno.EFAULT, True), (-ENOTSUPP, False), (-errno.EINVAL, False)]
)
def test_per_cpu_batches_are_there_where_the_command_is_known(result: int, there: bool, kernel: FakeKernel) -> None:
    kernel.answer("xt_map_lookup_batch", result)
    assert probe().percpu_batch is there


def test_kernel_without_the_map_has_no_per_cpu_batches(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_create", -errno.EPERM)
    assert not probe().percpu_batch
    assert "xt_map_lookup_batch" not in kernel.calls


@pytest.mark.parametrize("text, expected", [("1\n", True), ("0\n", False), ("", False)])
def test_realtime_kernel_says_so_itself(text: str, expected: bool, plain_kernel: Path, kernel: FakeKernel) -> None:
    plain_kernel.write_text(text)
    assert probe().realtime is expected


@pytest.mark.parametrize("name", ["btf", "frags", "percpu_batch", "realtime"])
def test_feature_that_is_switched_off_is_absent_and_the_others_stay(
    name: str, plain_kernel: Path, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_kernel.write_text("1")
    monkeypatch.setenv(SWITCH, name)
    assert {feature for feature, there in vars(probe()).items() if not there} == {name}


def test_several_features_are_switched_off_by_comma(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "frags,percpu_batch,btf")
    assert probe().names() == []
    assert kernel.calls == []


def test_unknown_feature_is_refused_and_named(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "frags,links,atomics")
    with pytest.raises(UsageError, match=r"^XTRACE_FEATURES_OFF: unknown feature atomics, links$"):
        probe()

"""The seam to the kernel: results, error numbers, and what is tried again."""

from __future__ import annotations

import errno
import signal

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.errors import KernelError, error_name
from xtrace.kernel.syscall import EAGAIN_RETRIES, call, close, try_call


def test_result_of_a_call_is_returned(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_freeze", 7)
    assert call("BPF_MAP_FREEZE(flows_a)", kernel.xt_map_freeze, 3) == 7
    assert kernel.arguments == [(3,)]


def test_error_for_want_of_descriptors_says_what_to_do(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_freeze", -errno.EMFILE)
    with pytest.raises(KernelError) as caught:
        call("BPF_MAP_CREATE(flows_a)", kernel.xt_map_freeze, 3)
    assert str(caught.value) == (
        "BPF_MAP_CREATE(flows_a): EMFILE (Too many open files)"
        " (raise the limit: `ulimit -n 4096`, LimitNOFILE= of a service)"
    )


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINTR])
def test_interrupted_call_is_tried_again(number: int, kernel: FakeKernel) -> None:
    kernel.answer("xt_map_freeze", -number, -number, 0)
    assert call("BPF_MAP_FREEZE(flows_a)", kernel.xt_map_freeze, 3) == 0
    assert len(kernel.calls) == 3


def test_call_interrupted_again_and_again_is_given_up(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_freeze", -errno.EAGAIN)
    assert try_call(kernel.xt_map_freeze, 3) == -errno.EAGAIN
    assert len(kernel.calls) == EAGAIN_RETRIES


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOENT, errno.ENOSPC, errno.E2BIG])
def test_other_errors_are_not_tried_again(number: int, kernel: FakeKernel) -> None:
    kernel.answer("xt_map_freeze", -number, 0)
    assert try_call(kernel.xt_map_freeze, 3) == -number
    assert len(kernel.calls) == 1


def test_error_names_call_object_and_error(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_freeze", -errno.EINVAL)
    with pytest.raises(KernelError) as caught:
        call("BPF_MAP_FREEZE(flows_a)", kernel.xt_map_freeze, 3)
    assert str(caught.value) == "BPF_MAP_FREEZE(flows_a): EINVAL (Invalid argument)"
    assert (caught.value.errno, caught.value.call) == (errno.EINVAL, "BPF_MAP_FREEZE(flows_a)")


@pytest.mark.parametrize(
    "number, name",
    [
        (errno.EPERM, "EPERM (Operation not permitted)"),
        (errno.EBUSY, "EBUSY (Device or resource busy)"),
        (524, "errno 524 (Unknown error 524)"),
    ],
)
def test_error_number_has_its_name(number: int, name: str) -> None:
    assert error_name(number) == name


def test_interrupted_close_is_not_tried_again(kernel: FakeKernel) -> None:
    kernel.open.add(7)
    kernel.answer("xt_close", -errno.EINTR)
    close(7)
    assert kernel.calls == ["xt_close"]


def test_signals_interrupt_no_retry_and_are_handled_afterwards() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    blocked = []

    def interrupted_once() -> int:
        blocked.append(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []))
        return 0 if blocked[-1] else -errno.EINTR

    assert try_call(interrupted_once) == 0
    assert blocked == [False, True]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before

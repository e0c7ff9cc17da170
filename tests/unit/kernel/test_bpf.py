"""Maps, programs and links on a played kernel: what is asked for, every way it fails, and nothing left open."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeHash, FakeKernel
from xtrace.errors import KernelError, ObjectError, PrivilegeError, VerifierError, XtraceError
from xtrace.kernel import bpf, constants
from xtrace.kernel.bpf import (
    Batch,
    Fd,
    Link,
    Map,
    Program,
    SharedWord,
    check_possible_cpus,
    kernel_name,
    load_btf,
    possible_cpus,
    program_name,
)
from xtrace.kernel.elf import MapSpec, ProgramSpec, Relocation
from xtrace.kernel.syscall import EAGAIN_RETRIES, ffi

HASH = 1
FLOWS = MapSpec("flows_a", HASH, key_size=2, value_size=3, max_entries=100)
COUNTERS = MapSpec("counters", constants.MAP_TYPE_PERCPU_ARRAY, key_size=4, value_size=12, max_entries=3)
RODATA = MapSpec("rodata", constants.MAP_TYPE_ARRAY, 4, 8, 1, contents=b"constant", frozen=True)
GRACE = MapSpec(
    "grace",
    constants.MAP_TYPE_ARRAY_OF_MAPS,
    4,
    4,
    1,
    inner=MapSpec("grace.values", constants.MAP_TYPE_ARRAY, 4, 4, 1),
)

LOAD_MAP = struct.pack("<BBhIBBhI", 0x18, 1, 0, 0, 0, 0, 0, 0)
EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
PROGRAM = ProgramSpec(
    name="xdp_ingress",
    section="xdp",
    instructions=LOAD_MAP + EXIT,
    relocations=(Relocation(0, "flows_a", None),),
    kernel_calls=(),
    func_info=bytes(8),
    func_info_rec_size=8,
    line_info=bytes(32),
    line_info_rec_size=16,
)


@pytest.fixture(autouse=True)
def plain_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why EPERM came is test_privileges.py's business."""
    monkeypatch.setattr("xtrace.kernel.privileges._cause", lambda: "that is why")


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "possible_cpus", lambda: (0, 1))


def test_descriptor_is_closed_once_however_often_it_is_asked_to(kernel: FakeKernel) -> None:
    kernel.open.add(7)
    with Fd(7) as owner:
        assert owner.fileno() == 7
        owner.close()
    owner.close()
    assert kernel.calls == ["xt_close"]
    with pytest.raises(ValueError, match="Fd is closed"):
        owner.fileno()


def test_descriptor_is_closed_when_its_block_fails(kernel: FakeKernel) -> None:
    kernel.open.add(7)
    with pytest.raises(ZeroDivisionError), Fd(7):
        raise ZeroDivisionError
    assert kernel.calls == ["xt_close"]


def asked_for(kernel: FakeKernel, function: str) -> list[dict[str, Any]]:
    """Integer fields of every request structure that `function` got, as they were when it was called."""
    seen: list[dict[str, Any]] = []

    def look(request: Any) -> int:
        fields = ffi.typeof(request).item.fields
        seen.append({name: getattr(request, name) for name, member in fields if member.type.kind == "primitive"})
        for name in ("map_name", "prog_name"):
            if hasattr(request, name):
                seen[-1]["name"] = ffi.string(getattr(request, name))
        return 0

    kernel.answer(function, look)
    return seen


def test_map_is_asked_for_as_specified(kernel: FakeKernel) -> None:
    seen = asked_for(kernel, "xt_map_create")
    spec = MapSpec("flows_a", HASH, 48, 40, 65536, flags=1, btf_key_type_id=5, btf_value_type_id=6)
    with Map.create(spec) as made:
        assert made.spec is spec
    assert seen == [
        {
            "map_type": HASH,
            "key_size": 48,
            "value_size": 40,
            "max_entries": 65536,
            "map_flags": 1,
            "inner_map_fd": 0,
            "btf_fd": 0,
            "btf_key_type_id": 0,
            "btf_value_type_id": 0,
            "name": b"flows_a",
        }
    ]


def test_map_has_its_types_where_the_kernel_took_them(kernel: FakeKernel) -> None:
    seen = asked_for(kernel, "xt_map_create")
    spec = MapSpec("flows_a", HASH, 48, 40, 65536, btf_key_type_id=5, btf_value_type_id=6)
    with load_btf(b"types") as btf, Map.create(spec, btf):
        assert (seen[0]["btf_fd"], seen[0]["btf_key_type_id"], seen[0]["btf_value_type_id"]) == (btf.fileno(), 5, 6)


def test_map_of_maps_gets_a_template_that_is_closed_again(kernel: FakeKernel) -> None:
    seen = asked_for(kernel, "xt_map_create")
    with Map.create(GRACE) as made:
        assert kernel.open == {made.fileno()}
    inner, outer = seen
    assert (inner["name"], inner["map_type"], inner["inner_map_fd"]) == (b"grace.values", 2, 0)
    assert (outer["name"], outer["map_type"]) == (b"grace", 12)
    assert outer["inner_map_fd"] == kernel.arguments_of("xt_close")[0][0]


def test_template_is_closed_where_the_map_of_maps_is_refused(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_create", 0, -errno.EINVAL)
    with pytest.raises(KernelError, match=r"^BPF_MAP_CREATE\(grace\): EINVAL"):
        Map.create(GRACE)
    assert kernel.calls == ["xt_map_create", "xt_map_create", "xt_close"]


def test_refused_template_is_named_itself(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_create", -errno.ENOMEM)
    with pytest.raises(KernelError, match=r"^BPF_MAP_CREATE\(grace\.values\): ENOMEM \(Cannot allocate memory\)$"):
        Map.create(GRACE)


def test_constants_are_written_and_then_frozen(kernel: FakeKernel) -> None:
    with Map.create(RODATA):
        pass
    assert kernel.calls == ["xt_map_create", "xt_map_update", "xt_map_freeze", "xt_close"]
    (update,) = kernel.arguments_of("xt_map_update")
    assert update[1:] == (bytes(4), b"constant", 0)


def test_zeroed_variables_need_not_be_written(kernel: FakeKernel) -> None:
    with Map.create(MapSpec("bss", constants.MAP_TYPE_ARRAY, 4, 8, 1, contents=bytes(8))):
        pass
    assert kernel.calls == ["xt_map_create", "xt_close"]


@pytest.mark.parametrize(
    "function, command", [("xt_map_update", "BPF_MAP_UPDATE_ELEM"), ("xt_map_freeze", "BPF_MAP_FREEZE")]
)
def test_map_that_cannot_be_filled_is_closed(function: str, command: str, kernel: FakeKernel) -> None:
    kernel.answer(function, -errno.EINVAL)
    with pytest.raises(KernelError, match=rf"^{command}\(rodata\): EINVAL \(Invalid argument\)$"):
        Map.create(RODATA)
    assert kernel.calls[-1] == "xt_close"


CALLS: dict[str, tuple[str, str, Callable[[], object]]] = {
    "create": ("xt_map_create", "BPF_MAP_CREATE(flows_a)", lambda: Map.create(FLOWS)),
    "update": ("xt_map_update", "BPF_MAP_UPDATE_ELEM(flows_a)", lambda: Map(1, FLOWS).update(b"kk", b"vvv")),
    "batch": ("xt_map_lookup_batch", "BPF_MAP_LOOKUP_BATCH(flows_a)", lambda: list(Map(1, FLOWS).lookup_all())),
    "run": ("xt_prog_test_run", "BPF_PROG_TEST_RUN(flush)", lambda: Program(1, "flush").test_run(bytes(16))),
    "link": ("xt_link_create", "BPF_LINK_CREATE(xdp, ifindex 4)", lambda: Link.attach(Program(1, "xdp"), 4, 37, 4)),
}


@pytest.mark.parametrize("function, what, use", CALLS.values(), ids=CALLS)
def test_missing_permission_is_explained(
    function: str, what: str, use: Callable[[], object], kernel: FakeKernel
) -> None:
    kernel.answer(function, -errno.EPERM)
    with pytest.raises(PrivilegeError) as caught:
        use()
    assert str(caught.value) == f"{what}: EPERM (Operation not permitted): that is why"
    assert caught.value.exit_code == 77


@pytest.mark.parametrize("function, what, use", CALLS.values(), ids=CALLS)
def test_invalid_argument_names_call_and_object(
    function: str, what: str, use: Callable[[], object], kernel: FakeKernel
) -> None:
    kernel.answer(function, -errno.EINVAL)
    with pytest.raises(KernelError) as caught:
        use()
    assert str(caught.value) == f"{what}: EINVAL (Invalid argument)"


@pytest.mark.parametrize("function, what, use", CALLS.values(), ids=CALLS)
def test_interrupted_call_is_given_up_after_a_few_tries(
    function: str, what: str, use: Callable[[], object], kernel: FakeKernel
) -> None:
    kernel.answer(function, -errno.EAGAIN)
    with pytest.raises(KernelError, match="EAGAIN"):
        use()
    assert kernel.calls == [function] * EAGAIN_RETRIES


def lookup(value: bytes) -> Callable[..., int]:
    def answer(fd: int, key: bytes, out: Any) -> int:
        ffi.memmove(out, value, len(value))
        return 0

    return answer


def test_lookup_returns_the_value(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_lookup", lookup(b"abc"))
    assert Map(1, FLOWS).lookup(b"kk") == b"abc"


def test_lookup_of_a_missing_key_is_none(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_lookup", -errno.ENOENT)
    assert Map(1, FLOWS).lookup(b"kk") is None


def test_lookup_that_fails_names_the_map(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_lookup", -errno.EFAULT)
    with pytest.raises(KernelError, match=r"^BPF_MAP_LOOKUP_ELEM\(flows_a\): EFAULT \(Bad address\)$"):
        Map(1, FLOWS).lookup(b"kk")


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize("value_size, element_size", [(1, 16), (7, 16), (8, 16), (9, 32), (176, 352)])
def test_per_cpu_values_are_padded_to_whole_words(value_size: int, element_size: int) -> None:
    spec = MapSpec("counters", constants.MAP_TYPE_PERCPU_ARRAY, 4, value_size, 1)
    assert Map(1, spec).element_size == element_size


@pytest.mark.usefixtures("two_cpus")
def test_value_of_a_per_cpu_map_is_all_cpus_each_in_whole_words(kernel: FakeKernel) -> None:
    values = b"cpu 0 value.\0\0\0\0cpu 1 value.\0\0\0\0"
    kernel.answer("xt_map_lookup", lookup(values))
    assert Map(1, COUNTERS).element_size == 2 * 16
    assert Map(1, COUNTERS).lookup(bytes(4)) == values


ELEMENTS = [bytes([n]) * 32 for n in (1, 2, 3)]


@pytest.mark.usefixtures("two_cpus")
def test_all_elements_of_an_array_come_in_one_batch(kernel: FakeKernel) -> None:
    def answer(fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any, flags: int) -> int:
        assert count[0] == 3
        ffi.memmove(values, b"".join(ELEMENTS), 96)
        return 0

    kernel.answer("xt_map_lookup_batch", answer)
    assert [bytes(element) for element in Map(1, COUNTERS).lookup_all()] == ELEMENTS
    assert len(kernel.calls) == 1


@pytest.mark.usefixtures("two_cpus")
def test_batch_that_was_interrupted_is_not_taken_for_an_empty_array(kernel: FakeKernel) -> None:
    def answer(fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any, flags: int) -> int:
        ffi.memmove(values, b"".join(ELEMENTS[: count[0]]), 32 * count[0])
        return 0

    kernel.answer("xt_map_lookup_batch", failing(errno.EINTR), answer)
    assert [bytes(element) for element in Map(1, COUNTERS).lookup_all()] == ELEMENTS


@pytest.mark.usefixtures("two_cpus")
def test_without_batches_all_elements_come_one_by_one_and_are_the_same(kernel: FakeKernel) -> None:
    def answer(fd: int, key: bytes, out: Any) -> int:
        ffi.memmove(out, ELEMENTS[struct.unpack("=I", key)[0]], 32)
        return 0

    kernel.answer("xt_map_lookup", answer)
    assert list(Map(1, COUNTERS).lookup_all(batched=False)) == ELEMENTS
    assert kernel.calls == ["xt_map_lookup"] * 3


def entries(count: int, first: int = 0) -> list[tuple[bytes, bytes]]:
    return [(struct.pack(">H", n), b"%03d" % (n % 1000)) for n in range(first, first + count)]


def drained(batch: Batch) -> list[tuple[bytes, bytes]]:
    keys, values = bytes(ffi.buffer(batch.keys)), bytes(ffi.buffer(batch.values))
    return [(keys[2 * n : 2 * n + 2], values[3 * n : 3 * n + 3]) for n in range(batch.count)]


def drain(kernel: FakeKernel, buckets: list[list[tuple[bytes, bytes]]], batch: Batch) -> int:
    kernel.answer("xt_map_lookup_and_delete_batch", FakeHash(buckets).drain)
    return Map(1, FLOWS).drain_into(batch)


def test_entries_that_come_with_enoent_are_not_lost(kernel: FakeKernel) -> None:
    batch = Batch(2, 3, capacity=10)
    assert drain(kernel, [entries(3), entries(2, first=3)], batch) == 5
    assert drained(batch) == entries(5)
    assert len(kernel.calls) == 1


def test_empty_table_drains_to_nothing(kernel: FakeKernel) -> None:
    batch = Batch(2, 3, capacity=10)
    assert drain(kernel, [[], []], batch) == 0
    assert (batch.count, batch.capacity) == (0, 10)


def test_bucket_larger_than_the_room_makes_the_batch_grow(kernel: FakeKernel) -> None:
    batch = Batch(2, 3, capacity=2)
    assert drain(kernel, [entries(1), entries(9, first=1)], batch) == 10
    assert drained(batch) == entries(10)
    assert batch.capacity >= 10


def test_table_larger_than_the_batch_comes_whole(kernel: FakeKernel) -> None:
    batch = Batch(2, 3, capacity=4)
    assert drain(kernel, [entries(1, first=n) for n in range(1000)], batch) == 1000
    assert drained(batch) == entries(1000)


def test_next_batch_starts_where_the_last_one_ended(kernel: FakeKernel) -> None:
    table = FakeHash([entries(2), entries(2, first=2), entries(2, first=4)])
    starts: list[int | None] = []

    def watched(fd: int, in_batch: Any, *arguments: Any) -> int:
        starts.append(None if in_batch == ffi.NULL else in_batch[0])
        return table.drain(fd, in_batch, *arguments)

    kernel.answer("xt_map_lookup_and_delete_batch", watched)
    assert Map(1, FLOWS).drain_into(Batch(2, 3, capacity=5)) == 6
    assert starts[:2] == [None, 2]


def test_second_table_is_added_behind_the_first(kernel: FakeKernel) -> None:
    batch = Batch(2, 3, capacity=4)
    assert drain(kernel, [entries(4)], batch) == 4  # which fills it to the last entry
    assert drain(kernel, [entries(3, first=4)], batch) == 3
    assert drained(batch) == entries(7)


@pytest.mark.parametrize("seed", range(30))
def test_every_entry_comes_exactly_once_whatever_the_buckets(seed: int, kernel: FakeKernel) -> None:
    chance = random.Random(seed)
    waiting = entries(chance.randrange(200))
    buckets: list[list[tuple[bytes, bytes]]] = [[] for _ in range(chance.randrange(1, 64))]
    for entry in waiting:
        chance.choice(buckets).append(entry)
    batch = Batch(2, 3, capacity=chance.randrange(1, 20))
    assert drain(kernel, buckets, batch) == len(waiting)
    assert sorted(drained(batch)) == waiting


def failing(number: int) -> Callable[..., int]:
    """A batch that fails: csrc/shim.c then leaves the count alone."""

    def answer(*arguments: Any) -> int:
        return -number

    return answer


def test_interrupted_drain_goes_on_where_it_was(kernel: FakeKernel) -> None:
    table = FakeHash([entries(2), entries(2, first=2), entries(2, first=4)])
    interrupted = failing(errno.EINTR)
    kernel.answer("xt_map_lookup_and_delete_batch", interrupted, table.drain, interrupted, table.drain)
    batch = Batch(2, 3, capacity=3)
    assert Map(1, FLOWS).drain_into(batch) == 6
    assert drained(batch) == entries(6)


def test_error_midway_is_raised_with_the_map_and_keeps_what_came(kernel: FakeKernel) -> None:
    table = FakeHash([entries(2), entries(2, first=2)])
    kernel.answer("xt_map_lookup_and_delete_batch", table.drain, failing(errno.EFAULT))
    batch = Batch(2, 3, capacity=3)
    with pytest.raises(KernelError) as caught:
        Map(1, FLOWS).drain_into(batch)
    assert str(caught.value) == "BPF_MAP_LOOKUP_AND_DELETE_BATCH(flows_a): EFAULT (Bad address)"
    assert drained(batch) == entries(2)
    assert len(kernel.calls) == 2


def test_memory_of_a_map_is_what_its_fdinfo_says(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fdinfo:
        def __init__(self, path: str) -> None:
            assert path == "/proc/self/fdinfo/1"

        def read_text(self) -> str:
            return "pos:\t0\nmap_type:\t1\nmemlock:\t9961472\nmap_id:\t5\n"

    monkeypatch.setattr(bpf, "Path", Fdinfo)
    assert Map(1, FLOWS).memory() == 9961472


def test_memory_of_a_map_is_0_where_fdinfo_does_not_tell() -> None:
    reader, writer = os.pipe()
    try:
        assert Map(reader, FLOWS).memory() == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_type_information_is_taken_at_the_first_try_without_a_log(kernel: FakeKernel) -> None:
    with load_btf(b"types"):
        assert kernel.arguments == [(b"types", 5, ffi.NULL, 0)]


def test_refused_type_information_shows_the_kernels_last_words(kernel: FakeKernel) -> None:
    def explain(btf: bytes, size: int, log: Any, room: int) -> int:
        if room:
            ffi.memmove(log, b"magic: 0xeb9f\nInvalid name\n\n", 28)
        return -errno.EINVAL

    kernel.answer("xt_btf_load", explain)
    with pytest.raises(VerifierError) as caught:
        load_btf(b"types")
    assert str(caught.value) == "BPF_BTF_LOAD: EINVAL (Invalid argument): magic: 0xeb9f | Invalid name"
    assert caught.value.log == "magic: 0xeb9f\nInvalid name\n\n"


def load(kernel: FakeKernel, **options: Any) -> Program:
    with Map(kernel._call("xt_map_create"), FLOWS) as flows:
        return Program.prepare(PROGRAM, {"flows_a": flows}, **options)()


def test_program_is_asked_for_with_its_maps_filled_in(kernel: FakeKernel) -> None:
    seen: list[bytes] = []

    def look(request: Any) -> int:
        seen.append(bytes(ffi.buffer(ffi.cast("char *", request.insns), request.insn_cnt * 8)))
        assert ffi.string(ffi.cast("char *", request.license)) == b"GPL"
        assert (request.prog_type, request.expected_attach_type, request.prog_flags) == (6, 37, 0x20)
        assert (request.log_level, request.log_buf) == (0, ffi.NULL)
        assert (request.prog_btf_fd, request.func_info_cnt, request.line_info_cnt) == (0, 0, 0)
        return 0

    kernel.answer("xt_prog_load", look)
    with load(kernel, flags=constants.PROG_HAS_FRAGS):
        (fd,) = struct.unpack_from("<i", seen[0], 4)
        assert fd == 1001
        assert seen[0][1] >> 4 == 1  # BPF_PSEUDO_MAP_FD
        assert seen[0].endswith(EXIT)


def test_program_has_its_types_where_the_kernel_took_them(kernel: FakeKernel) -> None:
    seen = asked_for(kernel, "xt_prog_load")
    with load_btf(b"types") as btf, load(kernel, btf=btf):
        wanted = {"prog_btf_fd": btf.fileno(), "func_info_cnt": 1, "func_info_rec_size": 8, "line_info_cnt": 2}
        assert {name: seen[0][name] for name in wanted} == wanted


def test_program_whose_map_is_missing_is_not_loaded(kernel: FakeKernel) -> None:
    with pytest.raises(ObjectError, match="flows_a"):
        Program.prepare(PROGRAM, {})()
    assert kernel.calls == []


LOG = """func#0 @0
0: R1=ctx() R10=fp0
0: (61) r2 = *(u32 *)(r1 +0)
1: (71) r0 = *(u8 *)(r2 +0)
invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0)
R2 offset is outside of the packet
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

"""


def refuse(number: int, log: str) -> Callable[[Any], int]:
    def answer(request: Any) -> int:
        if request.log_level:
            assert request.log_size > len(log)
            ffi.memmove(request.log_buf, log.encode() + b"\0", len(log) + 1)
        return -number

    return answer


def test_refused_program_shows_the_verifiers_last_lines_and_keeps_its_whole_log(kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_load", refuse(errno.EACCES, LOG))
    with pytest.raises(VerifierError) as caught:
        load(kernel)
    assert str(caught.value) == (
        "BPF_PROG_LOAD(xdp_ingress): EACCES (Permission denied): 1: (71) r0 = *(u8 *)(r2 +0)"
        " | invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0) | R2 offset is outside of the packet"
    )
    assert caught.value.log == LOG
    assert len(kernel.arguments_of("xt_prog_load")) == 2


def test_program_taken_at_the_second_try_is_no_failure(kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_load", -errno.ENOMEM, 0)
    load(kernel).close()


def test_verifier_interrupted_by_signals_is_asked_again(kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_load", -errno.EAGAIN, -errno.EAGAIN, -errno.EAGAIN, 0)
    load(kernel).close()


def test_verifier_interrupted_again_and_again_is_given_up(kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_load", -errno.EAGAIN)
    with pytest.raises(VerifierError, match=r"^BPF_PROG_LOAD\(xdp_ingress\): EAGAIN"):
        load(kernel)


def test_program_refused_without_a_log_and_permission_is_explained(kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_load", refuse(errno.EPERM, ""))
    with pytest.raises(PrivilegeError) as caught:
        load(kernel)
    assert str(caught.value) == "BPF_PROG_LOAD(xdp_ingress): EPERM (Operation not permitted): that is why"


def test_program_refused_with_a_log_is_the_verifiers_doing_also_with_eperm(kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_load", refuse(errno.EPERM, LOG))
    with pytest.raises(VerifierError, match=r"R2 offset is outside of the packet$"):
        load(kernel)


def test_run_of_a_program_returns_verdict_and_frame(kernel: FakeKernel) -> None:
    def answer(request: Any) -> int:
        assert (request.prog_fd, request.repeat, request.data_size_in) == (1, 3, 16)
        assert request.data_size_out >= 16
        ffi.memmove(request.data_out, b"changed", 7)
        request.data_size_out, request.retval, request.duration = 7, 2, 99
        return 0

    kernel.answer("xt_prog_test_run", answer)
    result = Program(1, "flush").test_run(bytes(16), repeat=3)
    assert (result.verdict, result.frame, result.duration_ns) == (2, b"changed", 99)


def test_run_is_once_and_without_a_context_unless_asked(kernel: FakeKernel) -> None:
    seen = asked_for(kernel, "xt_prog_test_run")
    Program(1, "flush").test_run(bytes(16))
    wanted = {"repeat": 1, "flags": 0, "batch_size": 0, "ctx_size_in": 0}
    assert {name: seen[0][name] for name in wanted} == wanted


def test_run_gets_frame_and_context(kernel: FakeKernel) -> None:
    def answer(request: Any) -> int:
        assert bytes(ffi.buffer(ffi.cast("char *", request.data_in), request.data_size_in)) == b"a frame of bytes"
        assert bytes(ffi.buffer(ffi.cast("char *", request.ctx_in), request.ctx_size_in)) == b"its context"
        return 0

    kernel.answer("xt_prog_test_run", answer)
    Program(1, "flush").test_run(b"a frame of bytes", context=b"its context")


def test_run_with_live_frames_returns_none(kernel: FakeKernel) -> None:
    def answer(request: Any) -> int:
        assert (request.flags, request.batch_size) == (constants.TEST_RUN_LIVE_FRAMES, 64)
        assert (request.data_out, request.data_size_out) == (ffi.NULL, 0)
        return 0

    kernel.answer("xt_prog_test_run", answer)
    flags = constants.TEST_RUN_LIVE_FRAMES
    assert Program(1, "flood").test_run(bytes(16), flags=flags, batch_size=64).frame == b""


@pytest.mark.parametrize(
    "attach_type, flags",
    [
        (constants.ATTACH_TYPE_XDP, constants.XDP_FLAGS_GENERIC),
        (constants.ATTACH_TYPE_XDP, constants.XDP_FLAGS_NATIVE),
        (constants.ATTACH_TYPE_TCX_EGRESS, constants.LINK_BEFORE_ALL),
    ],
)
def test_link_is_made_for_the_interface_and_hook_in_the_mode_asked_for(
    attach_type: int, flags: int, kernel: FakeKernel
) -> None:
    with Link.attach(Program(1, "xdp_ingress"), 4, attach_type, flags):
        assert kernel.arguments == [(1, 4, attach_type, flags)]


def test_program_tells_its_number_among_all(kernel: FakeKernel) -> None:
    def answer(fd: int, info: Any, length: Any) -> int:
        # struct bpf_prog_info, up to its name
        told = struct.pack("=II8sIIQQQIIQ16s", 6, 4711, b"", 0, 0, 0, 0, 0, 0, 0, 0, b"flush")
        assert length[0] == len(told)
        ffi.memmove(info, told, len(told))
        return 0

    kernel.answer("xt_obj_get_info", answer)
    assert Program(7, "xdp_ingress").id() == 4711


@pytest.mark.parametrize("ifindex", [4, 0])
def test_link_tells_its_interface_and_0_once_that_is_gone(ifindex: int, kernel: FakeKernel) -> None:
    def answer(fd: int, info: Any, length: Any) -> int:
        # struct bpf_link_info: type, id, prog_id, padding, xdp.ifindex or tcx.ifindex
        told = struct.pack("=5I", 6, 11, 22, 0, ifindex)
        ffi.memmove(info, told, len(told))
        return 0

    kernel.answer("xt_obj_get_info", answer)
    assert Link(7).ifindex() == ifindex


def test_link_is_detached_by_command_and_stays_open_until_closed(kernel: FakeKernel) -> None:
    with Link.attach(Program(1, "xdp_ingress"), 4, constants.ATTACH_TYPE_XDP, 0) as link:
        link.detach()
        assert kernel.calls == ["xt_link_create", "xt_link_detach"]
        assert kernel.open == {link.fileno()}


def test_link_that_is_closed_is_not_detached_under_a_number_that_may_be_anothers(kernel: FakeKernel) -> None:
    link = Link.attach(Program(1, "xdp_ingress"), 4, constants.ATTACH_TYPE_XDP, 0)
    assert not link.closed
    link.close()
    assert link.closed
    link.detach()
    assert "xt_link_detach" not in kernel.calls


def test_name_of_a_program_is_that_of_its_id_and_its_descriptor_is_closed(kernel: FakeKernel) -> None:
    def answer(fd: int, info: Any, length: Any) -> int:
        # struct bpf_prog_info: the name stands behind map_ids, 64 bytes from the start (uapi/linux/bpf.h)
        told = struct.pack("=II8sIIQQQIIQ16s", 6, 77, b"", 0, 0, 0, 0, 0, 0, 0, 0, b"xdp_ingress")
        ffi.memmove(info, told, len(told))
        return 0

    kernel.answer("xt_obj_get_info", answer)
    assert program_name(77) == "xdp_ingress"
    assert kernel.arguments_of("xt_prog_get_fd_by_id") == [(77,)]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOENT])
def test_program_that_may_not_be_asked_for_its_name_or_is_gone_has_none(number: int, kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_get_fd_by_id", -number)
    assert program_name(77) == ""
    assert kernel.calls == ["xt_prog_get_fd_by_id"]


def test_shared_word_is_read_and_stored_whole_and_unmapped(kernel: FakeKernel) -> None:
    memory = ffi.new("__u32[2]", [1, 77])

    def mapped(fd: int, length: int, offset: int, address: Any) -> int:
        assert (fd, length, offset) == (1, 4, 0)
        address[0] = memory
        return 0

    def store(address: Any, value: int) -> int:
        address[0] = value
        return 0

    kernel.answer("xt_map_mmap", mapped)
    kernel.answer("xt_store_release", store)
    word = SharedWord(Map(1, FLOWS))
    assert word.load() == 1
    word.store(0)
    assert (word.load(), memory[1]) == (0, 77)
    word.close()
    assert kernel.arguments_of("xt_munmap") == [(memory, 4)]


def test_word_that_cannot_be_mapped_names_its_map(kernel: FakeKernel) -> None:
    kernel.answer("xt_map_mmap", -errno.ENODEV)
    with pytest.raises(KernelError, match=r"^mmap\(flows_a\): ENODEV \(No such device\)$"):
        SharedWord(Map(1, FLOWS))


@pytest.mark.parametrize(
    "name, taken",
    [
        ("flows_a", b"flows_a"),
        (".data.active", b".data.active"),
        ("a-name with:odd/letters", b"a_name_with_odd"),
        ("fifteen_letters", b"fifteen_letters"),
        ("sixteen__letters", b"sixteen__letter"),
        ("größe", b"gr__e"),
    ],
)
def test_names_are_made_such_as_the_kernel_takes(name: str, taken: bytes) -> None:
    assert kernel_name(name) == taken


@pytest.mark.parametrize(
    "text, numbers",
    [("0\n", (0,)), ("0-3\n", (0, 1, 2, 3)), ("0-1,4\n", (0, 1, 4)), ("0,2-3,8-9\n", (0, 2, 3, 8, 9))],
)
def test_possible_cpus_are_read_from_the_kernels_list(text: str, numbers: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "possible"
    path.write_text(text)
    assert possible_cpus.__wrapped__(str(path)) == numbers


@pytest.mark.parametrize("has", [1, 2, 3, 128])
def test_list_of_cpus_that_differs_from_the_kernels_values_is_an_error(
    kernel: FakeKernel, two_cpus: None, has: int
) -> None:
    created = asked_for(kernel, "xt_map_create")

    def lookup(fd: int, key: bytes, values: Any) -> int:
        ffi.memmove(values, bytes(8 * has), 8 * has)
        return 0

    kernel.answer("xt_map_lookup", lookup)
    if has == 2:
        check_possible_cpus()
    else:
        with pytest.raises(XtraceError, match=f"^{bpf.POSSIBLE_CPUS} lists 2 CPUs, but the kernel has {has}: "):
            check_possible_cpus()
    made = [(request["map_type"], request["value_size"], request["max_entries"]) for request in created]
    assert made == [(constants.MAP_TYPE_PERCPU_ARRAY, 8, 1)]
    assert not kernel.open


EXPLAINED = """0: R1=ctx() R10=fp0
0: (95) exit
R0 !read_ok

Verification failed: Register Type Safety: Unreadable register

Reason:
  R0 has never been initialized on this path, so the verifier cannot use it as an input.

Suggestion:
  Initialize R0 on every path before this instruction.

processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
"""What Linux 7.3 says."""


def test_explanation_that_newer_verifiers_add_is_in_the_log_and_not_in_the_line() -> None:
    error = VerifierError("BPF_PROG_LOAD(raw)", errno.EACCES, EXPLAINED)
    assert (
        str(error) == "BPF_PROG_LOAD(raw): EACCES (Permission denied): 0: R1=ctx() R10=fp0 | 0: (95) exit | R0 !read_ok"
    )
    assert error.log == EXPLAINED

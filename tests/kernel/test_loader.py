"""Maps, programs and type information in the real kernel: what it takes, what it refuses, and what is said then."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.case import flow4, over_ipv4
from tests.kernel.counter import MAX_FLOWS, Counter, counting, present
from tests.support.build import compile_bpf
from tests.support.frames import ACK, SYN, TCP, tcp
from xtrace.errors import KernelError, VerifierError, XtraceError
from xtrace.kernel import bpf
from xtrace.kernel.bpf import Batch, Fd, Map, Program, load_btf
from xtrace.kernel.elf import MapSpec, ProgramSpec
from xtrace.kernel.syscall import ffi
from xtrace.monitors.flows import plan as sizes
from xtrace.monitors.flows import tables
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import FlowTables, load_object_spec

MAP_TYPE_HASH = 1
SMALL = Plan.make(100)


def words(count: int) -> MapSpec:
    """A hash map of 32-bit keys and values."""
    return MapSpec("words", MAP_TYPE_HASH, 4, 4, count)


# refused programs


def refusal(spec: ProgramSpec, btf: Fd | None = None) -> VerifierError:
    with pytest.raises(VerifierError) as refused:
        Program.prepare(spec, {}, btf=btf)().close()
    return refused.value


def raw_program(code: str) -> ProgramSpec:
    return ProgramSpec("raw", "xdp", bytes.fromhex(code), (), (), b"", 8, b"", 16)


def test_refused_program_names_its_source_line() -> None:
    spec = compile_bpf(Path(__file__).parent / "refused.c")
    with load_btf(spec.btf) as btf:
        error = refusal(spec.programs["unchecked"], btf)
    assert error.errno == errno.EACCES
    assert str(error).startswith("BPF_PROG_LOAD(unchecked): EACCES (Permission denied): ")
    assert "invalid access to packet" in str(error)
    assert "return *(__u8 *)(long)ctx->data;" in error.log


def test_program_refused_before_it_is_walked_names_einval_and_the_reason() -> None:
    error = refusal(raw_program("0500050000000000 9500000000000000"))  # goto +5; exit
    assert error.errno == errno.EINVAL
    assert str(error).startswith("BPF_PROG_LOAD(raw): EINVAL (Invalid argument): ")
    assert "jump out of range" in str(error)


def test_refusal_is_one_line_without_the_verifiers_statistics() -> None:
    error = refusal(raw_program("9500000000000000"))  # exit; r0 was never set
    assert str(error).splitlines() == [str(error)]
    assert str(error).endswith("R0 !read_ok")
    assert "processed" in error.log


def test_program_with_a_long_name_loads() -> None:
    code = bytes.fromhex("b700000002000000 9500000000000000")
    name = "a_name_longer_than_the_kernel_takes"
    with Program.prepare(ProgramSpec(name, "xdp", code, (), (), b"", 8, b"", 16), {})() as program:
        assert program.test_run(bytes(14)).verdict == 2
        assert bpftool("prog", "show", "id", str(kernel_id(program, "prog")))["name"] == name[:15]


# refused maps


def test_map_without_entries_is_refused_by_name() -> None:
    with pytest.raises(KernelError) as refused:
        Map.create(load_object_spec(mapped=False).maps["flows_a"]._replace(max_entries=0)).close()
    assert str(refused.value) == "BPF_MAP_CREATE(flows_a): EINVAL (Invalid argument)"


def test_failed_start_names_the_map_and_leaves_nothing_open() -> None:
    with pytest.raises(KernelError, match=r"^BPF_MAP_CREATE\(flows_a\): E"):
        FlowTables(SMALL._replace(max_flows=0), present()._replace(cmpxchg=False)).close()


def test_refused_helper_program_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_object_spec(present().cmpxchg)
    broken = spec._replace(programs={**spec.programs, "sample_clock": raw_program("9500000000000000")})
    monkeypatch.setattr(tables, "load_object_spec", lambda mapped: broken)
    with pytest.raises(VerifierError, match=r"^BPF_PROG_LOAD\(raw\)"):
        FlowTables(SMALL, present()._replace(btf=False)).close()


def test_constants_cannot_be_changed_once_they_are_set() -> None:
    spec = load_object_spec().maps["rodata"]
    with Map.create(spec) as rodata:
        before = rodata.lookup(bytes(4))
        with pytest.raises(XtraceError, match=r"^BPF_MAP_UPDATE_ELEM\(rodata\): EPERM"):
            rodata.update(bytes(4), b"\xff" * spec.value_size)
        assert rodata.lookup(bytes(4)) == before == spec.contents


def test_lookup_of_a_key_that_is_not_there_is_none() -> None:
    with Map.create(words(1)) as one:
        assert one.lookup(b"none") is None
        one.update(b"none", b"some")
        assert one.lookup(b"none") == b"some"


# drain


@pytest.mark.parametrize("capacity", [1, 2, 3, 100, 999, 1000, 1001])
def test_drain_grows_a_batch_that_is_too_small(capacity: int) -> None:
    entries = {number.to_bytes(4, "little"): (number * 7).to_bytes(4, "little") for number in range(1000)}
    batch = Batch(4, 4, capacity)
    with Map.create(words(1000)) as numbers:
        for key, value in entries.items():
            numbers.update(key, value)
        assert numbers.drain_into(batch) == 1000
        assert numbers.lookup(bytes(4)) is None
    assert drained(batch) == entries


def test_drain_appends_to_what_the_batch_holds() -> None:
    batch = Batch(4, 4, 4)
    with Map.create(words(10)) as numbers:
        assert numbers.drain_into(batch) == 0
        for first in (0, 4, 8):
            for number in range(first, first + 4):
                numbers.update(bytes([number] * 4), bytes([number] * 4))
            assert numbers.drain_into(batch) == 4
    assert drained(batch) == {bytes([number] * 4): bytes([number] * 4) for number in range(12)}


def drained(batch: Batch) -> dict[bytes, bytes]:
    """The entries of a batch with 4-byte keys and values, no key twice."""
    keys, values = bytes(ffi.buffer(batch.keys)), bytes(ffi.buffer(batch.values))
    found = {keys[i : i + 4]: values[i : i + 4] for i in range(0, 4 * batch.count, 4)}
    assert len(found) == batch.count
    return found


# what the kernel's tools show


def kernel_id(owner: Fd, kind: str) -> int:
    """The kernel's number of a map or program, from the descriptor's fdinfo."""
    fdinfo = Path(f"/proc/self/fdinfo/{owner.fileno()}").read_text()
    found = re.search(rf"^{kind}_id:\s*(\d+)$", fdinfo, re.MULTILINE)
    assert found, fdinfo
    return int(found.group(1))


def bpftool(*arguments: str) -> Any:
    return json.loads(subprocess.check_output(["bpftool", "-j", *arguments]))


@pytest.fixture(scope="module", params=["hash maps", "shared memory"])
def visible(request: pytest.FixtureRequest) -> Iterator[Counter]:
    """One flow in its table: no CPU keeps recent flows."""
    mapped = request.param == "shared memory"
    if mapped and not present().cmpxchg:
        pytest.xfail("this kernel has no compare-and-swap in BPF")
    with counting(SMALL._replace(recent_cpus=0), present()._replace(cmpxchg=mapped)) as counter:
        counter.count(over_ipv4(TCP, tcp(40000, 80, SYN | ACK)), repeat=3)
        yield counter


def test_kernel_shows_a_flow_with_the_names_of_its_fields(visible: Counter) -> None:
    mapped = visible.tables.features.cmpxchg
    number = kernel_id(visible.tables._maps["flows" if mapped else "flows_a"], "map")
    entry = bpftool("map", "dump", "id", str(number))[0]["formatted"]
    key, value = (entry["value"]["key"], entry["value"]["counters"]) if mapped else (entry["key"], entry["value"])
    flow = flow4(TCP, 40000, 80)
    assert (bytes(key["src"]), bytes(key["dst"])) == (flow.src, flow.dst)
    assert key[""][""] == {"src_port": 40000, "dst_port": 80}
    assert {name: key[name] for name in ("vlan_id", "ethertype", "slot", "protocol", "opcode", "flags")} == {
        "vlan_id": 0,
        "ethertype": 0x0800,
        "slot": 0,
        "protocol": TCP,
        "opcode": 0,
        "flags": 0,
    }
    if mapped:  # what its owner counted stands in the index
        number = kernel_id(visible.tables._maps["flow_index"], "map")
        value = bpftool("map", "dump", "id", str(number))[entry["value"]["place"] - 1]["formatted"]["value"]["counters"]
    assert (value["packets"], value["bytes"]) == (3, 3 * 54)


def test_kernel_shows_the_maps_by_name(visible: Counter) -> None:
    for name, owner in visible.tables._maps.items():
        shown = bpftool("map", "show", "id", str(kernel_id(owner, "map")))
        assert shown["name"] == name[:15]  # the kernel takes no more


def test_kernel_shows_the_constants_with_their_names(visible: Counter) -> None:
    shown = bpftool("prog", "show", "id", str(kernel_id(visible.program, "prog")))
    maps = [bpftool("map", "show", "id", str(number)) for number in shown["map_ids"]]
    (rodata,) = [found for found in maps if found["name"] == "rodata"]
    assert rodata["frozen"] == 1
    ((section,),) = [entry["formatted"]["value"].values() for entry in bpftool("map", "dump", "id", str(rodata["id"]))]
    constants = {name: value for variable in section for name, value in variable.items()}
    assert (constants["reads_plain"], constants["max_flows"]) == (1, SMALL.max_flows)
    assert constants["index_places"] == SMALL.index_places


def test_kernel_shows_the_programs_source_lines(visible: Counter) -> None:
    number = str(kernel_id(visible.program, "prog"))
    code = subprocess.check_output(["bpftool", "prog", "dump", "xlated", "id", number, "linum"], text=True)
    lines = {int(line) for line in re.findall(r"csrc/xdp_monitor\.c line_num:(\d+)", code)}
    source = (Path(__file__).parents[2] / "csrc/xdp_monitor.c").read_text().splitlines()
    assert len(lines) > 10
    assert any("(long)ctx->data_end" in source[line - 1] for line in lines)
    assert "csrc/parse.h" in code


# CPUs


def test_list_of_cpus_that_is_not_the_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's own /sys may list others; the kernel would write beyond the buffers of per-CPU maps."""
    cpus = len(bpf.possible_cpus())
    bpf.check_possible_cpus()
    monkeypatch.setattr(bpf, "possible_cpus", lambda: tuple(range(cpus + 1)))
    with pytest.raises(XtraceError, match=f"lists {cpus + 1} CPUs, but the kernel has {cpus}: "):
        FlowTables(SMALL, present())


# memory


def test_default_maps_take_at_most_64_megabytes(counter: Counter) -> None:
    assert 0 < counter.tables.memory() <= 64 << 20


def kernel_release() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


def test_planned_memory_is_not_less_than_the_kernel_charges(counter: Counter) -> None:
    planned, charged = counter.tables.plan.memory(present().cmpxchg), counter.tables.memory()
    # from 5.11 to 6.3 the kernel tells keys and values only, and of arrays keys that they do not have
    least = 0.7 if kernel_release() < (6, 4) else 0.99
    assert charged * least < planned < charged * 2


def plan_for(cpus: int, monkeypatch: pytest.MonkeyPatch) -> Plan:
    with monkeypatch.context() as patched:
        patched.setattr(sizes, "possible_cpus", lambda: tuple(range(cpus)))
        return Plan.make(MAX_FLOWS)


@pytest.mark.parametrize("cpus", [1, 3, 128, 512])
def test_maps_for_many_cpus_take_at_most_64_megabytes(cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(cpus, monkeypatch)
    assert plan.memory() <= 64 << 20
    assert plan.recent_cpus == cpus
    with closing(FlowTables(plan, present())) as made:
        assert made.memory() <= 64 << 20

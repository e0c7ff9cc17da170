"""Maps, programs and links: thin owners of descriptors returned by bpf()."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, TypeVar

from xtrace.errors import KernelError, VerifierError, XtraceError
from xtrace.kernel import abi, constants, privileges, syscall
from xtrace.kernel.elf import MapSpec, ProgramSpec, link
from xtrace.kernel.immediates import put_constants
from xtrace.kernel.syscall import Arguments, call, close, ffi, lib, try_call

VERIFIER_LOG_SIZE = 1 << 24
"""Bytes for the verifier's log; the kernel accepts at most 2^24 up to Linux 5.15."""

BTF_LOG_SIZE = 1 << 16

BATCH_MARGIN = 64
"""Entries beyond a map's capacity that a batch should have room for: the kernel returns whole hash buckets."""

Owner = TypeVar("Owner", bound="Fd")

new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)
"""As ffi.new(), without zeroing: untouched pages of a large buffer cost no memory."""


class Fd:
    """Owns one file descriptor; `close()` may be called any number of times."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Return the descriptor's number. Raises ValueError once it is closed."""
        if self._number < 0:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._number

    @property
    def closed(self) -> bool:
        """Whether the descriptor has been released."""
        return self._number < 0

    def close(self) -> None:
        """Release the descriptor."""
        number, self._number = self._number, -1
        if number >= 0:
            close(number)

    def __enter__(self: Owner) -> Owner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bpf_call(
    what: str, function: Callable[Arguments, int], *arguments: Arguments.args, **named: Arguments.kwargs
) -> int:
    """Run `syscall.call()`; the error for EPERM names the likely cause."""
    try:
        return call(what, function, *arguments, **named)
    except KernelError as error:
        if error.errno == errno.EPERM:
            raise privileges.explain(error) from error
        raise


def load_btf(btf: bytes) -> Fd:
    """Load type information (BPF_BTF_LOAD), from which the kernel's tools print names.

    Raises VerifierError with the kernel's log if it rejects `btf`.
    """
    result = try_call(syscall.lib.xt_btf_load, btf, len(btf), ffi.NULL, 0)
    if result < 0:
        log = ffi.new("char[]", BTF_LOG_SIZE)
        result = try_call(syscall.lib.xt_btf_load, btf, len(btf), log, BTF_LOG_SIZE)
        if result < 0:
            text = ffi.string(log).decode(errors="replace")
            raise VerifierError("BPF_BTF_LOAD", -result, text)
    return Fd(result)


class Batch:
    """A buffer for `capacity` entries of a map, owned by the caller and filled by `Map.drain_into()`.

    `keys` and `values` are C arrays; `count` entries of each are valid.
    """

    def __init__(self, key_size: int, value_size: int, capacity: int, count: int = 0) -> None:
        self.key_size, self.value_size = key_size, value_size
        self.capacity, self.count = capacity, count
        self.keys = new_uncleared("char[]", capacity * key_size)
        self.values = new_uncleared("char[]", capacity * value_size)

    def grow(self) -> None:
        """Double the capacity, keeping the valid entries."""
        bigger = Batch(self.key_size, self.value_size, self.capacity * 2, self.count)
        ffi.memmove(bigger.keys, self.keys, self.count * self.key_size)
        ffi.memmove(bigger.values, self.values, self.count * self.value_size)
        self.keys, self.values, self.capacity = bigger.keys, bigger.values, bigger.capacity


class Map(Fd):
    """A BPF map. Keys and values are bytes in the kernel's layout."""

    def __init__(self, number: int, spec: MapSpec) -> None:
        super().__init__(number)
        self.spec = spec

    @classmethod
    def create(cls, spec: MapSpec, btf: Fd | None = None) -> Map:
        """Create the map of `spec` (BPF_MAP_CREATE); a data map gets its contents, and is frozen if constant."""
        request = ffi.new("struct xt_map_create *")
        request.map_type = spec.map_type
        request.key_size = spec.key_size
        request.value_size = spec.value_size
        request.max_entries = spec.max_entries
        request.map_flags = spec.flags
        request.map_name = kernel_name(spec.name)
        if btf is not None and spec.btf_value_type_id:
            request.btf_fd = btf.fileno()
            request.btf_key_type_id = spec.btf_key_type_id
            request.btf_value_type_id = spec.btf_value_type_id
        template = cls.create(spec.inner, btf) if spec.inner else None
        try:
            request.inner_map_fd = template.fileno() if template else 0
            bpf_map = cls(bpf_call(f"BPF_MAP_CREATE({spec.name})", syscall.lib.xt_map_create, request), spec)
        finally:
            if template:
                template.close()
        try:
            if spec.contents is not None and any(spec.contents):
                bpf_map.update(bytes(4), spec.contents)
            if spec.frozen:
                bpf_call(f"BPF_MAP_FREEZE({spec.name})", syscall.lib.xt_map_freeze, bpf_map.fileno())
        except BaseException:
            bpf_map.close()
            raise
        return bpf_map

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM."""
        what = f"BPF_MAP_UPDATE_ELEM({self.spec.name})"
        bpf_call(what, syscall.lib.xt_map_update, self.fileno(), key, value, flags)

    def lookup(self, key: bytes) -> bytes | None:
        """BPF_MAP_LOOKUP_ELEM: return the value, of a per-CPU map all CPUs' values; None if the key is missing."""
        value = ffi.new("char[]", self.element_size)
        result = try_call(syscall.lib.xt_map_lookup, self.fileno(), key, value)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise KernelError(f"BPF_MAP_LOOKUP_ELEM({self.spec.name})", -result)
        return bytes(ffi.buffer(value))

    @property
    def element_size(self) -> int:
        """Bytes of one element in user space; per-CPU values are 8-byte aligned, one per possible CPU."""
        if self.spec.map_type == constants.MAP_TYPE_PERCPU_ARRAY:
            return (self.spec.value_size + 7) // 8 * 8 * len(possible_cpus())
        return self.spec.value_size

    def lookup_all(self, batched: bool = True) -> Iterator[bytes]:
        """Yield every element of an array by index, with one BPF_MAP_LOOKUP_BATCH or one lookup each."""
        entries = self.spec.max_entries
        if not batched:
            for index in range(entries):
                yield self.lookup(abi.U32.pack(index)) or b""
            return
        batch = Batch(4, self.element_size, entries)
        count, position = ffi.new("__u32 *", entries), ffi.new("__u32 *")
        arguments = (self.fileno(), ffi.NULL, position, batch.keys, batch.values, count, 0)
        bpf_call(f"BPF_MAP_LOOKUP_BATCH({self.spec.name})", syscall.lib.xt_map_lookup_batch, *arguments)
        values = ffi.buffer(batch.values)
        for index in range(count[0]):
            yield values[index * self.element_size : (index + 1) * self.element_size]

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values of a hash map, which may change meanwhile: BPF_MAP_LOOKUP_BATCH until ENOENT."""
        batch = Batch(self.spec.key_size, self.spec.value_size, self.spec.max_entries + BATCH_MARGIN)
        for _ in self.batches(batch):
            keys, values = ffi.buffer(batch.keys), ffi.buffer(batch.values)
            for at in range(batch.count):
                key = keys[at * batch.key_size : (at + 1) * batch.key_size]
                yield key, values[at * batch.value_size : (at + 1) * batch.value_size]

    def batches(self, batch: Batch, flags: int = 0) -> Iterator[None]:
        """Fill `batch` with the next entries of a hash map, again and again until it was the last (ENOENT).

        `flags`: MAP_LOCK, so that each value is read under its lock.
        """
        count, position, start = ffi.new("__u32 *"), ffi.new("__u32[2]"), ffi.NULL
        result = 0
        while result == 0:
            count[0] = batch.capacity
            arguments = (self.fileno(), start, position, batch.keys, batch.values, count, flags)
            result = try_call(syscall.lib.xt_map_lookup_batch, *arguments)
            if result not in (0, -errno.ENOENT):
                raise KernelError(f"BPF_MAP_LOOKUP_BATCH({self.spec.name})", -result)
            batch.count = count[0]
            yield
            start = position

    def delete(self, key: bytes) -> None:
        """BPF_MAP_DELETE_ELEM; a missing key is no error."""
        result = try_call(syscall.lib.xt_map_delete, self.fileno(), key)
        if result not in (0, -errno.ENOENT):
            raise KernelError(f"BPF_MAP_DELETE_ELEM({self.spec.name})", -result)

    def drain(self, batch: Batch) -> Iterator[tuple[Any, Any, int]]:
        """Yield and delete all entries of a hash map: keys, values and number of those in `batch`, which is reused.

        Nothing may write to the map meanwhile.
        """
        taken, start = ffi.new("__u32[2]"), ffi.NULL
        while True:
            batch.count = 0
            done = self._drain_some(batch, start, taken)
            yield batch.keys, batch.values, batch.count
            if done:
                return
            start = taken

    def drain_into(self, batch: Batch) -> int:
        """Move all entries of a hash map to the end of `batch`, which grows as needed; return their number.

        Nothing may write to the map meanwhile.
        """
        before = batch.count
        position, start = ffi.new("__u32[2]"), ffi.NULL
        while not self._drain_some(batch, start, position):
            start = position
            if batch.count == batch.capacity:
                batch.grow()
        return batch.count - before

    def _drain_some(self, batch: Batch, start: Any, position: Any) -> bool:
        """Move entries to the end of `batch`, which grows if a hash bucket has more than it has room for.

        One BPF_MAP_LOOKUP_AND_DELETE_BATCH from `start`; where it ended is in `position`. Returns whether it was the
        last (ENOENT), which may still return entries.
        """
        count = ffi.new("__u32 *")
        while True:
            count[0] = batch.capacity - batch.count
            keys = batch.keys + batch.count * batch.key_size
            values = batch.values + batch.count * batch.value_size
            result = try_call(
                syscall.lib.xt_map_lookup_and_delete_batch, self.fileno(), start, position, keys, values, count
            )
            if result != -errno.ENOSPC:
                break
            batch.grow()
        if result not in (0, -errno.ENOENT):
            raise KernelError(f"BPF_MAP_LOOKUP_AND_DELETE_BATCH({self.spec.name})", -result)
        batch.count += count[0]
        return result == -errno.ENOENT

    def memory(self) -> int:
        """Return the bytes of kernel memory charged for the map (memlock in fdinfo); 0 if not reported."""
        fdinfo = Path(f"/proc/self/fdinfo/{self.fileno()}").read_text()
        found = re.search(r"^memlock:\s*(\d+)", fdinfo, re.MULTILINE)
        return int(found.group(1)) if found else 0


class SharedMemory:
    """Owns a mapping of `length` bytes of an mmapable array map from `offset` on, a multiple of the page size."""

    def __init__(self, bpf_map: Map, length: int, offset: int = 0) -> None:
        address = ffi.new("void **")
        arguments = (bpf_map.fileno(), length, offset, address)
        call(f"mmap({bpf_map.spec.name})", syscall.lib.xt_map_mmap, *arguments)
        self.address = ffi.cast("char *", address[0])
        self._length = length

    def view(self) -> memoryview:
        """Return the memory itself, valid until close()."""
        return memoryview(ffi.buffer(self.address, self._length))

    def clear(self) -> None:
        """Set all bytes to 0."""
        lib.xt_clear(self.address, self._length)

    def close(self) -> None:
        """Unmap. Neither the object nor its views may be used afterwards."""
        try_call(syscall.lib.xt_munmap, self.address, self._length)

    def __enter__(self) -> SharedMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SharedWord(SharedMemory):
    """A 32-bit word of an mmapable array map, shared with the programs that read it."""

    def __init__(self, bpf_map: Map) -> None:
        super().__init__(bpf_map, abi.U32.size)
        self._word = ffi.cast("__u32 *", self.address)

    def load(self) -> int:
        """Return the word."""
        return int(self._word[0])

    def store(self, value: int) -> None:
        """Store `value` atomically, with release semantics."""
        syscall.lib.xt_store_release(self._word, value)


class RunResult(NamedTuple):
    """The result of BPF_PROG_TEST_RUN."""

    verdict: int
    frame: bytes
    duration_ns: int


class Program(Fd):
    """A loaded BPF program."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(number)
        self.name = name

    @classmethod
    def prepare(
        cls,
        spec: ProgramSpec,
        maps: Mapping[str, Map],
        *,
        licence: str = "GPL",
        btf: Fd | None = None,
        prog_type: int = constants.PROG_TYPE_XDP,
        attach_type: int = constants.ATTACH_TYPE_XDP,
        flags: int = 0,
        functions: Mapping[str, int] = MappingProxyType({}),
    ) -> Callable[[], Program]:
        """Return what loads a program with its maps and functions of the kernel, by BTF ID (BPF_PROG_LOAD).

        Any thread may call it, while the maps are open. It raises VerifierError with the log if the kernel rejects the
        program.
        """
        frozen = {name: own.spec.contents for name, own in maps.items() if own.spec.frozen and own.spec.contents}
        code = link(spec, {name: bpf_map.fileno() for name, bpf_map in maps.items()}, functions)
        code = put_constants(spec, code, frozen)
        request = ffi.new("struct xt_prog_load *")
        alive = [ffi.from_buffer(code), ffi.new("char[]", licence.encode())]
        request.insns, request.license = alive
        request.insn_cnt = len(code) // 8
        request.prog_type, request.expected_attach_type, request.prog_flags = prog_type, attach_type, flags
        request.prog_name = kernel_name(spec.name)
        if btf is not None:
            func_info, line_info = ffi.from_buffer(spec.func_info), ffi.from_buffer(spec.line_info)
            alive += [func_info, line_info]
            request.prog_btf_fd = btf.fileno()
            request.func_info, request.func_info_rec_size = func_info, spec.func_info_rec_size
            request.func_info_cnt = len(spec.func_info) // spec.func_info_rec_size
            request.line_info, request.line_info_rec_size = line_info, spec.line_info_rec_size
            request.line_info_cnt = len(spec.line_info) // spec.line_info_rec_size
        return partial(cls._load, spec.name, request, alive)

    @classmethod
    def _load(cls, name: str, request: Any, alive: list[Any]) -> Program:
        """`alive`: what `request` points to."""
        return cls(cls._descriptor(f"BPF_PROG_LOAD({name})", request), name)

    @staticmethod
    def _descriptor(what: str, request: Any) -> int:
        result = try_call(syscall.lib.xt_prog_load, request)
        if result >= 0:
            return result
        # the log costs time and memory, so request it only after a failure
        log = new_uncleared("char[]", VERIFIER_LOG_SIZE)  # several programs may be refused at once
        log[0] = b"\0"
        request.log_buf, request.log_size, request.log_level = log, VERIFIER_LOG_SIZE - 1, 1
        result = try_call(syscall.lib.xt_prog_load, request)
        if result >= 0:
            return result
        error = VerifierError(what, -result, ffi.string(log).decode(errors="replace"))
        if error.errno == errno.EPERM and not error.log:
            raise privileges.explain(error) from error
        raise error

    def id(self) -> int:
        """Return the program's ID (struct bpf_prog_info)."""
        info = ffi.new("struct xt_prog_info *")
        _get_info(self.name, self, info)
        return info.id

    def test_run(
        self, frame: bytes, *, repeat: int = 1, flags: int = 0, batch_size: int = 0, context: bytes = b""
    ) -> RunResult:
        """Run the program on `frame` (>= 14 bytes) by BPF_PROG_TEST_RUN; live frames are not returned."""
        request = ffi.new("struct xt_test_run *")
        room = 0 if flags & constants.TEST_RUN_LIVE_FRAMES else len(frame) + 256
        out = ffi.new("char[]", max(room, 1))
        data_in, context_in = ffi.from_buffer(frame), ffi.from_buffer(context)
        request.prog_fd, request.repeat = self.fileno(), repeat
        request.flags, request.batch_size = flags, batch_size
        request.data_in, request.data_size_in = data_in, len(frame)
        request.ctx_in, request.ctx_size_in = (context_in, len(context)) if context else (ffi.NULL, 0)
        request.data_out, request.data_size_out = (out, room) if room else (ffi.NULL, 0)
        bpf_call(f"BPF_PROG_TEST_RUN({self.name})", syscall.lib.xt_prog_test_run, request)
        data_out = ffi.buffer(out, min(request.data_size_out, room))[:]
        return RunResult(request.retval, data_out, request.duration)


class Link(Fd):
    """A program attached to an interface. The kernel detaches it when the last descriptor is closed."""

    @classmethod
    def attach(cls, program: Program, ifindex: int, attach_type: int, flags: int) -> Link:
        """Attach by BPF_LINK_CREATE; `flags` depend on the attach type: XDP_FLAGS_*, LINK_BEFORE_ALL."""
        what = f"BPF_LINK_CREATE({program.name}, ifindex {ifindex})"
        return cls(bpf_call(what, syscall.lib.xt_link_create, program.fileno(), ifindex, attach_type, flags))

    def ifindex(self) -> int:
        """Return the index of its interface, 0 if that is gone (struct bpf_link_info)."""
        info = ffi.new("struct xt_link_info *")
        _get_info("link", self, info)
        return info.ifindex

    def detach(self) -> None:
        """Detach (BPF_LINK_DETACH), even if another process holds a descriptor. Does nothing once closed."""
        if not self.closed:
            try_call(syscall.lib.xt_link_detach, self.fileno())


def program_name(program_id: int) -> str:
    """Return a loaded program's name (struct bpf_prog_info); empty without the privilege to read it."""
    number = try_call(syscall.lib.xt_prog_get_fd_by_id, program_id)
    if number < 0:
        return ""
    info = ffi.new("struct xt_prog_info *")
    with Fd(number) as program:
        _get_info(f"program {program_id}", program, info)
    return ffi.string(info.name).decode(errors="replace")


MOST_ATTACHED = 64
"""TCX programs of one interface and direction (BPF_MPROG_MAX in linux/bpf_mprog.h)."""


def attached_programs(ifindex: int, attach_type: int) -> tuple[int, ...]:
    """Return the IDs of an interface's TCX programs in the order they run. Raises KernelError, EINVAL without TCX."""
    ids, count = ffi.new("__u32[]", MOST_ATTACHED), ffi.new("__u32 *", MOST_ATTACHED)
    call(f"BPF_PROG_QUERY(ifindex {ifindex})", syscall.lib.xt_prog_query, ifindex, attach_type, ids, count)
    return tuple(ids[0 : count[0]])


def _get_info(name: str, owner: Fd, info: Any) -> None:
    """Fill `info` by BPF_OBJ_GET_INFO_BY_FD; the kernel's struct may be longer."""
    length = ffi.new("__u32 *", ffi.sizeof(info[0]))
    call(f"BPF_OBJ_GET_INFO_BY_FD({name})", syscall.lib.xt_obj_get_info, owner.fileno(), info, length)


def kernel_name(name: str) -> bytes:
    """Return `name` as the kernel accepts it: at most 15 characters of letters, digits, `_` and `.`."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", name).encode()[: constants.OBJECT_NAME_LENGTH]


POSSIBLE_CPUS = "/sys/devices/system/cpu/possible"

MOST_CPUS = 1 << 16
"""No kernel is built for more (CONFIG_NR_CPUS is 8192 at most on x86-64)."""


def check_possible_cpus() -> None:
    """Compare possible_cpus() with the number of values that the kernel returns for an element of a per-CPU map.

    The kernel writes one value per possible CPU, whatever room there is. With a wrong list, such as that of a container
    with its own /sys, it would overwrite memory, and front caches would overlap. Raises XtraceError if they differ,
    KernelError if no map can be created.
    """
    values = ffi.new("__u64[]", MOST_CPUS)
    unwritten = b"\xff" * ffi.sizeof(values)
    ffi.memmove(values, unwritten, len(unwritten))
    with Map.create(MapSpec("cpus", constants.MAP_TYPE_PERCPU_ARRAY, 4, 8, max_entries=1)) as probe:
        call("BPF_MAP_LOOKUP_ELEM(cpus)", syscall.lib.xt_map_lookup, probe.fileno(), bytes(4), values)
    found, listed = bytes(ffi.buffer(values)).index(b"\xff") // 8, len(possible_cpus())
    if found != listed:
        why = f"lists {listed} CPUs, but the kernel has {found}: another file is mounted there (unmount it)"
        raise XtraceError(f"{POSSIBLE_CPUS} {why}")


@lru_cache(maxsize=1)
def possible_cpus(path: str = POSSIBLE_CPUS) -> tuple[int, ...]:
    """Return the numbers of all possible CPUs (`0-1,4` is 0, 1, 4), the order of per-CPU values."""
    numbers: list[int] = []
    for part in Path(path).read_text().strip().split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)

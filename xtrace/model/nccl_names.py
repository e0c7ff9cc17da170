"""Names in NCCL's interface, as in nccl.h without the prefix `nccl`, and element sizes."""

from __future__ import annotations

from xtrace.kernel import abi
from xtrace.kernel.syscall import lib

FUNCTIONS = abi.names(
    {
        lib.NCCL_ALL_REDUCE: "AllReduce",
        lib.NCCL_BROADCAST: "Broadcast",
        lib.NCCL_BCAST: "Bcast",
        lib.NCCL_REDUCE: "Reduce",
        lib.NCCL_ALL_GATHER: "AllGather",
        lib.NCCL_REDUCE_SCATTER: "ReduceScatter",
        lib.NCCL_ALL_TO_ALL: "AlltoAll",
        lib.NCCL_GATHER: "Gather",
        lib.NCCL_SCATTER: "Scatter",
        lib.NCCL_SEND: "Send",
        lib.NCCL_RECV: "Recv",
        lib.NCCL_ALL_REDUCE_CONFIG: "AllReduceConfig",
        lib.NCCL_BROADCAST_CONFIG: "BroadcastConfig",
        lib.NCCL_REDUCE_CONFIG: "ReduceConfig",
        lib.NCCL_ALL_GATHER_CONFIG: "AllGatherConfig",
        lib.NCCL_REDUCE_SCATTER_CONFIG: "ReduceScatterConfig",
        lib.NCCL_ALL_TO_ALL_CONFIG: "AlltoAllConfig",
        lib.NCCL_GATHER_CONFIG: "GatherConfig",
        lib.NCCL_SCATTER_CONFIG: "ScatterConfig",
        lib.NCCL_PUT_SIGNAL: "PutSignal",
        lib.NCCL_SIGNAL: "Signal",
        lib.NCCL_WAIT_SIGNAL: "WaitSignal",
        lib.NCCL_COMM_INIT_RANK: "CommInitRank",
        lib.NCCL_COMM_INIT_RANK_CONFIG: "CommInitRankConfig",
        lib.NCCL_COMM_INIT_RANK_SCALABLE: "CommInitRankScalable",
        lib.NCCL_COMM_INIT_ALL: "CommInitAll",
        lib.NCCL_COMM_SPLIT: "CommSplit",
        lib.NCCL_COMM_SHRINK: "CommShrink",
        lib.NCCL_COMM_GROW: "CommGrow",
        lib.NCCL_COMM_COUNT: "CommCount",
        lib.NCCL_COMM_USER_RANK: "CommUserRank",
        lib.NCCL_COMM_CU_DEVICE: "CommCuDevice",
        lib.NCCL_COMM_GET_ASYNC_ERROR: "CommGetAsyncError",
        lib.NCCL_COMM_FINALIZE: "CommFinalize",
        lib.NCCL_COMM_DESTROY: "CommDestroy",
        lib.NCCL_COMM_ABORT: "CommAbort",
        lib.NCCL_GROUP_START: "GroupStart",
        lib.NCCL_GROUP_END: "GroupEnd",
    },
    lib.NCCL_FUNCTIONS,
)
"""In the order of enum nccl_function."""

COLLECTIVES = frozenset(FUNCTIONS[: lib.NCCL_PUT_SIGNAL + 1])
"""Functions with a count and a datatype, including Send, Recv and PutSignal."""

_PER_RANK = ("AllGather", "ReduceScatter", "AlltoAll", "Gather", "Scatter")
PER_RANK = frozenset(_PER_RANK) | {f"{function}Config" for function in _PER_RANK}
"""Functions whose count is per rank: the requested size is count times the number of ranks."""

ASYNC_ERROR = "CommGetAsyncError"
"""The function whose counted results are the communicator's errors that it reports, not its own."""

DATATYPES = (
    "int8",
    "uint8",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "bfloat16",
    "float8e4m3",
    "float8e5m2",
)
"""By ncclDataType_t."""

SIZES = (1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1)
"""Bytes of one element, by ncclDataType_t."""

MOST_BYTES = (1 << 63) - 1
"""A larger request is a mistake of the caller: NCCL accepts any number as a count."""

RESULTS = (
    "success",
    "unhandled_cuda_error",
    "system_error",
    "internal_error",
    "invalid_argument",
    "invalid_usage",
    "remote_error",
    "in_progress",
    "timeout",
    "other_error",
)
"""By ncclResult_t; the last one stands for all higher ones."""

IN_PROGRESS = RESULTS.index("in_progress")
NO_ERRORS = frozenset({"success", "in_progress"})


def datatype_name(number: int) -> str | None:
    """`bfloat16` for 9."""
    if number == lib.NCCL_NO_DATATYPE:
        return None
    return DATATYPES[number] if number < len(DATATYPES) else "unknown"


def requested_bytes(function: str, datatype: int, nranks: int | None, elements: int) -> int | None:
    """Count times size, times ranks if the count is per rank; in bytes.

    None if one of them is unknown, or the result is larger than MOST_BYTES.
    """
    if function not in COLLECTIVES or not elements:
        return 0
    if datatype >= len(SIZES):
        return None
    size = elements * SIZES[datatype]
    if function in PER_RANK:
        if not nranks:
            return None
        size *= nranks
    return size if size <= MOST_BYTES else None


def latency_limit_ns(bucket: int) -> int | None:
    """Upper limit of a latency bucket in ns, exclusive; None for the last one."""
    return None if bucket == lib.NCCL_LATENCY_BUCKETS - 1 else 1 << lib.NCCL_FIRST_BUCKET_BITS + bucket

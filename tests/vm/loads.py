"""Run the tool, and tell of each program it loads what the verifier did: `python -m tests.vm.loads OPTIONS`.

`python -m tests.vm.loads nccl` loads the programs of mode nccl, as for a file that has NCCL.

One JSON object per load on stdout. The count is the verifier's own, from its log; it is what
bpf_prog_info.verified_insns says where the kernel has that (Linux 5.16).
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

from xtrace.__main__ import main
from xtrace.kernel import privileges, syscall
from xtrace.monitors.nccl.calls import BEGIN, RETURN, CallTables

LOG_STATISTICS = 4
"""BPF_LOG_STATS: only the numbers, without the instructions (Linux 5.2)."""

LOG_SIZE = 4096
OWN_PROBES = "probe"
"""How the names of programs begin that are loaded only to try a feature."""


class Recorder:
    """The system calls as the package makes them, with every BPF_PROG_LOAD timed and told."""

    def __init__(self, calls: Any) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    def xt_prog_load(self, request: Any) -> int:
        name = syscall.ffi.string(request.prog_name).decode()
        begun = time.perf_counter()
        result: int = self._calls.xt_prog_load(request)
        taken_ms = (time.perf_counter() - begun) * 1e3
        if not name.startswith(OWN_PROBES) and not request.log_level:
            verdict = self._verdict(request)
            line = json.dumps({"program": name, "ms": taken_ms, "result": result, **verdict})
            print(line + "\n", end="", flush=True)  # in one piece: programs are loaded in several threads
        return result

    def _verdict(self, request: Any) -> dict[str, Any]:
        """Load once more, with a log."""
        log = syscall.ffi.new("char[]", LOG_SIZE)
        request.log_buf, request.log_size, request.log_level = log, LOG_SIZE, LOG_STATISTICS
        descriptor = self._calls.xt_prog_load(request)
        request.log_buf, request.log_size, request.log_level = syscall.ffi.NULL, 0, 0
        if descriptor >= 0:
            self._calls.xt_close(descriptor)
        said = syscall.ffi.string(log).decode(errors="replace")
        verified = re.search(r"processed (\d+) insns", said)
        return {"verified": int(verified.group(1)) if verified else None, "said": said}


def load_nccl() -> None:
    """The programs for all functions where there are multi links, else those for each."""
    privileges.raise_memlock_limit()
    with CallTables() as tables:
        for name in (RETURN, BEGIN):
            for function in (0,) if tables.multi else range(syscall.lib.NCCL_FUNCTIONS):
                tables._load(name, function).close()


if __name__ == "__main__":
    syscall.lib = Recorder(syscall.lib)  # type: ignore[assignment]
    if sys.argv[1:] == ["nccl"]:
        load_nccl()
    else:
        sys.exit(main())

"""The programs of mode nccl as this compiler made them: the verifier takes them, each way they are loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xtrace.kernel import uprobe
from xtrace.kernel.syscall import lib
from xtrace.monitors.nccl.calls import BEGIN, RETURN, CallTables


@pytest.fixture(params=["with return probes", "without return probes"])
def tables(request: pytest.FixtureRequest) -> Iterator[CallTables]:
    with CallTables() as tables:
        tables.has_returns = request.param == "with return probes"
        yield tables


@pytest.mark.parametrize("name", [BEGIN, RETURN])
def test_one_program_for_all_functions_loads(tables: CallTables, name: str) -> None:
    if not uprobe.has_multi():
        pytest.xfail("this kernel has no multi links (Linux 6.6)")
    tables.multi = True
    with tables._load(name) as program:
        assert program.fileno() > 0


@pytest.mark.parametrize("name", [BEGIN, RETURN])
def test_a_program_for_each_function_loads(tables: CallTables, name: str) -> None:
    tables.multi = False
    for function in range(lib.NCCL_FUNCTIONS):
        with tables._load(name, function) as program:
            assert program.fileno() > 0

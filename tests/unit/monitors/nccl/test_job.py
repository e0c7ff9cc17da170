"""The job of a process, by what launchers and schedulers leave in its environment."""

from __future__ import annotations

import pytest

from xtrace.model.nccl_ranks import Job
from xtrace.monitors.nccl.job import LONGEST, MOST_RANKS, job_of

MASTER = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "variables, name",
    [
        ({"SLURM_JOB_ID": "4711"}, "slurm:4711"),
        ({"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "TORCHELASTIC_RUN_ID": "x"}, "slurm:4711.0"),
        ({"TORCHELASTIC_RUN_ID": "x", "RAY_JOB_ID": "7", **MASTER}, "torchrun:x"),
        ({"TORCHELASTIC_RUN_ID": "none", **MASTER}, "torchrun:10.0.0.1:29500"),
        ({"TORCHELASTIC_RUN_ID": "none"}, "torchrun:none"),
        ({"RAY_JOB_ID": "7", "PMIX_NAMESPACE": "p"}, "ray:7"),
        ({"PMIX_NAMESPACE": "p", "RANK": "0", **MASTER}, "mpi:p"),
        ({"RANK": "0", **MASTER}, "torch:10.0.0.1:29500"),
        (MASTER, None),
        ({"RANK": "0", "MASTER_PORT": "29500"}, None),
        ({"RANK": "0"}, None),
        ({}, None),
        ({"SLURM_JOB_ID": "4" * 2 * LONGEST}, f"slurm:{'4' * (LONGEST - 6)}"),
    ],
)
def test_job_has_the_name_that_its_launcher_gave_it(variables: dict[str, str], name: str | None) -> None:
    found = job_of(variables)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    "text, number",
    [
        ("0", 0),
        ("7", 7),
        (str(MOST_RANKS - 1), MOST_RANKS - 1),
        *((text, None) for text in (str(MOST_RANKS), "-1", "", "1e3", "٣", "9" * 5000, "1_0", " 1")),
    ],
)
def test_rank_is_a_number_or_unknown(text: str, number: int | None) -> None:
    found = job_of({"SLURM_JOB_ID": "1", "RANK": text})
    assert found is not None and found.rank == number


def test_numbers_of_torchrun_come_before_those_of_the_scheduler() -> None:
    variables = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "3"}
    assert job_of(variables) == Job("slurm:1", 1, 2, 3, None)
    torchrun = {"RANK": "4", "WORLD_SIZE": "5", "LOCAL_RANK": "6", "CUDA_VISIBLE_DEVICES": "7" * 2 * LONGEST}
    assert job_of({**variables, **torchrun}) == Job("slurm:1", 4, 5, 6, "7" * LONGEST)
    assert MOST_RANKS == 1 << 24


@pytest.mark.parametrize(
    "field, variables",
    [
        ("rank", ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")),
        ("world_size", ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")),
        ("local_rank", ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")),
    ],
)
def test_every_launchers_variable_is_known_and_the_first_of_several_counts(
    field: str, variables: tuple[str, ...]
) -> None:
    for at, first in enumerate(variables):
        later = dict.fromkeys(variables[at + 1 :], "9")
        found = job_of({"SLURM_JOB_ID": "1", first: str(at), **later})
        assert found is not None
        assert {name: value for name, value in found._asdict().items() if value is not None} == {
            "name": "slurm:1",
            field: at,
        }

"""Which job a process belongs to, by the variables that schedulers and launchers set."""

from __future__ import annotations

from collections.abc import Mapping

from xtrace.model.nccl_ranks import Job

LONGEST = 128
"""Characters of a name."""

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
SIZES = ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
MOST_RANKS = 1 << 24


def job_of(variables: Mapping[str, str]) -> Job | None:
    """The job, None if nothing tells of one. torchrun's own numbers come before those of what has started it."""
    name = _name(variables)
    if name is None:
        return None
    return Job(
        name=name[:LONGEST],
        rank=_first(variables, RANKS),
        world_size=_first(variables, SIZES),
        local_rank=_first(variables, LOCAL_RANKS),
        visible_devices=variables.get("CUDA_VISIBLE_DEVICES", "")[:LONGEST] or None,
    )


def _name(variables: Mapping[str, str]) -> str | None:
    def given(name: str) -> str:
        return variables.get(name, "")

    master = f"{given('MASTER_ADDR')}:{given('MASTER_PORT')}" if given("MASTER_ADDR") else ""
    if given("SLURM_JOB_ID"):
        step = given("SLURM_STEP_ID")
        return f"slurm:{given('SLURM_JOB_ID')}" + (f".{step}" if step else "")
    if given("TORCHELASTIC_RUN_ID"):
        run = given("TORCHELASTIC_RUN_ID")
        return f"torchrun:{master if run == 'none' and master else run}"  # none is torchrun's default
    if given("RAY_JOB_ID"):
        return f"ray:{given('RAY_JOB_ID')}"
    if given("PMIX_NAMESPACE"):
        return f"mpi:{given('PMIX_NAMESPACE')}"
    if master and _first(variables, RANKS) is not None:
        return f"torch:{master}"
    return None


def _first(variables: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    """The first of the variables that is a number."""
    for name in names:
        text = variables.get(name, "")
        if text.isascii() and text.isdigit() and int(text[:9]) < MOST_RANKS:
            return int(text[:9])
    return None

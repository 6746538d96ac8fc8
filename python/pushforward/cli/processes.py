"""The processes of a command that ``mpiexec`` or ``srun`` started several times."""

from __future__ import annotations

import os
from typing import Any

# Where launchers say how many processes there are: those of MPICH and Intel MPI, of Open MPI, and Slurm's.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def communicator() -> Any:
    """Return MPI's communicator of all processes, or None if this one was started by itself."""
    sizes = [os.environ.get(name, "") for name in _SIZES]
    if not any(size.isdecimal() and int(size) > 1 for size in sizes):
        return None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # without an MPI library it is a RuntimeError
        raise ImportError(
            f'several processes need mpi4py and an MPI: pip install "pushforward[mpi]" ({error})'
        ) from None
    return MPI.COMM_WORLD if MPI.COMM_WORLD.Get_size() > 1 else None


def share(rows: int, comm: Any) -> slice:
    """Return which of so many rows belong to this process."""
    if comm is None:
        return slice(None)
    rank, size = comm.Get_rank(), comm.Get_size()
    return slice(rank * rows // size, (rank + 1) * rows // size)

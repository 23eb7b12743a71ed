"""Who am I: the ranks that a launcher (torchrun, Slurm, our own spawning) has started."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from isoflop.config.base import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among the ranks of a run."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    launcher: str = "alone"


def launched_ranks(env: Mapping[str, str] = os.environ) -> Ranks | None:
    """The ranks that torchrun or srun started, None where nobody did. Sets what torch's rendezvous reads.

    Under Slurm the address is the first node's and the port comes from the job id, so that two
    jobs on one node do not meet. Raises UserError where a variable is there but makes no sense.
    """
    try:
        if "RANK" in env and "WORLD_SIZE" in env:
            rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
            local_rank, local_size = int(env.get("LOCAL_RANK", rank)), int(env.get("LOCAL_WORLD_SIZE", size))
            return Ranks(rank, size, local_rank, local_size, "torchrun")
        if "SLURM_PROCID" in env and "SLURM_STEP_ID" in env and int(env["SLURM_STEP_NUM_TASKS"]) > 1:
            return _slurm_ranks(env)
    except (KeyError, ValueError) as error:
        raise UserError(f"ranks: the launcher's environment makes no sense: {error!r}") from None
    return None


def _slurm_ranks(env: Mapping[str, str]) -> Ranks:
    os.environ.setdefault("MASTER_ADDR", _first_host(env["SLURM_STEP_NODELIST"]))
    os.environ.setdefault("MASTER_PORT", str(15_000 + int(env["SLURM_JOB_ID"]) % 40_000))
    size, nodes = int(env["SLURM_STEP_NUM_TASKS"]), int(env.get("SLURM_STEP_NUM_NODES", 1))
    return Ranks(int(env["SLURM_PROCID"]), size, int(env["SLURM_LOCALID"]), -(-size // nodes), "slurm")


def _first_host(nodes: str) -> str:
    if "[" not in nodes:
        return nodes.split(",")[0]
    listed = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return listed.stdout.split()[0]

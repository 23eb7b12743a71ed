"""Who am I: the ranks that a launcher (torchrun, Slurm, our own spawning) has started."""

import os
import re
from collections.abc import Mapping, MutableMapping
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


def launched_ranks(env: MutableMapping[str, str] = os.environ) -> Ranks | None:
    """The ranks that torchrun or srun started, None where nobody did: a lone task has no peers to meet.

    Under Slurm, puts the address and the port that torch's rendezvous reads into `env`, unless they are
    there. Raises UserError where a variable is missing or makes no sense.
    """
    if "RANK" in env and "WORLD_SIZE" in env:
        ranks = _torchrun_ranks(env)
    elif _number(env, "SLURM_STEP_NUM_TASKS", 1) > 1:
        ranks = _slurm_ranks(env)
    else:  # also an sbatch script's own shell, which is no step though it has SLURM_PROCID=0
        return None
    if not (0 <= ranks.rank < ranks.world_size and 0 <= ranks.local_rank < ranks.local_world_size):
        local = f"{ranks.local_rank} of {ranks.local_world_size} on this node"
        raise UserError(f"ranks: {ranks.launcher} says rank {ranks.rank} of {ranks.world_size}, {local}")
    return ranks


def _torchrun_ranks(env: Mapping[str, str]) -> Ranks:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in env:
            raise UserError(f"ranks: RANK is set and {name} is not; start with torchrun, or unset RANK")
    rank, size = _number(env, "RANK"), _number(env, "WORLD_SIZE")
    return Ranks(
        rank, size, _number(env, "LOCAL_RANK", rank), _number(env, "LOCAL_WORLD_SIZE", size), "torchrun"
    )


def _slurm_ranks(env: MutableMapping[str, str]) -> Ranks:
    if "SLURM_STEP_NODELIST" not in env:
        raise UserError("ranks: SLURM_STEP_NODELIST is not set; start with srun")
    env.setdefault("MASTER_ADDR", _first_host(env["SLURM_STEP_NODELIST"]))
    # Two steps on one node must not meet. Below 32,768, where Linux begins to give ports to anyone.
    port = 15_000 + (97 * _number(env, "SLURM_JOB_ID") + _number(env, "SLURM_STEP_ID")) % 17_000
    env.setdefault("MASTER_PORT", str(port))
    size, nodes = _number(env, "SLURM_STEP_NUM_TASKS"), max(1, _number(env, "SLURM_STEP_NUM_NODES", 1))
    return Ranks(
        _number(env, "SLURM_PROCID"), size, _number(env, "SLURM_LOCALID"), -(-size // nodes), "slurm"
    )


def _first_host(nodes: str) -> str:
    """The first of a Slurm host list: `gpu[07-09],login` → `gpu07`. Containers have no scontrol to ask."""
    return re.sub(r"\[([^],-]*)[^]]*]", r"\1", nodes).split(",")[0]


def _number(env: Mapping[str, str], name: str, default: int | None = None) -> int:
    if name not in env and default is not None:
        return default
    try:
        return int(env[name])
    except KeyError:
        raise UserError(f"ranks: {name} is not set, though other variables of its launcher are") from None
    except ValueError:
        raise UserError(f"ranks: {name}={env[name]!r} is not a whole number") from None

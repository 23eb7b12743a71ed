"""The process group and the mesh: which axes exist, and where this rank stands on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from isoflop.config.base import UserError
from isoflop.config.schema import ClusterConfig, EngineConfig, ParallelConfig
from isoflop.dist.env import Ranks

AXES = ("pipeline", "replicate", "shard", "tensor")
"""From the slowest link to the fastest. `data` is `replicate` × `shard`: copies, and shards of one copy."""


def choose_device(engine: EngineConfig, ranks: Ranks) -> torch.device:
    """This rank's device: a GPU of its own where there are enough and none forbids it, else the CPU.

    Raises UserError where engine.device=cuda asks for GPUs that are not there. Ranks of a launcher may
    each see one GPU only (`srun --gpus-per-task=1`).
    """
    n_gpus = 0 if engine.device == "cpu" else torch.cuda.device_count()
    one_each = ranks.launcher in ("torchrun", "slurm") and n_gpus == 1
    if n_gpus >= ranks.local_world_size or one_each:
        return torch.device("cuda", ranks.local_rank % n_gpus)
    if engine.device == "cuda":
        needed = ranks.local_world_size
        raise UserError(
            f"engine.device=cuda: {needed} ranks here need {needed} GPUs, there are {n_gpus}; cpu does"
        )
    return torch.device("cpu")


@contextmanager
def process_group(
    ranks: Ranks, device: torch.device, cluster: ClusterConfig, store: dist.Store
) -> Iterator[None]:
    """The world of `ranks`, over NCCL on GPUs and gloo on CPUs; closed at the end."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        rank=ranks.rank,
        world_size=ranks.world_size,
        store=store,
        timeout=timedelta(seconds=cluster.timeout_seconds),
    )
    try:
        yield
    except BaseException:
        if (
            ranks.world_size == 1
        ):  # else the others may be inside a collective, and closing would wait for them
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def build_mesh(parallel: ParallelConfig, device: torch.device) -> DeviceMesh:
    """The mesh of all ranks over `AXES`; an axis that is not used has size 1."""
    replicate, shard = (parallel.data, 1) if parallel.shard == "none" else (1, parallel.data)
    return init_device_mesh(
        device.type, (parallel.pipeline, replicate, shard, parallel.tensor), mesh_dim_names=AXES
    )


def data_rank(mesh: DeviceMesh) -> int:
    """This rank's place on the data axis: ranks that share it read the same sequences."""
    return mesh.get_local_rank("replicate") * mesh["shard"].size() + mesh.get_local_rank("shard")

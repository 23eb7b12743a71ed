"""The process group and the mesh: which axes exist, and where this rank stands on them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from isoflop.config.base import UserError
from isoflop.config.schema import ClusterConfig, EngineConfig, ParallelConfig
from isoflop.dist.env import Ranks

AXES = ("pipeline", "replicate", "shard", "tensor")
"""From the slowest link to the fastest. `data` × `context` is `replicate` × `shard`: copies, and shards of one
copy. The ranks that share a sequence are neighbours there: parameters are sharded over them like over others."""
GROUP_PATIENCE = 5.0  # times cluster.timeout_seconds, above the watchdog's longest


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
    """The world of `ranks`, over NCCL on GPUs and gloo on CPUs; closed at the end.

    Collectives are noted in torch's flight recorder, for the watchdog: it is the first to speak where ranks
    hang, and the groups' own timeouts, of which no message names a rank, come long after it.
    """
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "2000")  # records; read when the first group is made
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        rank=ranks.rank,
        world_size=ranks.world_size,
        store=store,
        timeout=group_timeout(cluster),
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
    forget_meshes()


def forget_meshes() -> None:
    """Drop what torch remembers of DTensors on the meshes of a world that is closed.

    It finds a remembered layout by the ranks of its mesh, and with it the old mesh, whose groups are gone; or
    are others under their names, so that the next world of this process would sum over the wrong ranks.
    """
    DTensor._op_dispatcher.sharding_propagator.propagate_op_sharding.cache_clear()
    clear = getattr(torch._C, "_clear_DTensor_sharding_propagator_cache", None)
    if clear is not None:
        clear()


def group_timeout(cluster: ClusterConfig) -> timedelta:
    """After which a collective gives up by itself."""
    return timedelta(seconds=GROUP_PATIENCE * cluster.timeout_seconds)


def set_timeouts(cluster: ClusterConfig) -> None:
    """Give every group the timeout of the first: torch gives the groups of a mesh its own default."""
    world = dist.distributed_c10d._world
    for group in world.pg_map:
        dist.distributed_c10d._set_pg_timeout(group_timeout(cluster), group)


def build_mesh(parallel: ParallelConfig, device: torch.device) -> DeviceMesh:
    """The mesh of all ranks over `AXES`; an axis that is not used has size 1."""
    copies = parallel.data * parallel.context if parallel.shard == "none" else parallel.replicas
    shards = parallel.data * parallel.context // copies
    return init_device_mesh(
        device.type, (parallel.pipeline, copies, shards, parallel.tensor), mesh_dim_names=AXES
    )


def build_context_mesh(parallel: ParallelConfig, device: torch.device) -> DeviceMesh:
    """The same ranks, with the axes of a batch: who reads which sequences, and which part of each."""
    return init_device_mesh(
        device.type,
        (parallel.pipeline, parallel.data, parallel.context, parallel.tensor),
        mesh_dim_names=("pipeline", "data", "context", "tensor"),
    )["context"]


def build_expert_mesh(parallel: ParallelConfig, device: torch.device) -> DeviceMesh:
    """The same ranks as the experts see them: neighbours among the shards, or copies, share the experts."""
    copies = parallel.data * parallel.context if parallel.shard == "none" else parallel.replicas
    shards = parallel.data * parallel.context // copies
    if parallel.shard == "none":
        copies //= parallel.expert
    else:
        shards //= parallel.expert
    return init_device_mesh(
        device.type,
        (parallel.pipeline, copies, shards, parallel.expert, parallel.tensor),
        mesh_dim_names=("pipeline", "replicate", "shard", "expert", "tensor"),
    )


def data_rank(mesh: DeviceMesh, context: int = 1) -> int:
    """This rank's place on the data axis: ranks that share it read the same sequences."""
    return _batch_rank(mesh) // context


def context_rank(mesh: DeviceMesh, context: int) -> int:
    """This rank's place among the `context` ranks that share its sequences."""
    return _batch_rank(mesh) % context


def _batch_rank(mesh: DeviceMesh) -> int:
    return mesh.get_local_rank("replicate") * mesh["shard"].size() + mesh.get_local_rank("shard")

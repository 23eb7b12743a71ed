"""The process group and the mesh: which axes exist, and where this rank stands on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from isoflop.config.schema import ClusterConfig, EngineConfig, ParallelConfig
from isoflop.dist.env import Ranks

AXES = ("pipeline", "replicate", "shard", "tensor")
"""From the slowest link to the fastest. `data` is `replicate` × `shard`: copies, and shards of one copy."""


def choose_device(engine: EngineConfig, ranks: Ranks) -> torch.device:
    """This rank's device: a GPU of its own where there are any and none forbids it, else the CPU."""
    if engine.device == "cuda" or (engine.device == "auto" and torch.cuda.is_available()):
        # one GPU a task may be all that this rank sees
        return torch.device("cuda", ranks.local_rank % max(1, torch.cuda.device_count()))
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
    finally:
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

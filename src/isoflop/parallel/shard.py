"""The data axis: parameters, gradients and optimizer state sharded or replicated, by torch's FSDP2."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from isoflop.config.schema import ParallelConfig, PrecisionConfig
from isoflop.model.decoder import Decoder
from isoflop.model.moe import mixtures


def shard(
    model: Decoder,
    mesh: DeviceMesh,
    experts: DeviceMesh | None,
    parallel: ParallelConfig,
    precision: PrecisionConfig,
) -> None:
    """Shard `model` over the data axis, in place; also where only its compute precision needs it.

    shard=none is one copy a rank with gradients all-reduced, zero2 keeps gathered parameters from
    forward to backward, zero3 gathers them for each (Rajbhandari et al. 2020). With replicas, gradients are
    reduced over the shards of a copy and then summed over the copies (Zhao et al. 2023, §3.2.2).
    Gradients are summed, not averaged: the loss is already divided by the tokens of the whole batch.
    Experts that are split over the mesh `experts` are sharded over the ranks that have the same ones.
    """
    if parallel.data * parallel.context == 1 and precision.compute == precision.params:
        return
    policy = MixedPrecisionPolicy(
        param_dtype=getattr(torch, precision.compute),
        reduce_dtype=getattr(torch, precision.reduce),
        cast_forward_inputs=False,  # rotary angles stay in float32
    )
    hybrid = parallel.shard == "none" or parallel.replicas > 1
    axes = ("replicate", "shard") if hybrid else "shard"
    options: dict[str, Any] = {"mp_policy": policy, "reshard_after_forward": parallel.shard == "zero3"}
    if experts is not None:
        placement = partial(even_placement, ranks=experts["shard"].size())
        for moe in mixtures(model):
            fully_shard(moe.experts, mesh=experts[axes], shard_placement_fn=placement, **options)
    for module in [*model.blocks.values(), model]:
        fully_shard(module, mesh=mesh[axes], **options)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def even_placement(parameter: Tensor, ranks: int) -> Shard:
    """The first dim that `ranks` divide, of what is here of a matrix for each expert: these may be few."""
    shape = parameter.to_local().shape if isinstance(parameter, DTensor) else parameter.shape
    return Shard(next((dim for dim, size in enumerate(shape) if size % ranks == 0), 0))


def sync_gradients(model: nn.Module, now: bool) -> None:
    """Whether the next backward sums gradients over the data axis, or only adds them up here."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)

"""The data axis: parameters, gradients and optimizer state sharded or replicated, by torch's FSDP2."""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from isoflop.config.schema import ParallelConfig, PrecisionConfig
from isoflop.model.decoder import Decoder


def shard(model: Decoder, mesh: DeviceMesh, parallel: ParallelConfig, precision: PrecisionConfig) -> None:
    """Shard `model` over the data axis, in place; also where only its compute precision needs it.

    shard=none is one copy a rank with gradients all-reduced, zero2 keeps gathered parameters from
    forward to backward, zero3 gathers them for each (Rajbhandari et al. 2020). Gradients are summed,
    not averaged: the loss is already divided by the tokens of the whole batch.
    """
    if parallel.data == 1 and precision.compute == precision.params:
        return
    policy = MixedPrecisionPolicy(
        param_dtype=getattr(torch, precision.compute),
        reduce_dtype=getattr(torch, precision.reduce),
        cast_forward_inputs=False,  # rotary angles stay in float32
    )
    axes = mesh["replicate", "shard"] if parallel.shard == "none" else mesh["shard"]
    for module in [*model.blocks.values(), model]:
        fully_shard(module, mesh=axes, mp_policy=policy, reshard_after_forward=parallel.shard == "zero3")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def sync_gradients(model: nn.Module, now: bool) -> None:
    """Whether the next backward sums gradients over the data axis, or only adds them up here."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)

"""The expert axis: ranks that read different sequences share the experts, and send each other tokens.

Lepikhin et al. 2020, §3.2. The ranks of the axis are borrowed from the data axis, neighbours first: for all
but the experts they are data ranks like others.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder
from isoflop.model.moe import Experts, gather_rows, mixtures, scatter_rows

FEATURES = {"gate": 1, "up": 1, "down": 2}
"""The dim of each matrix (experts, d_out, d_in) that counts the features inside an expert."""


def split_experts(model: Decoder, mesh: DeviceMesh | None, tensor: DeviceMesh) -> None:
    """Give each rank of `mesh`'s expert axis its experts, in place, and split them over the `tensor` axis.

    `mesh` is that of `dist.mesh.build_expert_mesh`; None: every rank has all experts.
    """
    for moe in mixtures(model):
        moe.share = 1 / tensor.size()  # each computes the auxiliary losses of all tokens
        if mesh is not None:
            moe.experts.exchange = AllToAll(mesh.get_group("expert"))
            _distribute(moe.experts, mesh["expert", "tensor"], lambda dim: [Shard(0), Shard(dim)])
        elif tensor.size() > 1:
            _distribute(moe.experts, tensor, lambda dim: [Shard(dim)])


def _distribute(experts: Experts, mesh: DeviceMesh, placements: Callable[[int], list[Shard]]) -> None:
    for name, dim in FEATURES.items():
        stack = getattr(experts, name)
        if stack is not None:
            whole = distribute_tensor(stack.weight, mesh, placements(dim), src_data_rank=None)
            stack.weight = nn.Parameter(whole)


class AllToAll:
    """Sends each token to the ranks of its experts, and back. An `Exchange` of `model.moe`."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(self, rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """rows sorted by expert, counts (experts,) → as `model.moe.Exchange`."""
        ranks = dist.get_world_size(self.group)
        coming = torch.empty_like(counts)
        dist.all_to_all_single(coming, counts, group=self.group)
        coming = coming.view(ranks, -1)  # (from which rank, for which expert here)
        sizes = torch.stack((counts.view(ranks, -1).sum(dim=1), coming.sum(dim=1)))
        sent, received = sizes.tolist()  # the one wait for the device
        got = all_to_all_single_autograd(rows, received, sent, self.group)
        numbers = torch.arange(coming.shape[1], device=rows.device).repeat(ranks)
        order = numbers.repeat_interleave(coming.flatten(), output_size=sum(received)).argsort(stable=True)

        def back(out: Tensor) -> Tensor:
            return all_to_all_single_autograd(scatter_rows(out, order, 1), sent, received, self.group)

        return gather_rows(got, order, 1), coming.sum(dim=0), back


def all_to_all_bytes(model: ModelConfig, n_tokens: int, element_bytes: int, recomputed: bool = False) -> int:
    """What the ranks of an expert axis hand over for `n_tokens` tokens of a step, in bytes.

    Each mixture sends every token's row to its `top_k` experts and back, once forward and once backward,
    and forward again where it is `recomputed`. What a rank hands to itself is in it: of E ranks whose
    experts are in equal use, (E - 1) / E of it go to another rank. Not in it is one int64 for each expert
    and rank, which goes before each microbatch's rows.
    """
    assert model.moe is not None
    rows = len(model.mixture_layers) * n_tokens * model.moe.top_k
    return (6 if recomputed else 4) * rows * model.width * element_bytes


def split_balance(model: Decoder, context: DeviceMesh) -> None:
    """Let the mixtures count the experts of whole sequences, which the `context` ranks share."""
    if context.size() > 1:
        for moe in mixtures(model):
            moe.sum_over_sequence = partial(_sum_over_ranks, group=context.get_group())


def _sum_over_ranks(counts: Tensor, group: dist.ProcessGroup) -> Tensor:
    dist.all_reduce(counts, group=group)
    return counts


@torch.no_grad()
def move_biases(parts: Iterable[Decoder], mesh: DeviceMesh) -> None:
    """After a step, favour the experts that the batch chose less often than the mean of their layer.

    Wang et al. 2024, Algorithm 1. Whole numbers are compared: every layout moves the same biases.
    """
    biased = [moe for part in parts for moe in mixtures(part) if moe.router.bias is not None]
    if not biased:
        return
    loads = torch.stack([torch.stack(list(moe.loads)).sum(dim=0) for moe in biased])
    for axis in ("replicate", "shard"):
        dist.all_reduce(loads, group=mesh.get_group(axis))
    for moe, load in zip(biased, loads, strict=True):
        bias = moe.router.bias
        step = moe.config.bias_rate * (load.sum() - len(load) * load).sign().to(bias.dtype)
        if isinstance(bias, DTensor):  # every rank has the whole step: nothing is sent
            step = distribute_tensor(step, bias.device_mesh, bias.placements, src_data_rank=None)
        bias.add_(step)


class SplitRouter(ParallelStyle):
    """On the tensor axis every rank routes all tokens; each has a part of the gradient, as of the experts."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        assert isinstance(module.weight, nn.Parameter)
        whole = distribute_tensor(module.weight, device_mesh, [Replicate()], src_data_rank=None)
        module.weight = nn.Parameter(whole)
        module.register_forward_hook(lambda module, inputs, logits: _local_part(logits))
        return module


class SplitExperts(ParallelStyle):
    """Each rank of the tensor axis has a slice of every expert's features: what comes out is a partial sum.

    The input is whole, the output (batch, seq / degree, width).
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
            return (_local_part(inputs[0]), *inputs[1:])

        def after(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
            partial_sum = DTensor.from_local(out, device_mesh, [Partial()])
            return partial_sum.redistribute(placements=[Shard(1)]).to_local().clone()  # FSDP wants no view

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
        return module


def _local_part(tensor: Tensor) -> Tensor:
    """The value that all ranks have; the gradients that they give it are parts of one sum."""
    assert isinstance(tensor, DTensor)
    return tensor.to_local(grad_placements=[Partial()])

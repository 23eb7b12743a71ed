"""The tensor axis: matrices split by heads and features, norms by sequence.

Shoeybi et al. 2019, §3, with the sequence parallelism of Korthikanti et al. 2022, §4.2.
"""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from isoflop.model.decoder import Decoder
from isoflop.model.moe import MoE
from isoflop.model.positions import SinusoidalPositions
from isoflop.parallel.expert import SplitExperts, SplitRouter
from isoflop.parallel.norm import SplitNorm


def split_width(model: Decoder, mesh: DeviceMesh) -> None:
    """Split `model` over the tensor axis `mesh`, in place. Between modules x is (batch, seq / degree, width).

    Each block gathers the sequence before its two halves and scatters it after; logits stay split
    over the vocabulary, as DTensors, for the loss.
    """
    if mesh.size() == 1:
        return
    parallelize_module(model, mesh, _outer_plan(model))
    if model.head is not None:  # once, before the loss cuts the sequence into chunks
        gather = PrepareModuleOutput(
            output_layouts=Shard(1), desired_output_layouts=Replicate(), use_local_output=False
        )
        parallelize_module(model, mesh, {"norm": gather})
    for block in model.blocks.values():
        parallelize_module(block, mesh, _block_plan(block))
    model.tie()  # splitting made two parameters of the shared one


def _outer_plan(model: Decoder) -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {}
    rows = RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1))
    if model.embedding is not None:
        plan["embedding"] = rows
    if isinstance(model.position_embedding, SinusoidalPositions):
        plan["position_embedding"] = PrepareModuleOutput(
            output_layouts=Replicate(), desired_output_layouts=Shard(1)
        )
    elif model.position_embedding is not None:
        plan["position_embedding"] = rows
    if model.head is not None:
        plan["norm"] = SequenceParallel(use_local_output=False)
        plan["head"] = ColwiseParallel(
            input_layouts=Replicate(), output_layouts=Shard(-1), use_local_output=False
        )
    return plan


def _block_plan(block: nn.Module) -> dict[str, ParallelStyle]:
    gather = PrepareModuleInput(input_layouts=Shard(1), desired_input_layouts=Replicate())
    gather_first = PrepareModuleInput(
        input_layouts=(Shard(1), None, None), desired_input_layouts=(Replicate(), None, None)
    )
    columns = ColwiseParallel
    scatter = RowwiseParallel(output_layouts=Shard(1))
    plan: dict[str, ParallelStyle] = {
        "attention_norm": SequenceParallel(use_local_output=True),
        "attention": gather_first,
        "attention.q": columns(),
        "attention.k": columns(),
        "attention.v": columns(),
        "attention.out": scatter,
        "mlp_norm": SequenceParallel(use_local_output=True),
        "mlp": gather,
        **_mlp_plan(block.get_submodule("mlp"), "mlp"),
    }
    if not isinstance(block.attention.q_norm, nn.Identity):  # type: ignore[union-attr]
        # heads are what is split here: each gain's gradient is summed over the ranks' heads
        whole = block.attention.qk_norm == "projection"  # type: ignore[union-attr]
        for norm in ("attention.q_norm", "attention.k_norm"):
            plan[norm] = SplitNorm() if whole else SequenceParallel(sequence_dim=2, use_local_output=True)
    return plan


def _mlp_plan(mlp: nn.Module, name: str) -> dict[str, ParallelStyle]:
    """A feed-forward layer by its features; of a mixture, the shared experts so, and the routed ones too."""
    if isinstance(mlp, MoE):
        shared = {} if mlp.shared is None else _mlp_plan(mlp.shared, f"{name}.shared")
        return {f"{name}.router": SplitRouter(), f"{name}.experts": SplitExperts(), **shared}
    into = ("up", "gate") if hasattr(mlp, "gate") else ("up",)
    plan: dict[str, ParallelStyle] = {f"{name}.{matrix}": ColwiseParallel() for matrix in into}
    plan[f"{name}.down"] = RowwiseParallel(output_layouts=Shard(1))
    return plan

"""Lay a model out on a mesh. The order is the point of this page."""

import torch
from torch.distributed.device_mesh import DeviceMesh

from isoflop.config.schema import RunConfig
from isoflop.dist.mesh import build_expert_mesh
from isoflop.model.decoder import Decoder
from isoflop.model.init import initialize
from isoflop.parallel.context import split_sequence
from isoflop.parallel.expert import split_balance, split_experts
from isoflop.parallel.recompute import compile_blocks, recompute
from isoflop.parallel.shard import shard
from isoflop.parallel.stages import stage_layers, stages_of
from isoflop.parallel.tensor import split_width


def build_parts(
    config: RunConfig, mesh: DeviceMesh, context: DeviceMesh, device: torch.device
) -> dict[int, Decoder]:
    """This rank's part of the model, by stage number (several when interleaved), with its initial weights.

    No rank ever holds more than its own shard, but for one whole matrix at a time while drawing it.
    `context` is the mesh of the ranks that share this one's sequences.
    """
    parallel = config.parallel
    layers = stage_layers(config.model, parallel.pipeline * parallel.stages_per_rank)
    experts = build_expert_mesh(parallel, device) if parallel.expert > 1 else None
    parts = {}
    for stage in stages_of(mesh.get_local_rank("pipeline"), parallel):
        with torch.device("meta"):
            part = Decoder(config.model).to(getattr(torch, config.precision.params))
        part.keep(layers[stage], first=stage == 0, last=stage == len(layers) - 1)
        part.loss_chunk_tokens = parallel.loss_chunk_tokens
        split_width(part, mesh["tensor"])  # first: everything later must see sharded weights
        split_experts(part, experts, mesh["tensor"])
        split_sequence(part, context, config.train.seq_len, device)
        split_balance(part, context)
        recompute(part, parallel)
        compile_blocks(part, parallel)  # around it, so that the graph sees what is computed twice
        shard(part, mesh, experts, parallel, config.precision)  # last: gathers what is left local above
        part.to_empty(device=device)
        part.tie()  # new memory made two parameters of the shared one
        initialize(part, config.model, config.seed)
        parts[stage] = part
    return parts

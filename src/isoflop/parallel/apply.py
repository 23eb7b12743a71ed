"""Lay a model out on a mesh. The order is the point of this page."""

import torch
from torch.distributed.device_mesh import DeviceMesh

from isoflop.config.schema import RunConfig
from isoflop.model.decoder import Decoder
from isoflop.model.init import initialize
from isoflop.parallel.shard import shard
from isoflop.parallel.stages import stage_layers
from isoflop.parallel.tensor import split_width


def build_parts(config: RunConfig, mesh: DeviceMesh, device: torch.device) -> dict[int, Decoder]:
    """This rank's part of the model, by stage number (several when interleaved), with its initial weights.

    No rank ever holds more than its own shard, but for one whole matrix at a time while drawing it.
    """
    parallel = config.parallel
    layers = stage_layers(config.model, parallel.pipeline * parallel.stages_per_rank)
    parts = {}
    for stage in range(mesh.get_local_rank("pipeline"), len(layers), parallel.pipeline):
        with torch.device("meta"):
            part = Decoder(config.model).to(getattr(torch, config.precision.params))
        part.keep(layers[stage], first=stage == 0, last=stage == len(layers) - 1)
        split_width(part, mesh["tensor"])  # first: everything later must see sharded weights
        shard(part, mesh, parallel, config.precision)  # last: gathers what the lines above left local
        part.to_empty(device=device)
        part.tie()  # new memory made two parameters of the shared one
        initialize(part, config.model, config.seed)
        parts[stage] = part
    return parts

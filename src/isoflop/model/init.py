"""Initial weights, each a function of the seed and of its name: the same in every layout."""

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from isoflop.config.schema import ModelConfig

RESIDUAL_OUTPUTS = ("attention.out.weight", "mlp.down.weight")


def canonical_name(name: str, config: ModelConfig) -> str:
    """The name under which a parameter is initialised and saved: a tied head is the embedding."""
    return "embedding.weight" if config.tied and name == "head.weight" else name


@torch.no_grad()
def initialize(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Fill every parameter of `model`, whole or sharded.

    Matrices are normal with deviation `init_std`, those that write to the residual stream divided by
    √(2·n_layers) (Radford et al. 2019, §2.3); gains are one, biases zero.
    """
    for name, parameter in model.named_parameters():
        name = canonical_name(name, config)
        if parameter.ndim < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        residual = name.endswith(RESIDUAL_OUTPUTS)
        std = config.init_std / (math.sqrt(2 * config.n_layers) if residual else 1.0)
        whole = draw(name, parameter.shape, std, seed, parameter.device)
        if isinstance(parameter, DTensor):  # every rank draws the whole and keeps its shard: nothing is sent
            whole = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
        parameter.copy_(whole)


def draw(name: str, shape: torch.Size, std: float, seed: int, device: torch.device) -> Tensor:
    """A float32 normal tensor that depends on `seed` and `name` alone (and on the kind of device)."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    generator = torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.empty(shape, device=device).normal_(0.0, std, generator=generator)

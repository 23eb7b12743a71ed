"""Initial weights, each a function of the seed and of its name: the same in every layout."""

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from isoflop.config.schema import ModelConfig
from isoflop.model.parametrization import base_shape, parameter_scale

RESIDUAL_OUTPUTS = (
    "attention.out.weight",
    "mlp.down.weight",
    "mlp.experts.down.weight",
    "mlp.shared.down.weight",
)


def canonical_name(name: str, config: ModelConfig) -> str:
    """The name under which a parameter is initialised and saved: a tied head is the embedding."""
    return "embedding.weight" if config.tied and name == "head.weight" else name


@torch.no_grad()
def initialize(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Fill every parameter of `model`, whole or sharded: matrices normal, gains one, biases zero."""
    for name, parameter in model.named_parameters():
        name = canonical_name(name, config)
        if parameter.ndim < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        std = initial_std(name, parameter.shape, config)
        cut = 3 * std if config.init == "mitchell" else None
        whole = draw(name, parameter.shape, std, seed, parameter.device, cut)
        if isinstance(parameter, DTensor):  # every rank draws the whole and keeps its shard: nothing is sent
            whole = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
        parameter.copy_(whole)


def draw(
    name: str, shape: torch.Size, std: float, seed: int, device: torch.device, cut: float | None = None
) -> Tensor:
    """A float32 normal tensor that depends on `seed` and `name` alone (and on the kind of device).

    With `cut` nothing is further from zero than that, and the deviation is a little less than `std`.
    """
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    generator = torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
    whole = torch.empty(shape, device=device)
    if cut is None:
        return whole.normal_(0.0, std, generator=generator)
    return nn.init.trunc_normal_(whole, 0.0, std, -cut, cut, generator=generator)


class Place(NamedTuple):
    """Where a matrix stands, at the base shape of the parametrization."""

    residual: bool  # writes to the residual stream
    layer: int  # from 0; 0 outside the blocks
    fan_in: float
    width: float
    n_layers: float
    init_std: float


def initial_std(name: str, shape: torch.Size, config: ModelConfig) -> float:
    """Deviation of the matrix `name` (…, features in) under `config.init` and `config.parametrization`."""
    width, n_layers = base_shape(config)
    residual = name.endswith(RESIDUAL_OUTPUTS)
    layer = int(name.split(".")[1]) if name.startswith("blocks.") else 0
    fan_in = shape[-1] * width / config.width
    place = Place(residual, layer, fan_in, width, n_layers, config.init_std)
    return SCHEMES[config.init](place) * parameter_scale(name, len(shape), config).std


def _scaled(place: Place) -> float:
    """Radford et al. 2019, §2.3: what the 2·n_layers branches write adds up to the same variance."""
    return place.init_std / (math.sqrt(2 * place.n_layers) if place.residual else 1.0)


def _normal(place: Place) -> float:
    return place.init_std


def _small(place: Place) -> float:
    """Nguyen and Salazar 2019, §2.2; outputs 2 / (n_layers·√width), as GPT-NeoX-20B (Black et al. 2022)."""
    if place.residual:
        return 2 / (place.n_layers * math.sqrt(place.width))
    return math.sqrt(2 / (5 * place.width))


def _mitchell(place: Place) -> float:
    """OLMo (Groeneveld et al. 2024): one over the root of the inputs, less in the outputs of later layers."""
    return 1 / math.sqrt(place.fan_in * (2 * (place.layer + 1) if place.residual else 1))


SCHEMES: dict[str, Callable[[Place], float]] = {
    "scaled": _scaled,
    "normal": _normal,
    "small": _small,
    "mitchell": _mitchell,
}

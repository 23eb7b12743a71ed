"""Parameters and FLOPs in closed form against torch's own counts."""

from itertools import product

import pytest
import torch
from tiny_models import random_tokens, tiny_config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder
from isoflop.model.flops import (
    attention_flops_per_square,
    flops_per_token,
    matmul_flops_per_token,
    n_params,
    n_params_non_embed,
)

CHOICES = {
    "tied": (True, False),
    "norm": ("rmsnorm", "layernorm"),
    "qk_norm": ("projection", "head", False),
    "positions": ("rope", "learned", "sinusoidal", "none"),
    "activation": ("swiglu", "gelu"),
    "n_kv_heads": (None, 1, 2),
    "d_head": (None, 8),
}


def test_parameters_are_those_that_torch_counts() -> None:
    """Whole, and without those over the vocabulary or the positions, for every combination of options."""
    for values in product(*CHOICES.values()):
        config = tiny_config(**dict(zip(CHOICES, values, strict=True)))
        with torch.device("meta"):
            sizes = {name: parameter.numel() for name, parameter in Decoder(config).named_parameters()}
        core = [size for name, size in sizes.items() if "embedding" not in name and name != "head.weight"]
        assert (n_params(config), n_params_non_embed(config)) == (sum(sizes.values()), sum(core)), config


@pytest.mark.parametrize(
    "config",
    [
        tiny_config(),
        tiny_config(activation="gelu", n_kv_heads=None, d_head=None, tied=False, positions="learned"),
    ],
    ids=["gated-grouped-tied", "plain-untied"],
)
def test_flops_are_those_that_torch_counts(config: ModelConfig) -> None:
    """Products with weights exactly; of attention's, torch counts whole squares and we the lower half."""
    tokens = random_tokens(3, 16)
    model = Decoder(config)
    # torch's own attention in two plain products, so that its backward computes nothing again
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens, torch.zeros_like(tokens)).sum().backward()
    counts = {str(operator): count for operator, count in counter.get_flop_counts()["Global"].items()}
    squares = counts.pop("aten.bmm")
    assert sum(counts.values()) == matmul_flops_per_token(config) * tokens.numel()
    assert squares == 2 * attention_flops_per_square(config) * 3 * 16**2
    assert sum(counts.values()) + squares // 2 == flops_per_token(config, 16) * tokens.numel()

"""Initial deviations by the names of their schemes."""

import math
from typing import Any

import pytest
import torch

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder
from isoflop.model.init import initialize

WIDTH, D_FF, LAYERS = 128, 320, 3


def initial(init: str, **changes: Any) -> dict[str, torch.Tensor]:
    sizes = {"n_layers": LAYERS, "width": WIDTH, "n_heads": 4, "d_ff": D_FF, "vocab_size": 300}
    config = ModelConfig(**{**sizes, "init": init, "positions": "learned", "max_seq_len": 64, **changes})
    model = Decoder(config)
    initialize(model, config, seed=0)
    return dict(model.named_parameters())


def expected(init: str, name: str) -> float:
    """By the papers' formulas, of a weight by its name."""
    layer = int(name.split(".")[1]) if name.startswith("blocks.") else 0
    writes = ".attention.out." in name or ".mlp.down." in name
    inputs = D_FF if ".mlp.down." in name else WIDTH
    return {
        "normal": 0.02,
        "scaled": 0.02 / math.sqrt(2 * LAYERS) if writes else 0.02,
        "small": 2 / LAYERS / math.sqrt(WIDTH) if writes else math.sqrt(2 / 5 / WIDTH),
        "mitchell": 1 / math.sqrt(2 * inputs * (layer + 1) if writes else inputs),
    }[init]


@pytest.mark.parametrize("init", ["normal", "scaled", "small", "mitchell"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_deviations_are_the_schemes(init: str, tied: bool) -> None:
    cut = 0.98658 if init == "mitchell" else 1.0  # what is left of σ between -3σ and 3σ
    for name, weight in initial(init, tied=tied).items():
        if weight.ndim < 2:
            continue
        std, n = cut * expected(init, name), weight.numel()
        assert weight.std().item() == pytest.approx(std, rel=6 / math.sqrt(2 * n)), name
        assert abs(weight.mean().item()) < 6 * std / math.sqrt(n), name


def test_mitchells_tails_are_cut_and_the_others_are_not() -> None:
    """No weight is beyond three deviations; of a normal's 40,000 some hundred are."""
    for name in ("embedding.weight", "blocks.2.mlp.down.weight", "blocks.0.mlp.up.weight"):
        assert initial("mitchell")[name].abs().max() <= 3 * expected("mitchell", name) * (1 + 1e-6)
        assert initial("normal")[name].abs().max() > 3.2 * 0.02


@pytest.mark.parametrize("init", ["small", "mitchell"])
def test_a_stage_starts_with_what_the_whole_has_there(init: str) -> None:
    """A scheme that reads the layer's number reads it from the name, not from where the layer stands."""
    sizes = {"n_layers": 4, "width": 16, "n_heads": 2, "d_ff": 24, "vocab_size": 40}
    config = ModelConfig(**sizes, init=init)
    part = Decoder(config)
    part.keep(range(2, 4), first=False, last=True)
    initialize(part, config, seed=0)
    whole = Decoder(config)
    initialize(whole, config, seed=0)
    weights = whole.state_dict()
    for name, weight in part.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_experts_are_drawn_as_the_layer_they_replace() -> None:
    """Their matrices stand in one tensor (experts, out, in); the outputs are scaled as a layer's outputs."""
    weights = initial("scaled", moe={"n_experts": 4, "top_k": 2, "n_shared_experts": 1, "d_ff": 64})
    for name, std in {
        "blocks.1.mlp.experts.down.weight": 0.02 / math.sqrt(2 * LAYERS),
        "blocks.1.mlp.shared.down.weight": 0.02 / math.sqrt(2 * LAYERS),
        "blocks.1.mlp.experts.up.weight": 0.02,
    }.items():
        n = weights[name].numel()
        assert weights[name].std().item() == pytest.approx(std, rel=6 / math.sqrt(2 * n)), name

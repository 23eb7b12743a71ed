"""μP and CompleteP: their factors, what they do to the forward pass, and the coordinate check that tells."""

import math
from typing import Any

import pytest
import torch
from command_line import command
from torch.testing import assert_close

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder
from isoflop.model.init import initialize
from isoflop.optim.adamw import AdamWConfig
from isoflop.train.coordinates import activation_changes, slope

WIDTHS = (32, 64, 128, 256)
DEPTHS = (2, 4, 8, 16, 32)


def model(**changes: Any) -> ModelConfig:
    """A narrow base; wider ones have more heads of the same size."""
    width = changes.get("width", 32)
    sizes = {"n_layers": 2, "width": width, "n_heads": width // 8, "d_ff": 2 * width, "vocab_size": 64}
    return ModelConfig(**{**sizes, **changes})


def weights(config: ModelConfig) -> dict[str, torch.Tensor]:
    whole = Decoder(config).double()
    initialize(whole, config, seed=0)
    return dict(whole.named_parameters())


def logits(config: ModelConfig, parameters: dict[str, torch.Tensor]) -> torch.Tensor:
    whole = Decoder(config).double()
    whole.load_state_dict(parameters, strict=not config.tied)
    tokens = torch.arange(20).view(2, 10)
    return whole(tokens, tokens // 5)


@pytest.mark.parametrize("kind", ["mup", "completep"])
@pytest.mark.parametrize("init", ["scaled", "normal", "small", "mitchell"])
def test_at_the_base_shape_it_is_the_standard_model(kind: str, init: str) -> None:
    base = {"base_width": 32, "base_depth": 2 if kind == "completep" else None, "base_d_head": 8}
    config, standard = model(parametrization=kind, init=init, **base), model(init=init)
    found, right = weights(config), weights(standard)
    for name, weight in found.items():
        assert torch.equal(weight, right[name]), name
    assert torch.equal(logits(config, found), logits(standard, right))


@pytest.mark.parametrize("norm_place", ["before", "after"])
@pytest.mark.parametrize("tied", [True, False])
def test_multipliers_are_those_that_weights_could_carry(tied: bool, norm_place: str) -> None:
    """Scores over d_head, branches over (layers / base)^α, logits over width / base: folded into weights,
    the standard model computes the same."""
    shape: dict[str, Any] = {"width": 64, "n_heads": 4, "n_layers": 6, "tied": tied, "norm_place": norm_place}
    config = model(parametrization="completep", base_width=16, base_depth=2, depth_alpha=0.7, **shape)
    given = weights(config)
    folded = {name: weight.detach().clone() for name, weight in given.items()}
    last_in_branch = (
        ("attention_norm.weight", "mlp_norm.weight")
        if norm_place == "after"
        else ("attention.out.weight", "mlp.down.weight")
    )
    for name, weight in folded.items():
        if name.endswith("attention.q.weight"):
            weight /= math.sqrt(16)  # d_head; the standard model divides by its root once
        if name.startswith("blocks.") and name.endswith(last_in_branch):
            weight /= 3**0.7
        if name == "norm.weight":
            weight /= 4
    assert_close(logits(config, given), logits(model(**shape), folded), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(logits(config, given), logits(model(**shape), given), rtol=1e-3)


@pytest.mark.parametrize("kind", ["mup", "completep"])
@pytest.mark.parametrize("init", ["scaled", "normal", "small", "mitchell"])
def test_initial_deviations_follow_the_width_alone(kind: str, init: str) -> None:
    """In the blocks over the root of the width's ratio, elsewhere those of the base, two layers deep."""
    depth = {"n_layers": 4, "base_depth": 2} if kind == "completep" else {"n_layers": 2}
    wide = weights(model(width=512, parametrization=kind, init=init, base_width=32, tied=False, **depth))
    base = weights(model(width=32, init=init, tied=False, vocab_size=4096))
    for name in ("blocks.1.attention.q", "blocks.0.mlp.down", "blocks.1.attention.out", "head", "embedding"):
        found, right = wide[f"{name}.weight"].std().item(), base[f"{name}.weight"].std().item()
        n = min(wide[f"{name}.weight"].numel(), base[f"{name}.weight"].numel())
        expected = right / 4 if name.startswith("blocks.") else right  # √(512 / 32) = 4
        assert found == pytest.approx(expected, rel=6 / math.sqrt(2 * n)), name


def changes(sizes: tuple[int, ...], key: str, lr: float = 1e-3, **config: Any) -> dict[str, float]:
    """The exponent in `key` of each activation's change after three steps."""
    found = {}
    for size in sizes:
        optimizer = AdamWConfig(lr=lr, weight_decay=0.1)
        shape = model(**{key: size}, **config)
        found[size] = activation_changes(shape, optimizer, steps=3, seeds=(0, 1))[-1]
    names = [name for name in found[sizes[0]] if all(name in found[size] for size in sizes)]
    return {name: slope(sizes, [found[size][name] for size in sizes]) for name in names}


@pytest.mark.parametrize("tied", [True, False])
def test_coordinates_move_alike_in_every_width_under_mup(tied: bool) -> None:
    """Activations' change has no power of the width in it; in the standard parametrization it has."""
    flat = changes(WIDTHS, "width", parametrization="mup", base_width=32, tied=tied)
    growing = changes(WIDTHS, "width", tied=tied)
    assert len(flat) == 7
    for name, power in flat.items():
        assert abs(power) < 0.25, (name, power)
        assert growing[name] > 0.8 or name == "embedding", (name, growing[name])


def test_heads_may_grow_with_the_width() -> None:
    """Scores divided by d_head stay level where its root would not."""
    grown: dict[str, Any] = {"n_heads": 4, "parametrization": "mup", "base_width": 32}
    flat = changes(WIDTHS, "width", **grown)
    assert all(abs(power) < 0.25 for power in flat.values()), flat


def test_coordinates_move_alike_in_every_depth_under_completep() -> None:
    """The stream's change grows as the depth under μP; under CompleteP, with α = 1, it does not."""
    how: dict[str, Any] = {"base_width": 32, "init": "normal", "init_std": 0.1}
    flat = changes(DEPTHS, "n_layers", parametrization="completep", base_depth=2, **how)
    growing = changes(DEPTHS, "n_layers", parametrization="mup", **how)
    assert growing["stream"] > 0.8
    assert growing["logits"] > 0.25
    assert -0.4 < flat["stream"] < 0.15
    assert abs(flat["logits"]) < 0.2


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("model.parametrization=mup", "model.base_width"),
        ("model.parametrization=completep model.base_width=32", "model.base_depth"),
        ("model.base_width=32", "model.base_width"),
        ("model.base_d_head=32", "model.base_d_head"),
        ("model.parametrization=mup model.base_width=32 model.base_depth=2", "model.base_depth"),
        ("model.parametrization=mup model.base_width=32 model.depth_alpha=0.5", "model.depth_alpha"),
        ("model.parametrization=mup model.base_width=32 optimizer=sgd", "model.parametrization"),
        ("model.parametrization=mup model.base_width=32 optimizer=muon", "model.parametrization"),
        ("model.init=small model.init_std=0.01", "model.init_std"),
    ],
)
def test_what_nothing_would_read_or_what_is_missing_is_a_fault(words: str, key: str) -> None:
    ended = command(words)
    assert ended.code == 2
    assert [line.split()[0].partition("=")[0] for line in ended.err.splitlines()[1:]] == [key]


@pytest.mark.parametrize("optimizer", ["adamw", "adam_mini", "lion"])
def test_what_the_rules_allow(optimizer: str) -> None:
    words = f"model.parametrization=completep model.base_width=32 model.base_depth=2 optimizer={optimizer}"
    ended = command(words)
    assert (ended.code, ended.err) == (0, "")

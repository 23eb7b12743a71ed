"""Which parameter stands in which group, by name, and with which settings."""

from typing import Any

import pytest
from torch import nn

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder
from isoflop.optim.adamw import AdamWConfig
from isoflop.optim.groups import parameter_groups

BLOCK = {
    "heads": {"attention.q.weight", "attention.k.weight"},
    "matrix": {"attention.v.weight", "attention.out.weight", "mlp.up.weight", "mlp.down.weight"},
    "vector": {
        f"{norm}.{part}"
        for norm in ("attention_norm", "mlp_norm", "attention.q_norm", "attention.k_norm")
        for part in ("weight", "bias")
    },
}
EMBEDDINGS = {"embedding.weight", "position_embedding.weight"}


def model(**changes: Any) -> ModelConfig:
    """Every kind of parameter that a dense model has."""
    kinds = {
        "norm": "layernorm",
        "qk_norm": True,
        "activation": "gelu",
        "positions": "learned",
        "tied": False,
    }
    sizes = {"n_layers": 2, "width": 16, "n_heads": 2, "d_ff": 24, "vocab_size": 8, "max_seq_len": 4}
    return ModelConfig(**{**kinds, **sizes, **changes})


def groups(config: ModelConfig, named: Any = None, **optimizer: Any) -> dict[str, dict[str, Any]]:
    """The group of each parameter, by name."""
    named = Decoder(config).named_parameters() if named is None else named
    found = parameter_groups(named, config, AdamWConfig(weight_decay=0.1, **optimizer))
    for group in found:
        assert len(group["names"]) == len(group["params"]) > 0
    names = [name for group in found for name in group["names"]]
    assert len(names) == len(set(names))
    return {name: group for group in found for name in group["names"]}


def in_blocks(kind: str) -> set[str]:
    return {f"blocks.{layer}.{name}" for layer in range(2) for name in BLOCK[kind]}


def test_every_parameter_is_of_one_kind() -> None:
    found = groups(model())
    kinds = {
        kind: {name for name in found if found[name]["kind"] == kind}
        for kind in ("embedding", "head", "heads", "matrix", "vector")
    }
    assert kinds == {
        "embedding": EMBEDDINGS,
        "head": {"head.weight"},
        "heads": in_blocks("heads"),
        "matrix": in_blocks("matrix"),
        "vector": in_blocks("vector") | {"norm.weight", "norm.bias"},
    }
    assert found.keys() == {name for name, _ in Decoder(model()).named_parameters()}
    assert {name for name in found if found[name]["block_rows"] == 8} == in_blocks("heads")  # 16 / 2 heads


@pytest.mark.parametrize("decay", [None, "projections", "matrices", "all"])
def test_what_decays(decay: str | None) -> None:
    """By default neither gains and biases nor embeddings."""
    found = groups(model(), **({} if decay is None else {"decay": decay}))
    decaying = {name for name in found if found[name]["weight_decay"] == 0.1}
    assert {group["weight_decay"] for group in found.values()} <= {0.1, 0.0}
    projections = in_blocks("heads") | in_blocks("matrix") | {"head.weight"}
    right = {"matrices": projections | EMBEDDINGS, "all": set(found)}.get(decay or "", projections)
    assert decaying == right


def test_a_tied_head_is_an_embedding() -> None:
    """Under the one name that the tied matrix has, also on a rank that holds it as the head."""
    config = model(tied=True)
    assert groups(config)["embedding.weight"]["weight_decay"] == 0
    head = Decoder(config).head
    assert head is not None
    alone = groups(config, [("embedding.weight", head.weight)])
    assert alone["embedding.weight"]["kind"] == "embedding"


def test_order_is_that_of_names_and_frozen_parameters_are_left_out() -> None:
    whole = Decoder(model())
    whole.blocks["0"].requires_grad_(False)
    forwards = parameter_groups(whole.named_parameters(), model(), AdamWConfig())
    backwards = parameter_groups(reversed(list(whole.named_parameters())), model(), AdamWConfig())
    assert [group["names"] for group in forwards] == [group["names"] for group in backwards]
    for group in forwards:
        assert group["names"] == sorted(group["names"])
        assert not any(name.startswith("blocks.0") for name in group["names"])
        named = dict(whole.named_parameters())
        assert all(named[name] is p for name, p in zip(group["names"], group["params"], strict=True))


SETTINGS = ("lr_scale", "eps_scale", "weight_decay")


@pytest.mark.parametrize(
    ("kind", "alpha", "expected"),
    [
        ("standard", 1.0, {"block": (1, 1, 0.1), "gain": (1, 1, 0), "end": (1, 1, 0)}),
        ("mup", 1.0, {"block": (1 / 4, 1 / 4, 0.4), "gain": (1, 1 / 4, 0), "end": (1, 1 / 4, 0)}),
        # l = 3: α = 1 leaves rates alone and divides ε by l; α = 1/2 divides both by √3
        ("completep", 1.0, {"block": (1 / 4, 1 / 12, 0.4), "gain": (1, 1 / 12, 0), "end": (1, 1 / 4, 0)}),
        (
            "completep",
            0.5,
            {
                "block": (1 / 4 / 3**0.5, 1 / 4 / 3**0.5, 0.4),
                "gain": (1 / 3**0.5, 1 / 4 / 3**0.5, 0),
                "end": (1, 1 / 4, 0),
            },
        ),
    ],
)
def test_a_parametrization_scales_settings_as_its_table_says(
    kind: str, alpha: float, expected: dict[str, tuple[float, float, float]]
) -> None:
    """Four times as wide as the base and, for CompleteP, three times as deep (Dey et al. 2025, table 1)."""
    config = model(width=64, n_layers=6, parametrization=kind, base_width=16, base_depth=2, depth_alpha=alpha)
    found = groups(config)
    for name, where in {
        "blocks.3.mlp.down.weight": "block",
        "blocks.0.attention.q.weight": "block",
        "blocks.5.mlp_norm.weight": "gain",
        "blocks.5.attention.q_norm.bias": "gain",
        "norm.weight": "end",
        "embedding.weight": "end",
        "position_embedding.weight": "end",
    }.items():
        assert [found[name][key] for key in SETTINGS] == pytest.approx(expected[where]), name
    assert [found["head.weight"][key] for key in SETTINGS] == pytest.approx([*expected["end"][:2], 0.1])


def test_adams_epsilon_follows() -> None:
    config = model(width=64, parametrization="mup", base_width=16)
    optimizer = AdamWConfig(eps=1e-6)
    built = optimizer.build(parameter_groups(Decoder(config).named_parameters(), config, optimizer))
    assert {group["eps"] for group in built.param_groups} == {1e-6 / 4}


def test_modules_that_are_no_decoder_have_groups_too() -> None:
    found = groups(model(), nn.LayerNorm(3).named_parameters())
    assert {group["kind"] for group in found.values()} == {"vector"}

"""The parameters that `isoflop.plan` reckons with are the model's."""

import pytest
import torch
from experiments import TINY

from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.config.schema import RunConfig
from isoflop.model.decoder import Decoder
from isoflop.model.flops import n_params
from isoflop.plan.shapes import chunk, elements, held_parameters, parameters, place, stages_by_rank

MODELS = {
    "plain": (),
    "untied": ("model.tied=false",),
    "layernorm-gelu-learned": ("model.norm=layernorm", "model.activation=gelu", "model.positions=learned"),
    "heads-normed": ("model.qk_norm=head", "model.norm=layernorm"),
    "projections-normed": ("model.qk_norm=projection", "model.d_head=16"),
    "mixture": ("model=moe-debug", "model.moe.n_shared_experts=2"),
    "mixture-gelu": ("model=moe-debug", "model.activation=gelu", "model.moe.every=2"),
}


def config(*overrides: str) -> RunConfig:
    return load_run(compose("train", [*TINY, "data.path=d", *overrides]))


@pytest.mark.parametrize("model", MODELS)
def test_names_and_shapes_are_the_models(model: str) -> None:
    """Whole, and of each part of it that stands on its own."""
    wanted = config(*MODELS[model]).model
    for layers, first, last in (
        (range(4), True, True),
        (range(1, 3), True, False),
        (range(3, 4), False, True),
    ):
        with torch.device("meta"):
            part = Decoder(wanted)
        part.keep(layers, first, last)
        real = {name: tuple(parameter.shape) for name, parameter in part.named_parameters()}
        assert {p.name: p.shape for p in parameters(wanted, layers, first, last)} == real


@pytest.mark.parametrize("model", ["8b", "70b", "405b"])
def test_the_parameters_of_large_models_add_up(model: str) -> None:
    """Over all stages of a pipeline, to the count in closed form; the layers are all there, once."""
    overrides = ["data.path=d", f"model={model}", "parallel.pipeline=8", "train.microbatch_sequences=1"]
    large = load_run(compose("train", overrides))
    held = [p for rank in range(8) for stage in held_parameters(large, rank) for p in stage]
    assert sum(elements(p.shape) for p in held) == n_params(large.model)
    assert len({p.name for p in held}) == len(held)


def test_a_v_holds_both_ends() -> None:
    v = config(
        "parallel.pipeline=2",
        "parallel.stages_per_rank=2",
        "parallel.pipeline_schedule=zbv",
        "parallel.shard=zero2",
    )
    assert stages_by_rank(v) == [[0, 3], [1, 2]]
    assert stages_by_rank(config()) == []


@pytest.mark.parametrize(("size", "degree"), [(8, 4), (7, 3), (2, 4), (1, 1), (5, 4)])
def test_shares_are_torchs(size: int, degree: int) -> None:
    """As torch cuts a tensor into chunks; ranks that get none get zero."""
    pieces = [len(piece) for piece in torch.arange(size).chunk(degree)]
    assert [chunk(size, rank, degree) for rank in range(degree)] == pieces + [0] * (degree - len(pieces))


def test_places_are_counted_as_the_mesh_counts() -> None:
    """Tensor ranks are neighbours; then the shards of a copy, the copies, the stages."""
    layout = config(
        "parallel.data=4",
        "parallel.replicas=2",
        "parallel.tensor=2",
        "parallel.pipeline=2",
        "train.microbatch_sequences=1",
    ).parallel
    grid = torch.arange(16).view(2, 2, 2, 2)
    for rank in range(16):
        at = place(layout, rank)
        assert grid[at.pipeline, at.replicate, at.shard, at.tensor] == rank

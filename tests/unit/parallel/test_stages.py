"""Layers are cut into the best stages that there are."""

from itertools import combinations

import pytest

from isoflop.config.schema import ModelConfig
from isoflop.parallel.stages import stage_layers


def config(n_layers: int, vocab_size: int) -> ModelConfig:
    return ModelConfig(n_layers=n_layers, width=16, n_heads=2, d_ff=24, vocab_size=vocab_size)


def weights_of_stage(layers: range, model: ModelConfig, last: bool) -> int:
    """Four projections, three feed-forward matrices a layer, and the head."""
    block = 4 * model.width**2 + 3 * model.width * model.d_ff
    return len(layers) * block + last * model.vocab_size * model.width


def heaviest(stages: list[range], model: ModelConfig) -> int:
    return max(weights_of_stage(stage, model, stage is stages[-1]) for stage in stages)


def every_split(n_layers: int, n_stages: int) -> list[list[range]]:
    cuts = combinations(range(1, n_layers), n_stages - 1)
    return [list(map(range, (0, *cut), (*cut, n_layers))) for cut in cuts]


@pytest.mark.parametrize("vocab_size", [1, 100, 136, 300, 1000])  # a head of nothing to nine blocks
def test_no_split_has_a_lighter_heaviest_stage(vocab_size: int) -> None:
    """Every layer once and in order, one at least a stage, and the best of all such splits."""
    for n_layers in range(1, 9):
        model = config(n_layers, vocab_size)
        for n_stages in range(1, n_layers + 1):
            stages = stage_layers(model, n_stages)
            splits = every_split(n_layers, n_stages)
            assert stages in splits
            assert heaviest(stages, model) == min(heaviest(split, model) for split in splits)


def test_the_head_costs_the_last_stage_layers() -> None:
    """A head of three blocks on 9 layers: 6 and 3, not 5 and 4."""
    model = config(9, vocab_size=3 * (4 * 16 + 3 * 24))
    assert stage_layers(model, 2) == [range(6), range(6, 9)]


def test_a_mixture_costs_what_a_token_meets() -> None:
    """Of three dense blocks and three of 4 active experts of 64 the first stage takes one more."""
    moe = {"n_experts": 64, "top_k": 4, "n_dense_layers": 3, "d_ff": 24}
    model = ModelConfig(n_layers=6, width=16, n_heads=2, d_ff=24, vocab_size=1, moe=moe)
    dense, mixed = 4 * 16**2 + 3 * 16 * 24, 4 * 16**2 + 4 * 3 * 16 * 24 + 16 * 64
    cuts = {cut: max(_load(0, cut, dense, mixed), _load(cut, 6, dense, mixed) + 16) for cut in range(1, 6)}
    assert stage_layers(model, 2) == [range(4), range(4, 6)]
    assert min(cuts, key=lambda cut: cuts[cut]) == 4


def _load(start: int, stop: int, dense: int, mixed: int) -> int:
    return sum(dense if layer < 3 else mixed for layer in range(start, stop))


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="3 stages of 2 layers"):
        stage_layers(config(2, 100), 3)

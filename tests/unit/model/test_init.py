"""Initial weights depend on the seed and on the name, and on nothing else."""

import math

import pytest
import torch
from tiny_models import tiny_config
from torch.testing import assert_close

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder
from isoflop.model.init import canonical_name, initialize


def initial(config: ModelConfig, seed: int = 0) -> Decoder:
    model = Decoder(config)
    initialize(model, config, seed)
    return model


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("layers", "first", "last"),
    [(range(1), True, False), (range(1, 2), False, False), (range(2, 4), False, True)],
)
def test_a_part_has_the_weights_of_the_whole(layers: range, first: bool, last: bool, tied: bool) -> None:
    """A stage of a pipeline starts with what the whole model has there; a lone tied head is the embedding."""
    config = tiny_config(n_layers=4, positions="learned", tied=tied)
    whole = initial(config).state_dict()
    part = Decoder(config)
    part.keep(layers, first, last)
    initialize(part, config, seed=0)
    weights = part.state_dict()
    expected = {f"blocks.{i}." for i in layers}
    expected |= {"embedding.", "position_embedding."} if first else set()
    expected |= {"norm.", "head."} if last else set()
    assert weights.keys() == {name for name in whole if name.startswith(tuple(expected))}
    for name, weight in weights.items():
        assert torch.equal(weight, whole[canonical_name(name, config)]), name


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_parts_one_after_another_are_the_whole(tied: bool) -> None:
    """What the first part gives, the next takes: the last one's logits are the whole model's."""
    config = tiny_config(n_layers=4, positions="learned", tied=tied)
    tokens, documents = torch.arange(20).view(2, 10), torch.arange(20).view(2, 10) // 4
    x = tokens
    for layers in (range(1), range(1, 2), range(2, 4)):
        part = Decoder(config)
        part.keep(layers, first=layers.start == 0, last=layers.stop == 4)
        initialize(part, config, seed=0)
        x = part(x, documents)
    assert torch.equal(x, initial(config)(tokens, documents))


def test_another_seed_and_another_name_are_other_weights() -> None:
    """No two matrices of one size are related, and none is what another seed draws."""
    config = tiny_config(n_layers=3, n_kv_heads=None, tied=False)
    drawn = [p.flatten() for seed in (0, 1) for p in initial(config, seed).parameters() if p.ndim == 2]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            if len(one) == len(other):
                correlation = torch.corrcoef(torch.stack((one, other)))[0, 1].abs().item()
                assert correlation < 6 / math.sqrt(len(one))


def test_the_same_seed_is_the_same_model() -> None:
    """Whatever else has been drawn meanwhile, and to the last bit also in another precision."""
    config = tiny_config()
    first = initial(config, seed=3).state_dict()
    torch.manual_seed(17)
    again = Decoder(config).double()
    initialize(again, config, seed=3)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, first[name].double()), name


def test_deviations_are_those_of_the_config() -> None:
    """init_std within six standard errors; over √(2·n_layers) where a block writes to the residual stream."""
    config = tiny_config(
        n_layers=8, init_std=0.05, activation="gelu", norm="layernorm", positions="learned", tied=False
    )
    outputs = 0
    for name, parameter in initial(config).named_parameters():
        if parameter.ndim < 2:
            assert torch.equal(
                parameter, torch.full_like(parameter, 0.0 if name.endswith("bias") else 1.0)
            ), name
            continue
        writes = ".attention.out." in name or ".mlp.down." in name
        outputs += writes
        expected = 0.05 / 4 if writes else 0.05  # √(2·8) = 4
        n = parameter.numel()
        assert parameter.std().item() == pytest.approx(expected, abs=6 * expected / math.sqrt(2 * n)), name
        assert abs(parameter.mean().item()) < 6 * expected / math.sqrt(n), name
    assert outputs == 2 * 8


def test_a_tied_head_is_the_embedding() -> None:
    """One parameter, whose gradient has both parts; untied, they are two."""
    tied, untied = initial(tiny_config()), initial(tiny_config(tied=False))
    assert tied.head.weight is tied.embedding.weight
    assert not torch.equal(untied.head.weight, untied.embedding.weight)
    with torch.no_grad():
        untied.head.weight.copy_(untied.embedding.weight)
    tokens = torch.arange(12).view(2, 6)
    for model in (tied, untied):
        model(tokens, torch.zeros_like(tokens)).logsumexp(-1).sum().backward()
    both = untied.embedding.weight.grad + untied.head.weight.grad
    assert_close(tied.embedding.weight.grad, both, rtol=1e-5, atol=1e-6)

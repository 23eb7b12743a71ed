"""What every optimizer's state must be for the engine to save it, and to make it before there was a step."""

from typing import Any

import pytest
import torch
from updates import draws, group_of, parameters, train

from isoflop.config.schema import OptimizerConfig, optimizers
from isoflop.engine.state import make_optimizer_state

NAMES = ("adamw", "lion", "sgd", "muon", "adam_mini")


def config(name: str, **changes: Any) -> OptimizerConfig:
    return optimizers.find(name)(lr=0.02, weight_decay=0.3, **changes)


def groups(weights: dict[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
    return [group_of(kind, p, 0.3) for kind, p in weights.items()]


def test_every_optimizer_is_here() -> None:
    assert set(NAMES) == set(optimizers.names())


@pytest.mark.parametrize("name", NAMES)
def test_making_the_state_is_no_step(name: str) -> None:
    """Weights keep their bits, and training goes on as if the state had not been made first."""
    start, gradients = draws()
    fresh, made = parameters(start), parameters(start)
    train(config(name).build(groups(fresh)), fresh, gradients)
    optimizer = config(name).build(groups(made))
    make_optimizer_state(optimizer)
    assert optimizer.state
    for kind, parameter in made.items():
        assert torch.equal(parameter, torch.tensor(start[kind])), kind
    train(optimizer, made, gradients)
    for kind, parameter in made.items():
        assert torch.equal(parameter, fresh[kind]), kind
        assert not torch.equal(parameter, torch.tensor(start[kind])), kind


@pytest.mark.parametrize("name", NAMES)
def test_state_is_tensors_that_another_optimizer_can_be_filled_with(name: str) -> None:
    """In place, key by key, as a checkpoint does; halfway, then on: the same as without a break."""
    start, gradients = draws()
    whole, first, second = parameters(start), parameters(start), parameters(start)
    train(config(name).build(groups(whole)), whole, gradients)
    before = config(name).build(groups(first))
    train(before, first, gradients[:5])
    after = config(name).build(groups(second))
    make_optimizer_state(after)
    with torch.no_grad():
        for kind, parameter in second.items():
            parameter.copy_(first[kind])
            saved = before.state[first[kind]]
            assert set(saved) == set(after.state[parameter])
            for key, value in saved.items():
                assert isinstance(value, torch.Tensor)
                after.state[parameter][key].copy_(value)
    train(after, second, gradients[5:])
    for kind, parameter in second.items():
        assert torch.equal(parameter, whole[kind]), kind


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_without_a_gradient_stays(name: str) -> None:
    start, gradients = draws()
    weights = parameters(start)
    optimizer = config(name).build(groups(weights))
    for kind, parameter in weights.items():
        parameter.grad = None if kind == "matrix" else torch.tensor(gradients[0][kind])
    optimizer.step()
    for kind, parameter in weights.items():
        assert torch.equal(parameter, torch.tensor(start[kind])) == (kind == "matrix"), kind
    assert weights["matrix"] not in optimizer.state


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_is_called_with_gradients_on(name: str) -> None:
    parameter = torch.nn.Parameter(torch.tensor([[2.0]]))
    optimizer = config(name).build([group_of("matrix", parameter, 0.0)])

    def closure() -> torch.Tensor:
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert parameter.item() < 2.0

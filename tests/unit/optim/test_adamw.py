"""AdamW by its formula (Loshchilov and Hutter 2019, Algorithm 2), in numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from updates import draws, group_of, parameters, train

from isoflop.optim.adamw import AdamWConfig


def reference(
    theta: NDArray, gradients: list[NDArray], lr: float, betas: tuple[float, float], eps: float, decay: float
) -> NDArray:
    mean = square = np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g**2
        step = (mean / (1 - betas[0] ** t)) / (np.sqrt(square / (1 - betas[1] ** t)) + eps)
        theta = theta - lr * (step + decay * theta)
    return theta


def test_every_field_reaches_the_update() -> None:
    """Twenty steps with unusual values of all four, on a group that decays and one that does not."""
    draw = np.random.default_rng(0)
    start = [draw.normal(size=(3, 4)), draw.normal(size=5)]
    gradients = [[draw.normal(size=part.shape) for part in start] for _ in range(20)]
    parameters = [torch.nn.Parameter(torch.tensor(part)) for part in start]
    config = AdamWConfig(lr=0.02, betas=(0.7, 0.8), eps=0.03, weight_decay=0.4)
    optimizer = config.build([{"params": parameters[:1]}, {"params": parameters[1:], "weight_decay": 0.0}])
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    for i, decay in enumerate((0.4, 0.0)):
        right = reference(start[i], [step[i] for step in gradients], 0.02, (0.7, 0.8), 0.03, decay)
        np.testing.assert_allclose(parameters[i].detach().numpy(), right, rtol=1e-12, atol=1e-13)


def test_the_first_step_in_closed_form() -> None:
    """After one step the bias corrections cancel the betas: θ(1 - lr·decay) - lr·g / (|g| + eps)."""
    parameter = torch.nn.Parameter(torch.tensor([2.0, -3.0], dtype=torch.float64))
    parameter.grad = torch.tensor([0.5, 4.0], dtype=torch.float64)
    AdamWConfig(lr=0.1, betas=(0.9, 0.95), eps=1e-3, weight_decay=0.2).build([{"params": [parameter]}]).step()
    right = [2 * 0.98 - 0.1 * 0.5 / 0.501, -3 * 0.98 - 0.1 * 4 / 4.001]
    np.testing.assert_allclose(parameter.detach().numpy(), right, rtol=1e-14)


@pytest.mark.parametrize("implementation", ["auto", "fused", "foreach", "loop"])
def test_every_implementation_is_torchs_of_that_name(implementation: str) -> None:
    """To the last bit, over steps and groups; what differs between them is rounding."""
    start, gradients = draws()
    ours, theirs = parameters(start), parameters(start)
    config = AdamWConfig(lr=0.02, betas=(0.7, 0.8), eps=0.03, implementation=implementation)
    train(config.build([group_of(kind, p, 0.4) for kind, p in ours.items()]), ours, gradients)
    flags = {"fused": implementation in ("auto", "fused"), "foreach": implementation == "foreach"}
    options: dict[str, Any] = {"lr": 0.02, "betas": (0.7, 0.8), "eps": 0.03, "weight_decay": 0.4, **flags}
    train(torch.optim.AdamW(theirs.values(), **options), theirs, gradients)
    for kind, parameter in ours.items():
        assert torch.equal(parameter, theirs[kind]), kind


def test_a_shard_without_rows_counts_its_steps() -> None:
    """Where there are more ranks than rows; what it saves must be what the others save."""
    parameter = torch.nn.Parameter(torch.empty(0, 4))
    parameter.grad = torch.empty(0, 4)
    optimizer = AdamWConfig().build([group_of("matrix", parameter, 0.4)])
    optimizer.step()
    optimizer.step()
    assert optimizer.state[parameter]["step"] == 2

"""Adam-mini by its formula (Zhang et al. 2024, Algorithms 1 and 2), block after block in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from updates import BLOCK_ROWS, draws, group_of, parameters, train

from isoflop.optim.adam_mini import AdamMiniConfig

CONFIG = AdamMiniConfig(lr=0.02, betas=(0.7, 0.85), eps=0.03, weight_decay=0.4)


def blocks(kind: str, shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Heads of queries and keys, rows of other matrices, a vector whole."""
    if kind == "vector":
        return [(slice(None),)]
    rows = BLOCK_ROWS.get(kind, 1)
    return [(slice(i, i + rows), slice(None)) for i in range(0, shape[0], rows)]


def reference(kind: str, theta: NDArray, gradients: list[NDArray], decay: float) -> NDArray:
    theta = theta.copy()
    for block in blocks(kind, theta.shape):
        mean, square = np.zeros_like(theta[block]), 0.0
        for t, gradient in enumerate(gradients, start=1):
            g = gradient[block]
            mean = 0.7 * mean + 0.3 * g
            square = 0.85 * square + 0.15 * (g**2).mean()
            step = (mean / (1 - 0.7**t)) / (np.sqrt(square / (1 - 0.85**t)) + 0.03)
            theta[block] = theta[block] - 0.02 * (step + decay * theta[block])
    return theta


@pytest.mark.parametrize("decay", [0.0, 0.4])
def test_each_block_has_one_second_moment(decay: float) -> None:
    start, gradients = draws()
    ours = parameters(start)
    train(CONFIG.build([group_of(kind, p, decay) for kind, p in ours.items()]), ours, gradients)
    for kind, parameter in ours.items():
        right = reference(kind, start[kind], [step[kind] for step in gradients], decay)
        np.testing.assert_allclose(parameter.detach().numpy(), right, rtol=1e-12, atol=1e-13)


def test_a_block_of_one_number_is_adamw() -> None:
    """A matrix of one column, whose blocks are its rows, moves as under torch's AdamW."""
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(6, 1, dtype=torch.float64, generator=draw)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mini = CONFIG.build([group_of("matrix", ours, 0.4)])
    adamw = torch.optim.AdamW([theirs], lr=0.02, betas=(0.7, 0.85), eps=0.03, weight_decay=0.4)
    for _ in range(10):
        gradient = torch.randn(6, 1, dtype=torch.float64, generator=draw)
        for parameter, optimizer in ((ours, mini), (theirs, adamw)):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_its_second_moments_are_one_number_a_row() -> None:
    start, gradients = draws()
    ours = parameters(start)
    optimizer = CONFIG.build([group_of(kind, p, 0.0) for kind, p in ours.items()])
    train(optimizer, ours, gradients[:1])
    for kind, parameter in ours.items():
        shape = (1,) if kind == "vector" else (len(parameter), 1)
        assert optimizer.state[parameter]["block_square"].shape == shape
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape

"""Parameters and gradients that the tests of optimizers share."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

STEPS = 12
SHAPES = {"heads": (12, 5), "matrix": (6, 10), "head": (7, 5), "embedding": (7, 5), "vector": (5,)}
BLOCK_ROWS = {"heads": 4}


def draws(seed: int = 0, zeros: float = 0.2) -> tuple[dict[str, NDArray], list[dict[str, NDArray]]]:
    """A parameter of each kind, and gradients for each step, a share of them exactly zero."""
    draw = np.random.default_rng(seed)
    start = {kind: draw.normal(size=shape) for kind, shape in SHAPES.items()}
    gradients = [
        {kind: draw.normal(size=shape) * (draw.random(shape) > zeros) for kind, shape in SHAPES.items()}
        for _ in range(STEPS)
    ]
    return start, gradients


def group_of(kind: str, parameter: Any, decay: float) -> dict[str, Any]:
    """The group that `parameter_groups` would make of one parameter."""
    return {
        "params": [parameter],
        "names": [kind],
        "kind": kind,
        "weight_decay": decay,
        "lr_scale": 1.0,
        "eps_scale": 1.0,
        "block_rows": BLOCK_ROWS.get(kind, 1),
    }


def parameters(
    start: dict[str, NDArray], dtype: torch.dtype = torch.float64
) -> dict[str, torch.nn.Parameter]:
    return {kind: torch.nn.Parameter(torch.tensor(value, dtype=dtype)) for kind, value in start.items()}


def train(
    optimizer: torch.optim.Optimizer,
    weights: dict[str, torch.nn.Parameter],
    gradients: list[dict[str, NDArray]],
) -> None:
    """Step through `gradients`."""
    for step in gradients:
        for kind, parameter in weights.items():
            parameter.grad = torch.tensor(step[kind], dtype=parameter.dtype)
        optimizer.step()
        optimizer.zero_grad()

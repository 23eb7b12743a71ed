"""Model and optimizer as one tree of named tensors, the same names in every layout."""

from typing import Any

import torch
from torch import Tensor


def named_state(named: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`{"model": {name: tensor}, "optimizer": {name: {key: tensor}}}`, sharing memory with the originals.

    The optimizer's state is made first where there is none yet, so that it can be filled.
    """
    if not optimizer.state:
        make_optimizer_state(optimizer)
    return {
        "model": {name: parameter.detach() for name, parameter in named.items()},
        "optimizer": {name: dict(optimizer.state[parameter]) for name, parameter in named.items()},
    }


@torch.no_grad()
def make_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Let `optimizer` create its state by a step that changes nothing: no gradient, no learning rate."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"].zero_()  # that step does not count

"""What our update rules share: they work on the part of each parameter that lies here."""

import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

# An axis after another is how shards of shards are gathered; torch would say on every rank that one would do.
logging.getLogger("torch.distributed.tensor._redistribute").addFilter(
    lambda record: not str(record.msg).startswith("While redistributing")
)


class Rule(Optimizer):
    """An optimizer that updates its groups one after another.

    State is a tensor for each parameter and key, sharded as the parameter is, or the 0-dim `step`: what one
    layout saved any other can load.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; the closure's value where there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self.update(parameters, group)
        return loss

    @abstractmethod
    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update `parameters`, all of which have a gradient, by the settings of their `group`."""

    def state_like(self, parameter: Tensor, *keys: str) -> list[Tensor]:
        """The local parts of the state under `keys`: zeros at first, like the parameter in all but value."""
        state = self.state[parameter]
        for key in keys:
            if key not in state:
                state[key] = torch.zeros_like(parameter)
        return [local(state[key]) for key in keys]

    def next_step(self, parameter: Tensor) -> int:
        """Counts the updates of `parameter`, from 1."""
        state = self.state[parameter]
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32)
        state["step"] += 1
        return int(state["step"])


def local(tensor: Tensor) -> Tensor:
    """The part of `tensor` that lies here, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_gradient(parameter: Tensor) -> Tensor:
    """The gradient of the part of `parameter` that lies here."""
    gradient = parameter.grad
    assert gradient is not None
    if isinstance(parameter, DTensor) and isinstance(gradient, DTensor):
        gradient = gradient.redistribute(placements=parameter.placements)  # no work where it lies so already
    return local(gradient)

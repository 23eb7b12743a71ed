"""Stochastic gradient descent with momentum."""

from typing import Any

from torch import Tensor

from isoflop.optim.rules.base import Rule, local, local_gradient


class SGD(Rule):
    """SGD with decoupled weight decay (Loshchilov and Hutter 2019, Algorithm 1). For θ with gradient g:

    m ← μ·m + g;  θ ← θ - lr · ((g + μ·m with Nesterov's momentum, else m) + weight_decay·θ)

    Without decay it is torch's SGD with zero dampening. m is `momentum` in the state; without momentum
    there is no state at all.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, momentum: float, nesterov: bool, weight_decay: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.nesterov = nesterov

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            weight, direction = local(parameter), local_gradient(parameter)
            if group["momentum"]:
                (average,) = self.state_like(parameter, "momentum")
                average.mul_(group["momentum"]).add_(direction)
                direction = direction.add(average, alpha=group["momentum"]) if self.nesterov else average
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(direction, alpha=-group["lr"])

"""SGD's configuration."""

from typing import TYPE_CHECKING, Any, Literal

from isoflop.config.base import Positive, UnitInterval
from isoflop.config.schema import OptimizerConfig, optimizers

if TYPE_CHECKING:
    import torch


@optimizers.register("sgd")
class SGDConfig(OptimizerConfig):
    """SGD with momentum and decoupled weight decay (Loshchilov and Hutter 2019, Algorithm 1)."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    momentum: UnitInterval = 0.9
    """Of the sum of gradients; 0: none, and no state."""
    nesterov: bool = False
    """Look one step of the momentum ahead (Sutskever et al. 2013, §2)."""

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        from isoflop.optim.rules.sgd import SGD

        return SGD(
            groups,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )

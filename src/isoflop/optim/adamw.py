"""AdamW, as torch has it."""

from typing import TYPE_CHECKING, Any, Literal

from isoflop.config.base import Positive, UnitInterval
from isoflop.config.schema import OptimizerConfig, optimizers

if TYPE_CHECKING:
    import torch


@optimizers.register("adamw")
class AdamWConfig(OptimizerConfig):
    """AdamW (Loshchilov and Hutter 2019, Algorithm 2). The decay is multiplied by the lr, as in torch."""

    name: Literal["adamw"] = "adamw"
    lr: Positive = 3e-3
    betas: tuple[UnitInterval, UnitInterval] = (0.9, 0.95)
    """Decay of the running mean of gradients, and of their squares."""
    eps: Positive = 1e-8
    """Added to the root of the mean square."""

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        from torch.optim import AdamW

        return AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)

"""Adam-mini's configuration."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from isoflop.config.base import Positive, UnitInterval
from isoflop.config.schema import OptimizerConfig, optimizers
from isoflop.optim.groups import with_eps

if TYPE_CHECKING:
    import torch


@optimizers.register("adam_mini")
class AdamMiniConfig(OptimizerConfig):
    """Adam-mini (Zhang et al. 2024): AdamW with a second moment a row or head, half of its state."""

    adam_like: ClassVar[bool] = True

    name: Literal["adam_mini"] = "adam_mini"
    lr: Positive = 3e-3
    betas: tuple[UnitInterval, UnitInterval] = (0.9, 0.95)
    """Decay of the running mean of gradients, and of their mean squares."""
    eps: Positive = 1e-8
    """Added to the root of the mean square."""

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        from isoflop.optim.rules.adam_mini import AdamMini

        return AdamMini(
            with_eps(groups, self.eps),
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )

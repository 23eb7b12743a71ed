"""Lion's configuration; its rule is in `rules/`, so that choosing it does not import torch."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from isoflop.config.base import Positive, UnitInterval
from isoflop.config.schema import OptimizerConfig, optimizers

if TYPE_CHECKING:
    import torch


@optimizers.register("lion")
class LionConfig(OptimizerConfig):
    """Lion (Chen et al. 2023, Algorithm 2). Its lr is a third to a tenth of AdamW's, its decay more."""

    adam_like: ClassVar[bool] = True

    name: Literal["lion"] = "lion"
    lr: Positive = 5e-4
    betas: tuple[UnitInterval, UnitInterval] = (0.9, 0.99)
    """Weight of the momentum in the step's direction, and decay of the momentum."""

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        from isoflop.optim.rules.lion import Lion

        return Lion(groups, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)

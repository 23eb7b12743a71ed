"""AdamW's configuration; its rule is in `rules/`, so that choosing it does not import torch."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from isoflop.config.base import Positive, UnitInterval
from isoflop.config.schema import OptimizerConfig, optimizers
from isoflop.optim.groups import with_eps

if TYPE_CHECKING:
    import torch


@optimizers.register("adamw")
class AdamWConfig(OptimizerConfig):
    """AdamW (Loshchilov and Hutter 2019, Algorithm 2). The decay is multiplied by the lr, as in torch."""

    adam_like: ClassVar[bool] = True

    name: Literal["adamw"] = "adamw"
    lr: Positive = 3e-3
    betas: tuple[UnitInterval, UnitInterval] = (0.9, 0.95)
    """Decay of the running mean of gradients, and of their squares."""
    eps: Positive = 1e-8
    """Added to the root of the mean square."""
    implementation: Literal["auto", "fused", "foreach", "loop"] = "auto"
    """Of torch's: one kernel for all, one an operation, or one a parameter; auto is fused on CPU and CUDA."""

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        from isoflop.optim.rules.adamw import AdamW

        return AdamW(
            with_eps(groups, self.eps),
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            implementation=self.implementation,
        )

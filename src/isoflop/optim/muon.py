"""Muon's configuration."""

from typing import TYPE_CHECKING, Any, Literal

from isoflop.config.base import Count, Positive, UnitInterval
from isoflop.config.schema import OptimizerConfig, optimizers

if TYPE_CHECKING:
    import torch


@optimizers.register("muon")
class MuonConfig(OptimizerConfig):
    """Muon (Jordan et al. 2024) for the matrices of the blocks; AdamW for embeddings, head and vectors."""

    name: Literal["muon"] = "muon"
    lr: Positive = 3e-3
    momentum: UnitInterval = 0.95
    """Decay of the running mean of gradients, of the matrices."""
    nesterov: bool = True
    """Look one step of the momentum ahead."""
    scale: Literal["rms", "spectral"] = "rms"
    """Size of a matrix's step: rms is as large as AdamW's, so that its lr does; spectral is Jordan's."""
    newton_schulz_steps: Count = 5
    """Iterations towards an orthogonal matrix."""
    newton_schulz_dtype: Literal["params", "bfloat16"] = "params"
    """What they compute in; bfloat16 is faster on a GPU, and layouts then agree only to its rounding."""
    adamw_lr_ratio: Positive = 1.0
    """Learning rate of AdamW's part over `lr`."""
    betas: tuple[UnitInterval, UnitInterval] = (0.9, 0.95)
    """Of AdamW's part: decay of the running mean of gradients, and of their squares."""
    eps: Positive = 1e-8
    """Of AdamW's part: added to the root of the mean square."""
    implementation: Literal["auto", "fused", "foreach", "loop"] = "auto"
    """Of AdamW's part, as in optimizer=adamw."""

    def build(self, groups: list[dict[str, Any]]) -> "torch.optim.Optimizer":
        import torch

        from isoflop.optim.rules.muon import MATRICES, Muon

        ratio = self.adamw_lr_ratio
        scaled = [
            group if group["kind"] in MATRICES else {**group, "lr_scale": ratio * group.get("lr_scale", 1.0)}
            for group in groups
        ]
        defaults = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "betas": self.betas,
            "eps": self.eps,
        }
        return Muon(
            scaled,
            defaults,
            scale=self.scale,
            newton_schulz_steps=self.newton_schulz_steps,
            newton_schulz_dtype=torch.bfloat16 if self.newton_schulz_dtype == "bfloat16" else None,
            implementation=self.implementation,
        )

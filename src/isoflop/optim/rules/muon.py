"""Muon: momentum, orthogonalised."""

from typing import Any

import torch
from torch import Tensor

from isoflop.optim.rules.adamw import Implementation, adamw_update
from isoflop.optim.rules.base import Rule, local, local_gradient
from isoflop.optim.rules.orthogonal import orthogonalized

MATRICES = ("matrix", "heads")
"""Kinds of parameters that it orthogonalises: those of the blocks. The rest is AdamW's."""


class Muon(Rule):
    """Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for the rest. For θ with gradient g:

    m ← m + (1 - μ)·(g - m);  u = g + μ·(m - g) with Nesterov's momentum, else m
    θ ← θ - lr · (scale · orthogonalized(u) + weight_decay·θ)

    where scale is √max(1, rows/columns) (`spectral`, Jordan's) or 0.2·√max(rows, columns) (`rms`, Liu et al.
    2025, §2.2: as large as AdamW's step, so that its lr and decay carry over). m is `momentum` in the state.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        defaults: dict[str, Any],
        scale: str,
        newton_schulz_steps: int,
        newton_schulz_dtype: torch.dtype | None,
        implementation: Implementation,
    ) -> None:
        super().__init__(groups, defaults)
        self.scale, self.steps, self.dtype = scale, newton_schulz_steps, newton_schulz_dtype
        self.implementation = implementation

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if group["kind"] not in MATRICES:
            adamw_update(self, parameters, group, self.implementation)
            return
        directions = [self._direction(parameter, group) for parameter in parameters]
        for parameter, update in orthogonalized(parameters, directions, self.steps, self.dtype):
            weight = local(parameter)
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update, alpha=-group["lr"] * self._scale(*parameter.shape[-2:]))

    def _direction(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        (average,) = self.state_like(parameter, "momentum")
        gradient, momentum = local_gradient(parameter), group["momentum"]
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum) if group["nesterov"] else average

    def _scale(self, rows: int, columns: int) -> float:
        if self.scale == "spectral":
            return max(1.0, rows / columns) ** 0.5
        return 0.2 * max(rows, columns) ** 0.5

"""Normalisation over features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoflop.config.schema import ModelConfig


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a gain (Zhang and Sennrich 2019). x (…, width) → (…, width)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class LayerNorm(nn.Module):
    """Layer normalisation with gain and bias (Ba et al. 2016). x (…, width) → (…, width)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def build_norm(config: ModelConfig, width: int) -> nn.Module:
    """The norm that `config` asks for, over `width` features."""
    return {"rmsnorm": RMSNorm, "layernorm": LayerNorm}[config.norm](width, config.norm_eps)

"""The feed-forward half of a block."""

import torch.nn.functional as F
from torch import Tensor, nn

from isoflop.config.schema import ModelConfig


class SwiGLU(nn.Module):
    """Gated feed-forward (Shazeer 2020). x (batch, seq, width) → (batch, seq, width)."""

    def __init__(self, width: int, d_ff: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, d_ff, bias=False)
        self.up = nn.Linear(width, d_ff, bias=False)
        self.down = nn.Linear(d_ff, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class GELU(nn.Module):
    """Two matrices around a GELU (Hendrycks and Gimpel 2016). x (batch, seq, width) → (batch, seq, width)."""

    def __init__(self, width: int, d_ff: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, d_ff, bias=False)
        self.down = nn.Linear(d_ff, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


def build_mlp(config: ModelConfig, d_ff: int) -> nn.Module:
    """The feed-forward layer that `config` asks for, with `d_ff` features inside."""
    return {"swiglu": SwiGLU, "gelu": GELU}[config.activation](config.width, d_ff)

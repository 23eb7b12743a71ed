"""Where a token stands: positions inside documents, and the encodings made of them."""

import torch
from torch import Tensor, nn


def positions_in_documents(documents: Tensor) -> Tensor:
    """documents (batch, seq) int, constant inside a document → each token's place in its document, from 0."""
    place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return place - torch.where(starts, place, 0).cummax(dim=1).values


def rotary_angles(positions: Tensor, d_head: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """positions (batch, seq) → cos and sin (batch, seq, 1, d_head / 2), in at least float32.

    Su et al. 2021, §3.2.2.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, d_head, 2, device=positions.device, dtype=dtype) / d_head
    angles = positions[..., None, None].to(dtype) * theta**-exponents
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (batch, seq, heads, d_head), each pair (i, i + d_head / 2) turned, as in Llama's checkpoints."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


class SinusoidalPositions(nn.Module):
    """positions (batch, seq) → (batch, seq, width) float32: sines, cosines (Vaswani et al. 2017, §3.5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, positions: Tensor) -> Tensor:
        cos, sin = rotary_angles(positions, self.width, 10_000.0, torch.float32)
        return torch.cat((sin, cos), dim=-1).squeeze(2)

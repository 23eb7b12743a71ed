"""Where a token stands: positions inside documents, and the encodings made of them."""

import math

import torch
from torch import Tensor, nn

from isoflop.config.schema import RopeScaling


def positions_in_documents(documents: Tensor) -> Tensor:
    """documents (batch, seq) int, constant inside a document → each token's place in its document, from 0."""
    place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return place - torch.where(starts, place, 0).cummax(dim=1).values


def rotary_angles(
    positions: Tensor, d_head: int, theta: float, dtype: torch.dtype, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """positions (batch, seq) → cos and sin (batch, seq, 1, d_head / 2), in at least float32.

    Su et al. 2021, §3.2.2.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, d_head, 2, device=positions.device, dtype=dtype) / d_head
    frequencies = theta**-exponents
    if scaling is not None:
        frequencies = stretched(frequencies, scaling)
    angles = positions[..., None, None].to(dtype) * frequencies
    return angles.cos(), angles.sin()


def stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """frequencies (d_head / 2,) in radians a token → slower where they turn seldom, as in Llama 3.1's code.

    Those of fewer than `low_freq_factor` turns in the old sequence length are divided by `factor`, those of
    more than `high_freq_factor` stay; between the two the share that stays grows evenly.
    """
    turns = scaling.original_seq_len * frequencies / (2 * math.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


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

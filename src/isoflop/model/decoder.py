"""The decoder-only transformer: pure mathematics, the same on one rank and on a thousand."""

import torch
from torch import Tensor, nn

from isoflop.config.schema import ModelConfig
from isoflop.model.attention import Attention
from isoflop.model.kernels import Mask, build_kernel
from isoflop.model.mlp import build_mlp
from isoflop.model.norm import build_norm
from isoflop.model.positions import SinusoidalPositions, positions_in_documents, rotary_angles


class Block(nn.Module):
    """Pre-norm residual block (Xiong et al. 2020). x (batch, seq, width) → (batch, seq, width)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = build_norm(config, config.width)
        self.attention = Attention(config)
        self.mlp_norm = build_norm(config, config.width)
        self.mlp = build_mlp(config)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None, mask: Mask) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angles, mask)
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    """tokens (batch, seq) and their documents (batch, seq), both int64 → logits (batch, seq, vocab).

    Any part may be taken away (`keep`): what is left then maps the hidden state that it is given,
    (batch, seq, width), to the hidden state that the next part needs.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.kernel = build_kernel(config)
        self.embedding: nn.Module | None = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding: nn.Module | None = build_position_embedding(config)
        self.blocks = nn.ModuleDict({str(i): Block(config) for i in range(config.n_layers)})
        self.norm: nn.Module | None = build_norm(config, config.width)
        self.head: nn.Linear | None = nn.Linear(config.width, config.vocab_size, bias=False)
        self.tie()

    def tie(self) -> None:
        """Make the head's matrix the embedding's, where the config says so and both are here."""
        if self.config.tied and self.embedding is not None and self.head is not None:
            self.head.weight = self.embedding.weight  # type: ignore[assignment]

    def keep(self, layers: range, first: bool, last: bool) -> None:
        """Take away all blocks but `layers`, the embedding unless `first`, the head unless `last`."""
        for name in list(self.blocks):
            if int(name) not in layers:
                del self.blocks[name]
        if not first:
            self.embedding = self.position_embedding = None
        if not last:
            self.norm = self.head = None

    def forward(self, x: Tensor, documents: Tensor) -> Tensor:
        masked = self.config.document_mask
        positions = positions_in_documents(documents if masked else torch.zeros_like(documents))
        if self.embedding is not None:
            x = self.embedding(x)
            if self.position_embedding is not None:
                x = x + self.position_embedding(positions).to(x.dtype)
        angles = None
        if self.config.positions == "rope":
            angles = rotary_angles(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        mask = self.kernel.mask(documents, masked)
        for block in self.blocks.values():
            x = block(x, angles, mask)
        if self.norm is not None and self.head is not None:
            x = self.head(self.norm(x))
        return x


def build_position_embedding(config: ModelConfig) -> nn.Module | None:
    """What is added to the embedding: a learned table, sinusoids, or nothing (rotary and none)."""
    if config.positions == "learned":
        return nn.Embedding(config.max_seq_len, config.width)
    return SinusoidalPositions(config.width) if config.positions == "sinusoidal" else None

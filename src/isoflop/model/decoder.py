"""The decoder-only transformer: pure mathematics, the same on one rank and on a thousand."""

import torch
from torch import Tensor, nn

from isoflop.config.schema import ModelConfig
from isoflop.model.attention import Attention
from isoflop.model.kernels import Mask, build_kernel
from isoflop.model.loss import loss_sums
from isoflop.model.mlp import build_mlp
from isoflop.model.moe import MoE
from isoflop.model.norm import build_norm
from isoflop.model.parametrization import logits_multiplier, residual_multiplier
from isoflop.model.positions import SinusoidalPositions, positions_in_documents, rotary_angles


class Block(nn.Module):
    """Residual block. x (batch, seq, width) → (batch, seq, width).

    Norms stand before the two layers (Xiong et al. 2020), or after them, inside the residual branch
    (Liu et al. 2021, §3.2; OLMo et al. 2024).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm_place = config.norm_place
        self.branch = residual_multiplier(config)
        self.attention_norm = build_norm(config, config.width)
        self.attention = Attention(config)
        self.mlp_norm = build_norm(config, config.width)
        self.mlp = MoE(config) if layer in config.mixture_layers else build_mlp(config, config.d_ff)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None, mask: Mask) -> Tensor:
        if self.norm_place == "after":
            x = x.add(self.attention_norm(self.attention(x, angles, mask)), alpha=self.branch)
            return x.add(self.mlp_norm(self.mlp(x)), alpha=self.branch)
        x = x.add(self.attention(self.attention_norm(x), angles, mask), alpha=self.branch)
        return x.add(self.mlp(self.mlp_norm(x)), alpha=self.branch)


class Decoder(nn.Module):
    """tokens (batch, seq) and their documents (batch, seq), both int64 → logits (batch, seq, vocab).

    Given targets (batch, seq), the sums (2,) of `isoflop.model.loss` instead: logits need not exist whole.
    Any part may be taken away (`keep`): what is left then maps the hidden state that it is given,
    (batch, seq, width), to the hidden state that the next part needs.

    Where only some places of each sequence stand here, `places` (places here,) says which: tokens, targets
    and hidden states are of those, documents always of the whole sequence.
    """

    places: Tensor | None = None
    loss_chunk_tokens: int | None = None
    """Places of a sequence whose logits exist at once; None: all."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.kernel = build_kernel(config)
        self.logits_multiplier = logits_multiplier(config)
        self.embedding: nn.Module | None = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding: nn.Module | None = build_position_embedding(config)
        self.blocks = nn.ModuleDict({str(i): Block(config, i) for i in range(config.n_layers)})
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

    def forward(self, x: Tensor, documents: Tensor, targets: Tensor | None = None) -> Tensor:
        masked = self.config.document_mask
        positions = positions_in_documents(documents if masked else torch.zeros_like(documents))
        if self.places is not None:
            positions = positions[:, self.places]
        if self.embedding is not None:
            x = self.embedding(x)
            if self.position_embedding is not None:
                x = x + self.position_embedding(positions).to(x.dtype)
        angles = None
        if self.config.positions == "rope":
            config = self.config
            angles = rotary_angles(
                positions, config.head_dim, config.rope_theta, x.dtype, config.rope_scaling
            )
        mask = self.kernel.mask(documents, masked)
        for block in self.blocks.values():
            x = block(x, angles, mask)
        if self.norm is None or self.head is None:
            return x
        x = self.norm(x)
        if self.logits_multiplier != 1.0:
            x = x * self.logits_multiplier
        if targets is None:
            return self.head(x)
        return loss_sums(self.head, x, targets, self.config.z_loss, self.loss_chunk_tokens)


def build_position_embedding(config: ModelConfig) -> nn.Module | None:
    """What is added to the embedding: a learned table, sinusoids, or nothing (rotary and none)."""
    if config.positions == "learned":
        return nn.Embedding(config.max_seq_len, config.width)
    return SinusoidalPositions(config.width) if config.positions == "sinusoidal" else None

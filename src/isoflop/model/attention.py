"""Causal self-attention, inside documents where they are masked."""

from torch import Tensor, nn

from isoflop.config.schema import ModelConfig
from isoflop.model.kernels import Mask, build_kernel
from isoflop.model.norm import build_norm
from isoflop.model.positions import rotate


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023). x (batch, seq, width) → (batch, seq, width).

    Head counts are read from the projections, so the module is the same on one rank and on eight.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.d_head = config.head_dim
        self.q = nn.Linear(config.width, config.n_heads * self.d_head, bias=False)
        self.k = nn.Linear(config.width, config.kv_heads * self.d_head, bias=False)
        self.v = nn.Linear(config.width, config.kv_heads * self.d_head, bias=False)
        self.out = nn.Linear(config.n_heads * self.d_head, config.width, bias=False)
        # Henry et al. 2020; over each head, so that it does not depend on how heads are laid out
        self.q_norm = build_norm(config, self.d_head) if config.qk_norm else nn.Identity()
        self.k_norm = build_norm(config, self.d_head) if config.qk_norm else nn.Identity()
        self.kernel = build_kernel(config)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None, mask: Mask) -> Tensor:
        q = self.q_norm(self.q(x).unflatten(-1, (-1, self.d_head)))  # (batch, seq, heads here, d_head)
        k = self.k_norm(self.k(x).unflatten(-1, (-1, self.d_head)))
        v = self.v(x).unflatten(-1, (-1, self.d_head))
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        return self.out(self.kernel.attend(q, k, v, mask).flatten(-2))

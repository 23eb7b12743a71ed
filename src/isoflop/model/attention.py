"""Causal self-attention, inside documents where they are masked."""

from torch import Tensor, nn

from isoflop.config.schema import ModelConfig
from isoflop.model.kernels import Mask, build_kernel
from isoflop.model.norm import build_norm
from isoflop.model.parametrization import attention_multiplier
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
        self.qk_norm = config.qk_norm
        self.q_norm = build_qk_norm(config, config.n_heads)
        self.k_norm = build_qk_norm(config, config.kv_heads)
        self.q_multiplier = attention_multiplier(config)
        self.kernel = build_kernel(config)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None, mask: Mask) -> Tensor:
        q = self.normed_heads(self.q(x), self.q_norm)  # (batch, seq, heads here, d_head)
        k = self.normed_heads(self.k(x), self.k_norm)
        v = self.v(x).unflatten(-1, (-1, self.d_head))
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        if self.q_multiplier != 1.0:
            q = q * self.q_multiplier
        return self.out(self.kernel.attend(q, k, v, mask).flatten(-2))

    def normed_heads(self, x: Tensor, norm: nn.Module) -> Tensor:
        """x (batch, seq, heads · d_head) → (batch, seq, heads, d_head), normed as `model.qk_norm` says."""
        if self.qk_norm == "projection":
            x = norm(x)
        x = x.unflatten(-1, (-1, self.d_head))
        return norm(x) if self.qk_norm == "head" else x


def build_qk_norm(config: ModelConfig, n_heads: int) -> nn.Module:
    """Over each head (Henry et al. 2020), or over the whole projection to `n_heads` (OLMo et al. 2024)."""
    if not config.qk_norm:
        return nn.Identity()
    return build_norm(config, config.head_dim * (n_heads if config.qk_norm == "projection" else 1))

"""The configuration of a model: its shape, and the rules that its numbers follow."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from isoflop.config.base import Config, Count, Fraction, NonNegative, Positive, Whole

QKNorm = Annotated[
    Literal[False, "head", "projection"], BeforeValidator(lambda value: "head" if value is True else value)
]


class RopeScaling(Config):
    """Rotary wavelengths stretched as in Llama 3.1's released code: the long ones, not the short ones."""

    factor: Positive
    """Of the wavelengths longer than original_seq_len / low_freq_factor."""
    low_freq_factor: Positive = 1.0
    """Turns in original_seq_len below which a wavelength is stretched in full."""
    high_freq_factor: Positive = 4.0
    """Turns in original_seq_len above which a wavelength stays; between the two the stretch fades."""
    original_seq_len: Count = 8192
    """Sequence length before the stretch."""


class MoeConfig(Config):
    """A mixture of experts in place of the feed-forward layer, in all or some blocks."""

    n_experts: Count
    """Routed experts of a block."""
    top_k: Count
    """Routed experts that a token meets."""
    d_ff: Count | None = None
    """Features inside an expert; null: model.d_ff."""
    n_shared_experts: Whole = 0
    """Experts of the same size that every token meets, beside the routed ones."""
    n_dense_layers: Whole = 0
    """The first so many blocks keep one feed-forward layer, of model.d_ff."""
    every: Count = 1
    """Of the other blocks, each so-many-th has experts; 1: all."""
    normalize_top_k: bool = True
    """The weights of a token's experts add up to one; false: they are the router's probabilities."""
    load_balancing: NonNegative = 0.01
    """Weight of the loss that keeps the experts of a sequence in equal use."""
    router_z_loss: NonNegative = 0.001
    """Weight of mean(logsumexp²) of the router's logits."""
    bias_rate: NonNegative = 0.0
    """How far an expert's bias in the choice moves after a step, up where few chose it; 0: no biases."""


class ModelConfig(Config):
    """A decoder-only transformer."""

    n_layers: Count
    """Blocks of attention and feed-forward."""
    width: Count
    """Features of the residual stream."""
    n_heads: Count
    """Query heads of a block."""
    n_kv_heads: Count | None = None
    """Key and value heads, which divide n_heads; null: n_heads, every head its own."""
    d_head: Count | None = None
    """Features of a head; null: width // n_heads."""
    d_ff: Count
    """Features inside the feed-forward layer."""
    moe: MoeConfig | None = None
    """A mixture of experts in its place; null: none."""
    vocab_size: Count
    """Rows of the embedding; at least the tokenizer's."""
    tied: bool = True
    """One matrix for the embedding and the head."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Normalization of each layer, and before the head."""
    norm_place: Literal["before", "after"] = "before"
    """before: of what attention and feed-forward read; after: of what they add to the residual stream."""
    norm_eps: Positive = 1e-5
    """Added to the variance."""
    qk_norm: QKNorm = False
    """Normalize queries and keys: head by head, or the whole projection at once; true: head by head."""
    positions: Literal["rope", "learned", "sinusoidal", "none"] = "rope"
    """How a token knows where it stands in its document."""
    rope_theta: Positive = 10_000.0
    """Base of the rotary wavelengths."""
    rope_scaling: RopeScaling | None = None
    """Stretches the rotary wavelengths for sequences longer than before; null: as they are."""
    max_seq_len: Count = 8192
    """Rows of the learned position table."""
    activation: Literal["swiglu", "gelu"] = "swiglu"
    """Of the feed-forward layer."""
    attention: Literal["auto", "sdpa", "flash", "flex"] = "auto"
    """Kernel; auto is torch's scaled_dot_product_attention. flash and flex train on CUDA only."""
    document_mask: bool = True
    """Attention stays inside a document."""
    z_loss: NonNegative = 0.0
    """Weight of mean(logsumexp²), which keeps the logits near zero."""
    init: Literal["scaled", "normal", "small", "mitchell"] = "scaled"
    """Initial deviations. scaled: init_std, over √(2·n_layers) in what writes to the residual stream (GPT-2);
    normal: init_std; small: √(2/(5·width)) and 2/(n_layers·√width) (GPT-NeoX-20B); mitchell: one over the
    root of the inputs, less in outputs of later layers (OLMo)."""
    init_std: Positive = 0.02
    """Standard deviation of the initial weights, where `init` is scaled or normal."""
    parametrization: Literal["standard", "mup", "completep"] = "standard"
    """How settings found at a base shape carry over: mup to another width (Yang et al. 2022), completep to
    another depth too (Dey et al. 2025)."""
    base_width: Count | None = None
    """Width at which the settings were found, for mup and completep."""
    base_depth: Count | None = None
    """Layers at which the settings were found, for completep."""
    base_d_head: Count | None = None
    """d_head at which the scores of mup and completep are those of standard; null: 1, so that they are
    divided by d_head, not its root."""
    depth_alpha: Fraction = 1.0
    """Of completep: branches of the residual stream are divided by (n_layers / base_depth) to this power."""

    @property
    def kv_heads(self) -> int:
        """Key and value heads, the default filled in."""
        return self.n_kv_heads or self.n_heads

    @property
    def head_dim(self) -> int:
        """Features of a head, the default filled in."""
        return self.d_head or self.width // self.n_heads

    @property
    def expert_d_ff(self) -> int:
        """Features inside an expert, the default filled in."""
        return (self.moe and self.moe.d_ff) or self.d_ff

    @property
    def mixture_layers(self) -> tuple[int, ...]:
        """The blocks, counted from 0, whose feed-forward layer is a mixture of experts."""
        if self.moe is None:
            return ()
        return tuple(range(self.moe.n_dense_layers + self.moe.every - 1, self.n_layers, self.moe.every))

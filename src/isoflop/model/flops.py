"""Parameters and FLOPs of a model, in closed form. No torch here."""

from isoflop.config.schema import ModelConfig


def n_params(model: ModelConfig) -> int:
    """Every parameter, a tied matrix once."""
    per_norm = 2 if model.norm == "layernorm" else 1
    norms = per_norm * model.width * (2 * model.n_layers + 1)
    qk_heads = {False: 0, "head": 2, "projection": model.n_heads + model.kv_heads}[model.qk_norm]
    qk_norms = per_norm * qk_heads * model.head_dim * model.n_layers
    biases = model.moe.n_experts * len(model.mixture_layers) if model.moe and model.moe.bias_rate else 0
    return n_vocabulary_params(model) + n_block_matmul_params(model) + norms + qk_norms + biases


def n_params_non_embed(model: ModelConfig) -> int:
    """Without the matrices over the vocabulary and the position table (Kaplan et al. 2020, §2.1)."""
    return n_params(model) - n_vocabulary_params(model)


def n_vocabulary_params(model: ModelConfig) -> int:
    """Embedding, head where it is untied, and learned positions."""
    positions = model.max_seq_len * model.width if model.positions == "learned" else 0
    return model.vocab_size * model.width * (1 if model.tied else 2) + positions


def n_layer_matmul_params(model: ModelConfig, layer: int, active: bool) -> int:
    """The matrices of block `layer`: query, key, value, output, feed-forward; for a mixture the router too.

    `active`: of a mixture's routed experts only the `top_k` that a token meets.
    """
    attention = model.width * model.head_dim * (2 * model.n_heads + 2 * model.kv_heads)
    per_feature = model.width * (3 if model.activation == "swiglu" else 2)
    if model.moe is None or layer not in model.mixture_layers:
        return attention + per_feature * model.d_ff
    routed = model.moe.top_k if active else model.moe.n_experts
    experts = (routed + model.moe.n_shared_experts) * model.expert_d_ff * per_feature
    return attention + model.width * model.moe.n_experts + experts


def n_block_matmul_params(model: ModelConfig, active: bool = False) -> int:
    """The matrices of all blocks."""
    return sum(n_layer_matmul_params(model, layer, active) for layer in range(model.n_layers))


def n_matmul_params(model: ModelConfig) -> int:
    """Every weight that a token is multiplied by: the blocks' and the head's, not the embedding lookup."""
    return n_block_matmul_params(model, active=True) + model.vocab_size * model.width


def matmul_flops_per_token(model: ModelConfig) -> int:
    """Forward and backward FLOPs of the weights for one token: 2 forward, 4 backward for each."""
    return 6 * n_matmul_params(model)


def attention_flops_per_square(model: ModelConfig) -> int:
    """Forward and backward FLOPs of causal scores and values, for one unit of length².

    A document of L tokens costs this · L²: half of full attention's 12·n_layers·n_heads·d_head,
    because the upper triangle is never needed.
    """
    return 6 * model.n_layers * model.n_heads * model.head_dim


def flops_per_token(model: ModelConfig, seq_len: int) -> int:
    """Forward and backward matmul FLOPs for one token under causal attention; recompute is not counted."""
    return matmul_flops_per_token(model) + attention_flops_per_square(model) * seq_len

"""The decoder is transformers' Llama and Qwen3, weight for weight."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import VOCAB_SIZE, random_tokens, tiny_config, tiny_decoder
from torch import nn
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

NAMES = {  # the start of ours → the start of theirs
    "embedding": "model.embed_tokens",
    "attention_norm": "input_layernorm",
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}


def their_name(name: str) -> str:
    part = name.removesuffix(".weight")
    if not part.startswith("blocks."):
        return f"{NAMES[part]}.weight"
    _, layer, part = part.split(".", 2)
    return f"model.layers.{layer}.{NAMES[part]}.weight"


def their_model(kind: str, tied: bool) -> nn.Module:
    sizes: dict[str, Any] = {
        "num_hidden_layers": 3,
        "hidden_size": 24,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 40,
        "vocab_size": VOCAB_SIZE,
        "rms_norm_eps": 1e-3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "tie_word_embeddings": tied,
        "attn_implementation": "eager",
    }
    model = (
        LlamaForCausalLM(LlamaConfig(**sizes)) if kind == "llama" else Qwen3ForCausalLM(Qwen3Config(**sizes))
    )
    return model.eval()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_logits_and_gradients_are_those_of_transformers(kind: str, tied: bool) -> None:
    """In float32, which is what transformers turns and normalises in, to 1e-5 of the largest value."""
    config = tiny_config(
        n_layers=3, tied=tied, qk_norm=kind == "qwen3", rope_theta=500.0, document_mask=False
    )
    ours, theirs = tiny_decoder(config, torch.float32), their_model(kind, tied)
    theirs.load_state_dict({their_name(name): tensor for name, tensor in ours.state_dict().items()})
    tokens = random_tokens(2, 33)
    logits = ours(tokens, torch.zeros_like(tokens))
    expected = theirs(tokens).logits
    assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    for out in (logits, expected):
        F.cross_entropy(out[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        expected = gradients.pop(their_name(name))
        scale = expected.abs().max().item()
        assert scale > 1e-4, name
        assert_close(
            parameter.grad, expected, rtol=0, atol=1e-5 * scale, msg=lambda text, name=name: name + text
        )
    assert not gradients

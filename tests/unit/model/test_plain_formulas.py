"""The decoder's options against their formulas, written out token by token, head by head."""

import math

import pytest
import torch
from tiny_models import packed, random_tokens, tiny_config, tiny_decoder
from torch import Tensor
from torch.testing import assert_close

from isoflop.config.schema import ModelConfig

DOCUMENTS = packed([7, 1, 9], [17])


def norm(x: Tensor, weights: dict[str, Tensor], name: str, config: ModelConfig) -> Tensor:
    gain = weights[f"{name}.weight"]
    if config.norm == "rmsnorm":
        return gain * x / (x.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt()
    centred = x - x.mean(-1, keepdim=True)
    return (
        gain * centred / (centred.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt()
        + weights[f"{name}.bias"]
    )


def position_vector(place: int, weights: dict[str, Tensor], config: ModelConfig) -> Tensor:
    if config.positions == "learned":
        return weights["position_embedding.weight"][place]
    wavelengths = [10_000 ** (2 * i / config.width) for i in range(config.width // 2)]
    sines = [math.sin(place / w) for w in wavelengths] + [math.cos(place / w) for w in wavelengths]
    return torch.tensor(sines, dtype=torch.float64) * (config.positions == "sinusoidal")


def turned(x: Tensor, place: int, config: ModelConfig) -> Tensor:
    """x (d_head,) as complex numbers, multiplied by exp(i·place·θ^(−2j/d_head)) (Su et al. 2021, eq. 12)."""
    if config.positions != "rope":
        return x
    half = len(x) // 2
    angles = [place * config.rope_theta ** (-2 * j / len(x)) for j in range(half)]
    spin = torch.polar(torch.ones(half, dtype=torch.float64), torch.tensor(angles, dtype=torch.float64))
    out = torch.complex(x[:half], x[half:]) * spin
    return torch.cat((out.real, out.imag))


def attention(
    x: Tensor, places: list[int], weights: dict[str, Tensor], name: str, config: ModelConfig
) -> Tensor:
    """x (seq, width) of one document."""
    d, shared = config.head_dim, config.n_heads // config.kv_heads
    q, k, v = ((x @ weights[f"{name}.{part}.weight"].T).split(d, dim=-1) for part in "qkv")
    if config.qk_norm:
        q = [norm(head, weights, f"{name}.q_norm", config) for head in q]
        k = [norm(head, weights, f"{name}.k_norm", config) for head in k]
    heads = []
    for h in range(config.n_heads):
        keys = [turned(row, place, config) for row, place in zip(k[h // shared], places, strict=True)]
        rows = []
        for t, place in enumerate(places):
            query = turned(q[h][t], place, config)
            scores = torch.stack([query @ key / d**0.5 for key in keys[: t + 1]])
            rows.append(scores.softmax(0) @ v[h // shared][: t + 1])
        heads.append(torch.stack(rows))
    return torch.cat(heads, dim=-1) @ weights[f"{name}.out.weight"].T


def feed_forward(x: Tensor, weights: dict[str, Tensor], name: str, config: ModelConfig) -> Tensor:
    up = x @ weights[f"{name}.up.weight"].T
    if config.activation == "gelu":
        hidden = up * (1 + torch.erf(up / 2**0.5)) / 2
    else:
        gate = x @ weights[f"{name}.gate.weight"].T
        hidden = gate / (1 + torch.exp(-gate)) * up
    return hidden @ weights[f"{name}.down.weight"].T


def plain_decoder(tokens: Tensor, weights: dict[str, Tensor], config: ModelConfig) -> Tensor:
    """tokens (seq,) of one document → logits (seq, vocab)."""
    places = list(range(len(tokens)))
    x = weights["embedding.weight"][tokens]
    x = x + torch.stack([position_vector(place, weights, config) for place in places])
    for i in range(config.n_layers):
        block = f"blocks.{i}"
        normed = norm(x, weights, f"{block}.attention_norm", config)
        x = x + attention(normed, places, weights, f"{block}.attention", config)
        x = x + feed_forward(norm(x, weights, f"{block}.mlp_norm", config), weights, f"{block}.mlp", config)
    return norm(x, weights, "norm", config) @ weights["embedding.weight" if config.tied else "head.weight"].T


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "learned", "norm": "layernorm", "activation": "gelu"},
        {"positions": "sinusoidal", "activation": "gelu", "tied": False},
        {"positions": "none", "norm": "layernorm", "qk_norm": True},
        {"positions": "rope", "rope_theta": 50.0, "n_kv_heads": None},
        {"positions": "rope", "n_kv_heads": 1, "d_head": None, "qk_norm": True},
    ],
    ids=lambda changes: "-".join(f"{value}" for value in changes.values()),
)
def test_packed_documents_are_the_formula_on_each_document(changes: dict) -> None:
    """Logits in float64 to 1e-10; sinusoids are made in float32, so 1e-5 there."""
    config = tiny_config(**changes)
    model = tiny_decoder(config)
    tokens = random_tokens(*DOCUMENTS.shape)
    with torch.no_grad():
        logits = model(tokens, DOCUMENTS)
        for row, documents, found in zip(tokens, DOCUMENTS, logits, strict=True):
            for document in documents.unique():
                here = documents == document
                expected = plain_decoder(row[here], model.state_dict(), config)
                tolerance = 1e-5 if config.positions == "sinusoidal" else 1e-10
                assert_close(found[here], expected, rtol=0, atol=tolerance)

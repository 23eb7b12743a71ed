"""Decoders small enough for a test, with weights at which a mistake shows."""

from typing import Any

import torch
from torch import Tensor

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder
from isoflop.model.init import initialize

VOCAB_SIZE = 53


def tiny_config(**changes: Any) -> ModelConfig:
    """Two blocks, six query heads in two groups; sizes that cannot stand for one another."""
    return ModelConfig(
        **{
            "n_layers": 2,
            "width": 24,
            "n_heads": 6,
            "n_kv_heads": 2,
            "d_head": 8,
            "d_ff": 40,
            "vocab_size": VOCAB_SIZE,
            "max_seq_len": 64,
            "norm_eps": 1e-3,
            "init_std": 0.3,
            **changes,
        }
    )


def tiny_decoder(config: ModelConfig, dtype: torch.dtype = torch.float64, seed: int = 0) -> Decoder:
    """A decoder whose gains and biases are random too."""
    model = Decoder(config).to(dtype)
    initialize(model, config, seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter += 0.3 * torch.randn(parameter.shape, generator=draw)
    return model


def random_tokens(batch: int, seq_len: int, seed: int = 0) -> Tensor:
    """(batch, seq) below VOCAB_SIZE."""
    return torch.randint(VOCAB_SIZE, (batch, seq_len), generator=torch.Generator().manual_seed(seed))


def packed(*sequences: list[int]) -> Tensor:
    """Document numbers (batch, seq) of sequences that pack documents of these lengths."""
    return torch.tensor(
        [[d for d, length in enumerate(lengths) for _ in range(length)] for lengths in sequences]
    )

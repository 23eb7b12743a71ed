"""Memory for time: what a block forgets after its forward pass and computes again before its backward."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from isoflop.config.schema import ParallelConfig
from isoflop.model.decoder import Decoder

aten = torch.ops.aten
KEPT = frozenset(
    {
        aten.mm.default,
        aten.addmm.default,
        aten.bmm.default,
        aten._grouped_mm.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
    }
)
"""What `selective` keeps: products and attention, which cost the most to make again."""


def recompute(model: Decoder, config: ParallelConfig) -> None:
    """Wrap the blocks of `model`, in place (Chen et al. 2016; selective: Korthikanti et al. 2022, §5)."""
    if config.recompute == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}  # nothing here is random
    if config.recompute == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    for block in model.blocks.values():
        wrap_forward(block, lambda forward: partial(checkpoint, forward, **options))


def compile_blocks(model: Decoder, config: ParallelConfig) -> None:
    """torch.compile each block of `model`, in place: one graph serves all layers."""
    if config.compile:
        for block in model.blocks.values():
            wrap_forward(block, torch.compile)


def wrap_forward(module: nn.Module, wrap: Any) -> None:
    """Replace `module.forward`: hooks stay outside, and no name of a parameter changes."""
    module.forward = wrap(module.forward)


def _policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in KEPT else CheckpointPolicy.PREFER_RECOMPUTE

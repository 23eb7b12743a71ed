"""Attention kernels behind one interface: a mask made once a batch, then attention with it in each block."""

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.config.schema import ModelConfig

Mask = Any
"""What a kernel makes of documents; only that kernel looks inside."""


class Kernel(Protocol):
    """Causal attention; where documents are masked, inside each document."""

    def mask(self, documents: Tensor, masked: bool) -> Mask:
        """documents (batch, seq) → what `attend` needs; `masked` False: causal only.

        Documents of one sequence have different numbers.
        """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
        """q (batch, seq, heads, d_head), k and v (batch, seq, kv heads, d_head) → as q."""


class Sdpa:
    """torch's scaled_dot_product_attention, which picks its own kernel."""

    def mask(self, documents: Tensor, masked: bool) -> Tensor | None:
        if not masked:
            return None
        same = documents[:, None, :, None] == documents[:, None, None, :]
        return same.tril()  # (batch, 1, seq, seq): the row may look at the column

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        groups = q.shape[2] // k.shape[2]
        k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None).transpose(1, 2)


class Flash:
    """flash-attn's variable-length kernel (Dao 2023): each document is a sequence of its own."""

    def mask(self, documents: Tensor, masked: bool) -> tuple[Tensor, int] | None:
        """Where documents begin in the flattened batch, (documents + 1,) int32, and the longest's length."""
        if not masked:
            return None
        starts = torch.ones_like(documents, dtype=torch.bool)
        starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
        offsets = F.pad(starts.flatten().nonzero().flatten(), (0, 1), value=documents.numel())
        return offsets.to(torch.int32), int(offsets.diff().max())

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: tuple[Tensor, int] | None) -> Tensor:
        from flash_attn import (  # type: ignore[import-not-found,unused-ignore]
            flash_attn_func,
            flash_attn_varlen_func,
        )

        if mask is None:
            return flash_attn_func(q, k, v, causal=True)
        offsets, longest = mask
        packed = [x.flatten(0, 1) for x in (q, k, v)]
        out = flash_attn_varlen_func(*packed, offsets, offsets, longest, longest, causal=True)
        return out.unflatten(0, q.shape[:2])


class Flex:
    """torch's FlexAttention, which skips blocks of the mask that are empty. Its backward needs CUDA."""

    def mask(self, documents: Tensor, masked: bool) -> Mask:
        from torch.nn.attention.flex_attention import create_block_mask

        def allowed(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
            causal = row >= column
            return causal & (documents[batch, row] == documents[batch, column]) if masked else causal

        batch, seq = documents.shape
        return create_block_mask(allowed, batch, None, seq, seq, device=documents.device)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return _flex_attention(q.is_cuda)(q, k, v, block_mask=mask, enable_gqa=True).transpose(1, 2)


@cache
def _flex_attention(compiled: bool) -> Callable[..., Tensor]:
    """Compiled, it skips the empty blocks; as it stands it makes every score."""
    from torch.nn.attention.flex_attention import flex_attention

    kernel: Callable[..., Any] = flex_attention
    return torch.compile(kernel) if compiled else kernel


KERNELS: dict[str, type[Kernel]] = {"auto": Sdpa, "sdpa": Sdpa, "flash": Flash, "flex": Flex}


def build_kernel(config: ModelConfig) -> Kernel:
    """The attention kernel by name; `auto` is torch's own."""
    return KERNELS[config.attention]()

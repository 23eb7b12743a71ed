"""What training minimises."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.utils.checkpoint import checkpoint

IGNORE = -100
"""The target of a position that has no next token."""


def loss_sums(
    head: Callable[[Tensor], Tensor], x: Tensor, targets: Tensor, z_loss: float, chunk_tokens: int | None
) -> Tensor:
    """x (batch, seq, width), targets (batch, seq) → negative log-likelihood and objective (2,), sums in nats.

    `head` makes the logits, of at most `chunk_tokens` places of each sequence at once: those of a chunk are
    made again in the backward pass, for one more product with the head's matrix.
    """
    if chunk_tokens is None or chunk_tokens >= x.shape[1]:
        return _sums(head(x), targets, z_loss)

    def part(piece: Tensor, wanted: Tensor) -> Tensor:
        return _sums(head(piece), wanted, z_loss)

    pieces = zip(x.split(chunk_tokens, dim=1), targets.split(chunk_tokens, dim=1), strict=True)
    parts = [checkpoint(part, piece, wanted, use_reentrant=False) for piece, wanted in pieces]
    return torch.stack(parts).sum(dim=0)


def _sums(logits: Tensor, targets: Tensor, z_loss: float) -> Tensor:
    """logits (batch, seq, vocab), whole or split over the vocabulary → as `loss_sums`.

    The objective adds `z_loss` · logsumexp² for each token that counts, which keeps the softmax's
    normaliser near one (Chowdhery et al. 2022, §5). Both are sums: what to divide by is known only
    to who sees the whole batch. In at least float32.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
    targets = targets.flatten()
    nll = whole(F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORE))
    if not z_loss:
        return torch.stack((nll, nll))
    normaliser = logsumexp(logits) * (targets != IGNORE)
    return torch.stack((nll, nll + z_loss * normaliser.square().sum()))


def logsumexp(logits: Tensor) -> Tensor:
    """logits (tokens, vocab), whole or split over the vocabulary → (tokens,), whole."""
    if not isinstance(logits, DTensor):
        return torch.logsumexp(logits, dim=-1)
    most = _everywhere(logits.detach().amax(dim=-1, keepdim=True))
    total = _everywhere((logits - most).exp().sum(dim=-1))
    return whole(total.log() + most.squeeze(-1))


def _everywhere(partial: Tensor) -> DTensor:
    """The maximum or sum of what the ranks have each of their part."""
    assert isinstance(partial, DTensor)
    return partial.redistribute(placements=[Replicate()])


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be a DTensor, as a plain one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

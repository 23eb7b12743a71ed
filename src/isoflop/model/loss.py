"""What training minimises."""

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100
"""The target of a position that has no next token."""


def loss_sums(logits: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """logits (batch, seq, vocab), targets (batch, seq) → negative log-likelihood and objective, sums in nats.

    The objective adds `z_loss` · logsumexp² for each token that counts, which keeps the softmax's
    normaliser near one (Chowdhery et al. 2022, §5). Both are sums: what to divide by is known only
    to who sees the whole batch. In at least float32.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
    targets = targets.flatten()
    nll = F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORE)
    if not z_loss:
        return nll, nll
    normaliser = torch.logsumexp(logits, dim=-1) * (targets != IGNORE)
    return nll, nll + z_loss * normaliser.square().sum()

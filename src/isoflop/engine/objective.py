"""The loss of a batch, taken microbatch by microbatch."""

from collections import deque
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.distributed.tensor.parallel import loss_parallel


class MeanOverTokens:
    """Divides by the targets of the whole batch, on all ranks: the mean is over tokens, not over ranks."""

    def __init__(self, n_microbatches: int, device: torch.device) -> None:
        self.device = device
        self.n_targets = 1
        # Only the last calls count: before its first batch torch's pipelining calls the loss once more, on
        # uninitialised memory, to learn shapes.
        self._nlls: deque[Tensor] = deque(maxlen=n_microbatches)

    def begin(self, n_targets: int) -> AbstractContextManager[None]:
        """Start a batch of `n_targets`; forward and backward stand inside the context that this returns."""
        self.n_targets = max(1, n_targets)  # a lone last token has none
        self._nlls.clear()
        return loss_parallel()

    @property
    def nll(self) -> Tensor:
        """The batch's negative log-likelihood, summed over the targets here; zero where there is no head."""
        parts = [nll.double() for nll in self._nlls] or [
            torch.zeros((), dtype=torch.float64, device=self.device)
        ]
        return torch.stack(parts).sum()

    def __call__(self, sums: Tensor, targets: Tensor) -> Tensor:
        """The model's loss sums (2,) → what the backward of this microbatch starts from, a scalar."""
        nll, objective = sums.unbind()
        self._nlls.append(nll.detach())
        return objective / self.n_targets

"""The contract between the one training loop and any engine, seen from the loop.

Order of data, metrics, run folder, schedules and guards are the loop's: two engines differ in nothing
but how a step is computed and how its state is laid out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from isoflop.config.schema import RunConfig
from isoflop.data.loader import Batch

Accept = Callable[[float, float], bool]
"""(loss, grad_norm) → whether to update the weights. Every rank asks with the same numbers."""


@dataclass(frozen=True)
class StepResult:
    """One optimizer step, the same numbers on every rank."""

    loss: float  # nats per token, mean over the whole batch
    grad_norm: float  # of the whole model, before clipping
    flops: float  # model FLOPs of the whole batch
    applied: bool = True  # False: the weights are as before


class Engine(Protocol):
    """A model and its optimizer on this process group."""

    config: RunConfig
    data_rank: int
    """Which part of each batch this rank trains on, of `config.parallel.data` parts."""

    def train_step(self, batch: Batch, n_targets: int, lr: float, accept: Accept) -> StepResult:
        """Update once, if `accept` says so. `batch` is this rank's part, `n_targets` counts those of all."""

    def state(self) -> dict[str, Any]:
        """Model and optimizer as named tensors, as torch's distributed checkpoint saves and fills them.

        Names do not depend on the layout: a state saved in one can be filled in another.
        """

    def agree(self, flag: bool) -> bool:
        """Whether `flag` is set on any rank. Every rank must ask."""

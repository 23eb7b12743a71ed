"""Steps that are not taken: a run that goes wrong for a moment goes on, one that has gone wrong stops."""

import math
from collections import deque
from statistics import fmean, pstdev

from isoflop.checkpoint.marker import Progress
from isoflop.config.base import UserError
from isoflop.config.schema import GuardConfig


class Guard:
    """Judges each step before the weights are updated, on every rank alike: the numbers are the same there.

    A step is skipped where its loss or gradient is no number, and, with `spike_sigmas` k, where its loss is
    above mean + k·σ of the last `spike_window` accepted steps. What it remembers is part of a checkpoint.
    """

    def __init__(self, config: GuardConfig, progress: Progress) -> None:
        self.config = config
        self.skips_in_row = progress.skips_in_row
        self.cause: str | None = None
        """Why the last step was skipped; None where it was not."""
        n_remembered = config.spike_window if config.spike_sigmas is not None else 0
        self._window = deque(progress.window, maxlen=n_remembered)

    @property
    def window(self) -> tuple[float, ...]:
        """Losses of the last accepted steps, as far as the rule asks for them."""
        return tuple(self._window)

    def accept(self, loss: float, grad_norm: float) -> bool:
        """Whether to update the weights. To be asked once a step."""
        self.cause = not_finite("loss", loss) or not_finite("grad_norm", grad_norm) or self._spike(loss)
        if self.cause is None:
            self._window.append(loss)
            self.skips_in_row = 0
        else:
            self.skips_in_row += 1
        return self.cause is None

    def check(self, step: int) -> None:
        """Raises UserError, on every rank alike, where `step` was one skip in a row too many."""
        if self.skips_in_row > self.config.max_skips_in_row:
            raise UserError(
                f"{self.cause} at step {step}, {self.skips_in_row} skipped in a row "
                f"(train.guard.max_skips_in_row={self.config.max_skips_in_row}); a run with a lower "
                "optimizer.lr or a longer schedule.warmup_tokens may not; the checkpoints so far stay"
            )

    def _spike(self, loss: float) -> str | None:
        sigmas = self.config.spike_sigmas
        if sigmas is None or len(self._window) < self.config.spike_window:
            return None
        mean, sigma = fmean(self._window), pstdev(self._window)
        if loss <= mean + sigmas * sigma:
            return None
        return (
            f"loss is {loss:.4f}, above {mean:.4f} + {sigmas:g} × {sigma:.4f} "
            f"of the last {self.config.spike_window} accepted steps"
        )


def not_finite(name: str, value: float) -> str | None:
    """`loss is nan`; None for a number."""
    return None if math.isfinite(value) else f"{name} is {value}"


class MeanLoss:
    """The mean loss of the accepted steps since the last checkpoint, which is what the best are chosen by."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, loss: float) -> None:
        self._sum, self._count = self._sum + loss, self._count + 1

    def take(self) -> float | None:
        """The mean, None where no step was accepted; begins anew."""
        mean = self._sum / self._count if self._count else None
        self._sum, self._count = 0.0, 0
        return mean

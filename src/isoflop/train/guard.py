"""A run that has gone wrong stops before it spoils its last good checkpoint."""

import math

from isoflop.config.base import UserError


def check_finite(step: int, loss: float, grad_norm: float) -> None:
    """Raises UserError, on every rank alike, where the loss or the gradient is no number any more."""
    for name, value in (("loss", loss), ("grad_norm", grad_norm)):
        if not math.isfinite(value):
            raise UserError(
                f"{name} is {value} at step {step}; a run with a lower optimizer.lr or a longer "
                "schedule.warmup_tokens may not; the checkpoints so far stay"
            )

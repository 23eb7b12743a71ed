"""Which checkpoints stay: the last, one every so many steps, and the best."""

import math
from collections.abc import Mapping
from pathlib import Path

from isoflop.checkpoint.marker import complete_checkpoints, read_marker, remove_checkpoint, step_of
from isoflop.config.schema import CheckpointConfig


def kept(losses: Mapping[int, float | None], config: CheckpointConfig) -> set[int]:
    """Which of the complete checkpoints stay: step → its loss, None where it has none.

    The last `keep`, all at multiples of `keep_every`, and the `keep_best` of the lowest loss (of two that
    are equal the later one).
    """
    steps = sorted(losses)
    last = set(steps[-config.keep :])
    every = {step for step in steps if config.keep_every and step % config.keep_every == 0}
    return last | every | set(by_loss(losses)[: config.keep_best])


def by_loss(losses: Mapping[int, float | None]) -> list[int]:
    """Steps from the lowest loss to the highest, the later of two equals first; only those with a loss."""
    known = {step: loss for step, loss in losses.items() if loss is not None and math.isfinite(loss)}
    return sorted(known, key=lambda step: (known[step], -step))


def losses_of(checkpoints: Path) -> dict[int, float | None]:
    """The loss of each complete checkpoint, by its step."""
    return {step_of(folder): read_marker(folder).get("loss") for folder in complete_checkpoints(checkpoints)}


def best(checkpoints: Path) -> tuple[str, float] | None:
    """Name and loss of the complete checkpoint of the lowest loss, None where none has one."""
    losses = losses_of(checkpoints)
    steps = by_loss(losses)
    loss = losses[steps[0]] if steps else None
    return None if loss is None else (f"step-{steps[0]:08d}", loss)


def drop_the_rest(checkpoints: Path, config: CheckpointConfig) -> None:
    """Remove every complete checkpoint that `config` does not keep."""
    losses = losses_of(checkpoints)
    staying = kept(losses, config)
    for folder in complete_checkpoints(checkpoints):
        if step_of(folder) not in staying:
            remove_checkpoint(folder)

"""Batches that grow with the run: which step has which tokens, found at once for any step."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchStage:
    """Steps with one batch size, from 0-based `first_step`; `first_token` tokens of the run are before it."""

    first_step: int
    first_token: int
    batch_tokens: int


def batch_stages(ramp: Sequence[tuple[int, int]], batch_tokens: int) -> tuple[BatchStage, ...]:
    """The stages of `ramp`, each (its tokens, its batch's), and then batches of `batch_tokens` for ever."""
    stages, step, token = [], 0, 0
    for tokens, batch in ramp:
        stages.append(BatchStage(step, token, batch))
        n_steps = -(-tokens // batch)
        step, token = step + n_steps, token + n_steps * batch
    return (*stages, BatchStage(step, token, batch_tokens))


def batch_tokens_of(stages: Sequence[BatchStage], step: int) -> int:
    """Tokens of the batch of 0-based `step`."""
    return _stage(stages, step).batch_tokens


def tokens_before(stages: Sequence[BatchStage], step: int) -> int:
    """Tokens of all batches before 0-based `step`."""
    stage = _stage(stages, step)
    return stage.first_token + (step - stage.first_step) * stage.batch_tokens


def steps_within(stages: Sequence[BatchStage], tokens: int) -> int:
    """Whole steps that `tokens` are enough for."""
    stage = stages[max(0, bisect_right([stage.first_token for stage in stages], tokens) - 1)]
    return stage.first_step + (tokens - stage.first_token) // stage.batch_tokens


def _stage(stages: Sequence[BatchStage], step: int) -> BatchStage:
    return stages[bisect_right([stage.first_step for stage in stages], step) - 1]

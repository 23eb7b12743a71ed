"""The learning rate over tokens, as a factor of its peak."""

from math import cos, pi, sqrt

from isoflop.config.schema import ScheduleConfig


def learning_rate_factor(schedule: ScheduleConfig, tokens: int, total_tokens: int) -> float:
    """The factor of `optimizer.lr` for the step that brings the run to `tokens` of its `total_tokens`.

    `tokens` includes the step's own: the first step is one batch up the warm-up, not at zero, and the
    last step has `final_fraction`. Warm-up is linear from zero. Then

    - constant: 1
    - cosine, linear: down to `final_fraction` over the decay, which follows the warm-up, then level
      (cosine: Loshchilov and Hutter 2017, one period; decaying over the whole run: Hoffmann et al. 2022)
    - wsd: 1 until the decay, which ends the run, then 1 - √x (the better of the shapes in Hägele et al. 2024)
    """
    warmup, decay = schedule_spans(schedule, total_tokens)
    if tokens < warmup:
        return tokens / warmup
    if schedule.kind == "constant":
        return 1.0
    start = total_tokens - decay if schedule.kind == "wsd" else warmup
    done = min(max((tokens - start) / max(decay, 1), 0.0), 1.0)
    return schedule.final_fraction + (1.0 - schedule.final_fraction) * _left(schedule.kind, done)


def schedule_spans(schedule: ScheduleConfig, total_tokens: int) -> tuple[int, int]:
    """Tokens of warm-up and of decay, with what None stands for filled in; a constant rate has no decay."""
    warmup = total_tokens // 20 if schedule.warmup_tokens is None else schedule.warmup_tokens
    if schedule.kind == "constant":
        return warmup, 0
    if schedule.decay_tokens is not None:
        return warmup, schedule.decay_tokens
    return warmup, total_tokens // 5 if schedule.kind == "wsd" else max(0, total_tokens - warmup)


def _left(kind: str, done: float) -> float:
    """What is left of the decay, from 1 to 0, when `done` of it is over."""
    if kind == "cosine":
        return 0.5 * (1.0 + cos(pi * done))
    return 1.0 - done if kind == "linear" else 1.0 - sqrt(done)

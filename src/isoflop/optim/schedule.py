"""The learning rate over tokens, as a factor of its peak."""

from math import cos, pi, sqrt
from typing import NamedTuple

from isoflop.config.schema import ScheduleConfig


class Spans(NamedTuple):
    """Lengths in tokens, with what null stands for filled in."""

    warmup: int
    decay: int
    constant: int = 0  # inverse_sqrt: from the run's start to where the decrease begins


def learning_rate_factor(
    schedule: ScheduleConfig, tokens: int, total_tokens: int, batch_tokens: int
) -> float:
    """The factor of `optimizer.lr` for the step that brings the run to `tokens` of its `total_tokens`.

    `tokens` includes the step's own: the first step is one batch up the warm-up, not at zero, and the
    last step has `final_fraction`. `batch_tokens` is a full batch, in which lengths given in steps are
    counted. Warm-up is linear from zero. Then

    - constant: 1
    - cosine, linear: down to `final_fraction` over the decay, which follows the warm-up, then level
      (cosine: Loshchilov and Hutter 2017, one period; decaying over the whole run: Hoffmann et al. 2022)
    - inverse_sqrt: 1 in the constant phase, then √(constant / tokens) (Raffel et al. 2020, §3.1.2; where the
      constant phase ends with the warm-up: Vaswani et al. 2017, §5.3), and a decay at the end of the run if
      asked (Zhai et al. 2022, §3.5)
    - wsd: 1 until the decay, which ends the run (Hu et al. 2024, §4), then by default 1 - √x (the better of
      the shapes in Hägele et al. 2024)

    Before the decay neither of the last two depends on `total_tokens`, if the warm-up is given.
    """
    spans = schedule_spans(schedule, total_tokens, batch_tokens)
    if tokens < spans.warmup:
        return tokens / spans.warmup
    if schedule.kind == "constant":
        return 1.0
    at_end = schedule.kind in ("wsd", "inverse_sqrt")
    start = total_tokens - spans.decay if at_end else spans.warmup
    if at_end and (tokens <= start or not spans.decay):
        return stable_factor(schedule, tokens, spans)
    top = stable_factor(schedule, start, spans)
    done = min(max((tokens - start) / max(spans.decay, 1), 0.0), 1.0)
    return schedule.final_fraction + (top - schedule.final_fraction) * _left(_shape(schedule), done)


def stable_factor(schedule: ScheduleConfig, tokens: int, spans: Spans) -> float:
    """The factor between warm-up and decay."""
    if schedule.kind != "inverse_sqrt" or tokens <= spans.constant:
        return 1.0
    return sqrt(spans.constant / tokens)


def schedule_spans(schedule: ScheduleConfig, total_tokens: int, batch_tokens: int) -> Spans:
    """The lengths of the schedule's parts; a constant rate has no decay."""
    warmup = _tokens(schedule.warmup_tokens, schedule.warmup_steps, batch_tokens)
    if warmup is None:
        warmup = total_tokens // 20
    if schedule.kind == "constant":
        return Spans(warmup, 0)
    constant = _tokens(schedule.constant_tokens, schedule.constant_steps, batch_tokens)
    decay = _tokens(schedule.decay_tokens, schedule.decay_steps, batch_tokens)
    if decay is None:
        rest = max(0, total_tokens - warmup)
        decay = {"wsd": total_tokens // 5, "inverse_sqrt": 0}.get(schedule.kind, rest)
    return Spans(warmup, decay, max(warmup, constant or 0, batch_tokens))  # the first step has the peak


def _tokens(tokens: int | None, steps: int | None, batch_tokens: int) -> int | None:
    return steps * batch_tokens if tokens is None and steps is not None else tokens


def _shape(schedule: ScheduleConfig) -> str:
    if schedule.kind in ("cosine", "linear"):
        return schedule.kind
    return schedule.decay_shape or ("sqrt" if schedule.kind == "wsd" else "linear")


def _left(shape: str, done: float) -> float:
    """What is left of the decay, from 1 to 0, when `done` of it is over."""
    if shape == "cosine":
        return 0.5 * (1.0 + cos(pi * done))
    return 1.0 - done if shape == "linear" else 1.0 - sqrt(done)

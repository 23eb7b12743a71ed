"""Rules between a schedule and the length of the run, which is known once the model is counted."""

from collections.abc import Iterator

from isoflop.config.base import Fault
from isoflop.config.schema import ScheduleConfig
from isoflop.optim.schedule import Spans, schedule_spans, stable_factor


def schedule_faults(schedule: ScheduleConfig, total_tokens: int, batch_tokens: int) -> Iterator[Fault]:
    """Everything wrong with `schedule` for a run of `total_tokens` in batches of `batch_tokens`."""
    yield from unread_faults(schedule)
    spans = schedule_spans(schedule, total_tokens, batch_tokens)
    run = f"the run's {total_tokens:,} tokens"
    warmup_key, given = _said(schedule, "warmup")
    decay_key, decay = _said(schedule, "decay")
    if spans.warmup > total_tokens:
        what = f"is {spans.warmup:,} tokens, more than" if warmup_key.endswith("steps") else "is more than"
        yield Fault(warmup_key, given, f"{what} {run}; null is a twentieth of them")
    elif spans.warmup + spans.decay > total_tokens and decay is not None:
        fit = _in_unit(total_tokens - spans.warmup, decay_key, batch_tokens)
        yield Fault(
            decay_key, decay, f"after {spans.warmup:,} of warm-up is more than {run}; at most {fit} fit"
        )
    elif spans.warmup + spans.decay > total_tokens:
        fit = _in_unit(total_tokens - spans.decay, warmup_key, batch_tokens)
        yield Fault(
            warmup_key,
            spans.warmup if given is None else given,
            f"before {spans.decay:,} of decay is more than {run}; at most {fit} fit",
        )
    elif schedule.kind == "inverse_sqrt" and spans.decay:
        yield from _rise_faults(schedule, spans, total_tokens)


def unread_faults(schedule: ScheduleConfig) -> Iterator[Fault]:
    """Keys that this kind of schedule does not read."""
    kind, decays = schedule.kind, schedule.kind != "constant"
    for key, of in (("decay", decays), ("constant", kind == "inverse_sqrt")):
        name, given = _said(schedule, key)
        if given is not None and not of:
            right = "wsd" if key == "decay" else "inverse_sqrt"
            yield Fault(
                name, given, f"is not read by a {kind} schedule; null is right, or schedule.kind={right}"
            )
    ends = kind == "wsd" or (kind == "inverse_sqrt" and _said(schedule, "decay")[1] is not None)
    if schedule.decay_shape is not None and not ends:
        message = f"is not read by a {kind} schedule; null is right, or schedule.kind=wsd"
        if kind == "inverse_sqrt":
            message = "has no effect without schedule.decay_tokens; null is right"
        yield Fault("schedule.decay_shape", schedule.decay_shape, message)
    level = {"constant": 1.0, "inverse_sqrt": 0.0}.get(kind) if not ends else None
    if level is not None and schedule.final_fraction != level:
        without = "" if kind == "constant" else " without schedule.decay_tokens"
        message = f"has no effect in a {kind} schedule{without}; {level} does"
        yield Fault("schedule.final_fraction", schedule.final_fraction, message)


def _rise_faults(schedule: ScheduleConfig, spans: Spans, total_tokens: int) -> Iterator[Fault]:
    """A decay that would have to go up."""
    top = stable_factor(schedule, total_tokens - spans.decay, spans)
    if schedule.final_fraction > top:
        message = f"is more than the {top:.3g} where the decay begins; at most that is a decay"
        yield Fault("schedule.final_fraction", schedule.final_fraction, message)


def _said(schedule: ScheduleConfig, length: str) -> tuple[str, int | None]:
    """The key by which a length was given, and its value; the key in tokens where it was not."""
    steps = getattr(schedule, f"{length}_steps")
    if steps is not None:
        return f"schedule.{length}_steps", steps
    return f"schedule.{length}_tokens", getattr(schedule, f"{length}_tokens")


def _in_unit(tokens: int, key: str, batch_tokens: int) -> int:
    return tokens // batch_tokens if key.endswith("steps") else tokens

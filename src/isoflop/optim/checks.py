"""Rules between a schedule and the length of the run, which is known once the model is counted."""

from collections.abc import Iterator

from isoflop.config.base import Fault
from isoflop.config.schema import ScheduleConfig
from isoflop.optim.schedule import schedule_spans


def schedule_faults(schedule: ScheduleConfig, total_tokens: int) -> Iterator[Fault]:
    """Everything wrong with `schedule` for a run of `total_tokens`."""
    if schedule.kind == "constant" and schedule.decay_tokens is not None:
        message = "is not read by a constant schedule; null is right, or schedule.kind=wsd"
        yield Fault("schedule.decay_tokens", schedule.decay_tokens, message)
    if schedule.kind == "constant" and schedule.final_fraction != 1.0:
        yield Fault(
            "schedule.final_fraction",
            schedule.final_fraction,
            "has no effect in a constant schedule; 1.0 does",
        )
    warmup, decay = schedule_spans(schedule, total_tokens)
    run = f"the run's {total_tokens:,} tokens"
    if warmup > total_tokens:
        yield Fault("schedule.warmup_tokens", warmup, f"is more than {run}; null is a twentieth of them")
    elif warmup + decay > total_tokens and schedule.decay_tokens is not None:
        message = f"after {warmup:,} of warm-up is more than {run}; at most {total_tokens - warmup} fit"
        yield Fault("schedule.decay_tokens", decay, message)
    elif warmup + decay > total_tokens:
        message = f"before {decay:,} of decay is more than {run}; at most {total_tokens - decay} fit"
        yield Fault("schedule.warmup_tokens", warmup, message)

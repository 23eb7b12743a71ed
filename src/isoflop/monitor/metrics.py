"""Every number that a run logs, in one table: the keys of `metrics.jsonl`, in their order."""

from collections.abc import Mapping
from dataclasses import dataclass

Row = Mapping[str, float | int]
EVAL_PREFIX = "eval/"  # `eval/<name>/<metric>`, present on the steps that were evaluated


@dataclass(frozen=True)
class Metric:
    """One logged number. `measured` ones (time, memory) differ between two runs of the same experiment."""

    name: str
    unit: str
    meaning: str
    reduction: str
    measured: bool = False


METRICS: tuple[Metric, ...] = (
    Metric("step", "steps", "optimizer updates done, counted from 1", "the same on all ranks"),
    Metric("tokens", "tokens", "trained on since the start", "sum over ranks and steps"),
    Metric(
        "flops",
        "FLOPs",
        "model FLOPs since the start, causal attention, no recompute",
        "sum over ranks and steps",
    ),
    Metric(
        "loss", "nats/token", "cross entropy of the next token", "mean over all tokens of the step, all ranks"
    ),
    Metric("grad_norm", "", "2-norm of the whole gradient before clipping", "over all parameters, all ranks"),
    Metric("lr", "", "learning rate of the update", "the same on all ranks"),
    Metric("skipped", "", "1 where the guard kept the step from the weights", "the same on all ranks"),
    Metric(
        "tokens_per_second",
        "tokens/s",
        "of the whole run, all ranks",
        "tokens of the step / step_seconds",
        True,
    ),
    Metric(
        "step_seconds",
        "s",
        "wall time of fetching the batch and computing the step",
        "of the first rank",
        True,
    ),
    Metric("mfu", "", "model FLOP/s as a fraction of the devices' peak", "over all ranks", True),
    Metric(
        "memory_bytes", "bytes", "peak device memory (on a CPU: resident memory)", "largest over ranks", True
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}
MEASURED = frozenset(metric.name for metric in METRICS if metric.measured)


def ordered(row: Row) -> dict[str, float | int]:
    """`row` in the table's order, evaluations last. Raises KeyError for a name that the table lacks."""
    evaluations = sorted(name for name in row if name.startswith(EVAL_PREFIX))
    unknown = set(row) - set(BY_NAME) - set(evaluations)
    if unknown:
        raise KeyError(f"{', '.join(sorted(unknown))}: not in the table of metrics")
    return {name: row[name] for name in [*BY_NAME, *evaluations] if name in row}

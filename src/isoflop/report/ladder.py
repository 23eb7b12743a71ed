"""A ladder: several model sizes at several budgets, and which quantity its budgets are."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isoflop.monitor import units
from isoflop.report.gather import Run

ENOUGH_SIZES = 3


@dataclass(frozen=True)
class Ladder:
    """Runs by budget, smallest budget first, each group by size; `kind` is what the groups share."""

    kind: str
    groups: list[tuple[str, list[Run]]]


def find_ladder(runs: Sequence[Run]) -> Ladder | None:
    """The ladder among finished runs; None where there are fewer than three sizes.

    Its budget is the quantity that groups the runs best: tokens, FLOPs (isoFLOP) or tokens per parameter,
    each to two digits, since a budget is rounded to whole steps.
    """
    done = [run for run in runs if run.status == "finished" and run.n_params and run.final_loss is not None]
    if len({run.n_params for run in done}) < ENOUGH_SIZES:
        return None
    kinds: dict[str, Callable[[Run], str]] = {
        "tokens": lambda run: f"{units.rounded(run.tokens)} tokens",
        "FLOPs": lambda run: f"{units.scientific(run.flops, 1)} FLOPs",
        "tokens per parameter": lambda run: (
            f"{units.rounded(run.tokens / (run.n_params or 1))} tokens/parameter"
        ),
    }
    best = min(kinds, key=lambda kind: len({kinds[kind](run) for run in done}))
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(done, key=lambda run: (run.tokens, run.n_params)):
        groups[kinds[best](run)].append(run)
    ordered = {
        label: sorted(group, key=lambda run: run.n_params or 0)
        for label, group in groups.items()
        if len({run.n_params for run in group}) > 1  # one size says nothing of size
    }
    return Ladder(best, list(ordered.items()))

"""Who holds up the others: from what every rank says it is doing to one line."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isoflop.monitor.flight import Operation, State, group_key


@dataclass(frozen=True)
class Diagnosis:
    """Why nothing moves, and the first rank to look at."""

    cause: str
    rank: int


def diagnose(states: Mapping[int, State], n_ranks: int) -> Diagnosis:
    """`states` of the ranks that answered, of `n_ranks` → what the others wait for.

    Ranks that did not answer, or that are in no collective, hold up those that wait. Where all wait, they
    wait for each other: in different collectives, or for a network that does not answer.
    """
    silent = [rank for rank in range(n_ranks) if rank not in states]
    waiting = {rank: found["waits"] for rank, found in states.items() if found["waits"] is not None}
    elsewhere = [rank for rank in states if rank not in waiting]
    absent = sorted([*silent, *elsewhere])
    if not absent:
        return _all_wait(states, waiting)
    parts = [_waiters(waiting, absent, states)] if waiting else []
    parts += _missing(silent, elsewhere, states, entered=not waiting)
    return Diagnosis("; ".join(parts), absent[0])


def _waiters(waiting: dict[int, Operation], absent: Sequence[int], states: Mapping[int, State]) -> str:
    """The collective that an absent rank is missing in, who waits there, and how many wait elsewhere."""
    together = _by_operation(waiting)
    named = [name for name, ranks in together.items() if _misses(waiting[ranks[0]], absent, states)]
    name = max(named or together, key=lambda name: len(together[name]))
    others = len(waiting) - len(together[name])
    more = f" and {others} more elsewhere" if others else ""
    return f"{ranks_text(together[name])} {_verb(together[name], 'wait')} in {name}{more}"


def _misses(operation: Operation, absent: Sequence[int], states: Mapping[int, State]) -> bool:
    """Whether one of `absent` belongs into `operation` and has not entered it."""
    key = group_key(operation["group"], operation["ranks"])
    return any(
        rank not in states or states[rank]["entered"].get(key, 0) < operation["number"]
        for rank in absent
        if rank in operation["ranks"]
    )


def _missing(
    silent: Sequence[int], elsewhere: Sequence[int], states: Mapping[int, State], entered: bool
) -> list[str]:
    """Who is not there, and where instead."""
    places: dict[str, list[int]] = defaultdict(list)
    for rank in elsewhere:
        places[f"{states[rank]['where']} ({states[rank]['doing']})"].append(rank)
    parts = [
        f"{ranks_text(ranks)} {_verb(ranks, 'is')} in {place}"
        if entered
        else f"{ranks_text(ranks)} did not enter: in {place}"
        for place, ranks in places.items()
    ]
    if silent:
        parts.append(f"{ranks_text(silent)} did not answer: stopped, or gone with the machine")
    return parts


def _all_wait(states: Mapping[int, State], waiting: dict[int, Operation]) -> Diagnosis:
    together = _by_operation(waiting)
    parts = [
        f"{ranks_text(ranks)} {_verb(ranks, 'wait')} in {name} from {states[ranks[0]]['where']}"
        for name, ranks in together.items()
    ]
    if len(parts) == 1:
        return Diagnosis(f"{parts[0]}: the network or a device does not answer", min(waiting))
    fewest = min(together.values(), key=len)
    return Diagnosis(f"{'; '.join(parts)}: each waits for another", fewest[0])


def _by_operation(waiting: dict[int, Operation]) -> dict[str, list[int]]:
    """The ranks in each operation, by its name for the reader."""
    together: dict[str, list[int]] = defaultdict(list)
    for rank in sorted(waiting):
        together[operation_text(waiting[rank])].append(rank)
    return together


def operation_text(operation: Operation) -> str:
    """`all_gather #42 of tensor (ranks 0, 1)`."""
    number = f" #{operation['number']}" if operation["number"] else ""
    group = f" of {operation['group']}" if operation["group"] else ""
    whole = operation["group"] == "all ranks" or not operation["ranks"]
    return f"{operation['kind']}{number}{group}" + ("" if whole else f" ({ranks_text(operation['ranks'])})")


def ranks_text(ranks: Iterable[int]) -> str:
    """`rank 2`, `ranks 0, 1, 3`, `ranks 0–6, 9`; after the fourth piece only how many more."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    pieces = [
        piece
        for run in runs
        for piece in ([f"{run[0]}–{run[-1]}"] if len(run) > 2 else [str(rank) for rank in run])
    ]
    shown = pieces if len(pieces) <= 5 else [*pieces[:4], f"… ({sum(map(len, runs))} in all)"]
    return f"rank{'s' * (sum(map(len, runs)) > 1)} {', '.join(shown)}"


def _verb(ranks: Sequence[int], verb: str) -> str:
    if verb == "is":
        return "is" if len(ranks) == 1 else "are"
    return f"{verb}s" if len(ranks) == 1 else verb

"""The few numbers that a reader takes away."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from isoflop.monitor import units
from isoflop.report.agreement import Agreement
from isoflop.report.figures import entropy_lines
from isoflop.report.gather import Run


@dataclass(frozen=True)
class Tile:
    """One number, what it is, and what to hold it against."""

    name: str
    value: str
    unit: str = ""
    note: str = ""


def headline(runs: Sequence[Run], pairs: Sequence[Agreement]) -> list[Tile]:
    """Loss, agreement, tokens, compute, speed and time, as far as the runs have them."""
    several = len(runs) > 1
    tiles = [_loss(runs), _agreement(pairs)]
    states = Counter(run.status for run in runs)
    states_note = ", ".join(f"{count} {status}" for status, count in states.items())
    tiles.append(Tile("Runs", str(len(runs)), "", states_note) if several else None)
    tokens = units.count(sum(run.tokens for run in runs))
    params = [run.n_params for run in runs if run.n_params]
    sizes = " to ".join(dict.fromkeys(units.count(n) for n in (min(params), max(params)))) if params else ""
    tiles.append(Tile("Trained on", tokens, "tokens", f"{sizes} parameters" if sizes else ""))
    total = units.scientific(sum(run.flops for run in runs))
    seconds = sum(run.summary.get("wall_seconds") or 0 for run in runs)
    tiles.append(Tile("Compute", total, "FLOPs", f"in {units.duration(seconds)}" if seconds else ""))
    tiles.append(_speed(runs))
    return [tile for tile in tiles if tile is not None]


def _loss(runs: Sequence[Run]) -> Tile | None:
    known = [(run.final_loss, run) for run in runs if run.final_loss is not None]
    if not known:
        return None
    loss, run = min(known, key=lambda pair: pair[0])
    entropies = [nats for _, nats in entropy_lines([run])]
    below = (
        f"{entropies[0] - loss:.2f} below the unigram entropy" if entropies and loss < entropies[0] else ""
    )
    notes = [run.label if len(runs) > 1 else "", below]
    name = "Lowest final loss" if len(runs) > 1 else "Final loss"
    return Tile(name, f"{loss:.3f}", "nats/token", " · ".join(note for note in notes if note))


def _agreement(pairs: Sequence[Agreement]) -> Tile | None:
    told = [pair for pair in pairs if pair.agrees is not None]
    if not told:
        return None
    apart = [pair for pair in told if not pair.agrees]
    if apart:
        note = f"{apart[0].other.layout} from {apart[0].reference.layout}"
        return Tile("Layouts", "part", f"at step {apart[0].first_apart:,}", note)
    worst = max(float(pair.loss.max()) for pair in told)
    return Tile(
        "Layouts", "agree", "", f"losses to {units.scientific(worst, 1)} over {len(told[0].steps)} steps"
    )


def _speed(runs: Sequence[Run]) -> Tile | None:
    speeds = [(speed, run) for run in runs if (speed := run.typical("tokens_per_second"))]
    if not speeds:
        return None
    speed, run = max(speeds, key=lambda pair: pair[0])
    mfu = run.typical("mfu")
    notes = [f"MFU {units.percent(mfu)}" if mfu else "", run.label if len(runs) > 1 else run.layout]
    name = "Fastest" if len(runs) > 1 else "Speed"
    return Tile(name, units.count(speed), "tokens/s", " · ".join(note for note in notes if note))

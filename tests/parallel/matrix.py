"""Every layout of up to eight ranks beside the one-process run that it must equal.

As a program (`make matrix`) it runs all of them and writes the table of docs/matrix.md; the tests take a part
in which each choice stands and each pair of axes.
"""

import argparse
import copy
import itertools
import math
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments import TINY, Case, Curve, relative_difference, run_cases
from helpers import random_documents, write_dataset

from isoflop.config.base import ConfigError
from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.config.schema import RunConfig
from isoflop.engine.capabilities import refusals

TWO_STAGES = "parallel.stages_per_rank=2"
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "data": {
        "": (),
        "ddp2": ("parallel.data=2", "parallel.shard=none"),
        "zero2": ("parallel.data=2", "parallel.shard=zero2"),
        "fsdp2": ("parallel.data=2",),
        "fsdp4": ("parallel.data=4",),
        "hsdp4": ("parallel.data=4", "parallel.replicas=2"),
        "hsdp4-zero2": ("parallel.data=4", "parallel.replicas=2", "parallel.shard=zero2"),
    },
    "context": {"": (), "cp2": ("parallel.context=2",), "cp4": ("parallel.context=4",)},
    "expert": {"": (), "ep2": ("parallel.expert=2",), "ep4": ("parallel.expert=4",)},
    "tensor": {"": (), "tp2": ("parallel.tensor=2",), "tp4": ("parallel.tensor=4",)},
    "pipeline": {
        "": (),
        "gpipe2": ("parallel.pipeline=2", "parallel.pipeline_schedule=gpipe"),
        "1f1b2": ("parallel.pipeline=2",),
        "interleaved2": ("parallel.pipeline=2", TWO_STAGES, "parallel.pipeline_schedule=interleaved"),
        "interleaved_zb2": ("parallel.pipeline=2", TWO_STAGES, "parallel.pipeline_schedule=interleaved_zb"),
        "zbv2": ("parallel.pipeline=2", TWO_STAGES, "parallel.pipeline_schedule=zbv"),
        "dualpipev2": ("parallel.pipeline=2", TWO_STAGES, "parallel.pipeline_schedule=dualpipev"),
        "1f1b4": ("parallel.pipeline=4",),
    },
}
MODELS: dict[str, tuple[str, ...]] = {
    "dense": ("model.n_kv_heads=4",),
    "moe": ("model.n_kv_heads=4", "model=moe-debug", "model.n_layers=4"),
}
PRECISIONS = {"float64": ("precision=fp64",), "float32": ("precision=fp32",), "bfloat16": ("precision=bf16",)}
TOLERANCE = {"float64": 1e-9, "float32": 1e-5, "bfloat16": 1e-1}  # bfloat16 has 8 bits: a bound on blunders
WAYS = ("fresh", "resumed", "moved")
"""From the start; with a checkpoint and a resume in the middle; the same, then on in one process."""
MAX_RANKS = 8
MICROBATCHES = 2  # of a rank
PIPELINED_MICROBATCHES = 4  # the schedules need as many
SEQUENCES = 16  # of a step
DEGREES = tuple(f"parallel.{axis}" for axis in ("data", "context", "tensor", "pipeline"))
STEPS = 10
ONE_RANK = (
    *(f"parallel.{axis}=1" for axis in ("data", "tensor", "pipeline", "context", "expert", "replicas")),
    *("parallel.pipeline_schedule=1f1b", "parallel.stages_per_rank=1"),
)


@dataclass(frozen=True)
class Cell:
    """One square of the matrix."""

    picks: tuple[str, ...]  # a choice of each axis
    model: str
    precision: str
    way: str

    @property
    def layout(self) -> str:
        return " × ".join(pick for pick in self.picks if pick) or "one"

    @property
    def name(self) -> str:
        return f"{'+'.join(filter(None, self.picks)) or 'one'}-{self.model}-{self.precision}-{self.way}"

    @property
    def layout_overrides(self) -> tuple[str, ...]:
        chosen = (options[pick] for options, pick in zip(CHOICES.values(), self.picks, strict=True))
        return tuple(itertools.chain.from_iterable(chosen))

    @property
    def overrides(self) -> tuple[str, ...]:
        return (
            *MODELS[self.model],
            *PRECISIONS[self.precision],
            f"train.microbatch_sequences={self.microbatch_sequences}",
            *self.layout_overrides,
        )

    @property
    def microbatch_sequences(self) -> int:
        data = (word.partition("=")[2] for word in self.layout_overrides if word.startswith("parallel.data="))
        microbatches = PIPELINED_MICROBATCHES if self.picks[-1] else MICROBATCHES
        return SEQUENCES // microbatches // int(next(data, "1"))

    @property
    def ranks(self) -> int:
        degrees = (word.partition("=") for word in self.layout_overrides)
        return math.prod(int(value) for key, _, value in degrees if key in DEGREES)

    def config(self) -> RunConfig:
        """Raises ConfigError where the layout is refused."""
        tree = copy.deepcopy(_composed(self.model, self.precision))
        for word in self.layout_overrides:
            key, _, value = word.removeprefix("parallel.").partition("=")
            tree["parallel"][key] = int(value) if value.isdecimal() else value
        tree["train"]["microbatch_sequences"] = self.microbatch_sequences
        config = load_run(tree)
        if faults := [refusal.fault() for refusal in refusals(config, "cpu")]:
            raise ConfigError(faults)
        return config

    def case(self) -> Case:
        then = {"fresh": {}, "resumed": {STEPS // 2: ()}, "moved": {STEPS // 2: ONE_RANK}}[self.way]
        return Case(self.name, self.overrides, then, STEPS)

    @property
    def reference(self) -> str:
        return Cell(("",) * len(CHOICES), self.model, self.precision, "fresh").name


def cells() -> Iterator[Cell]:
    """The whole matrix, without what needs more than `MAX_RANKS`, and experts without a mixture."""
    names = [tuple(options) for options in CHOICES.values()]
    for picks in itertools.product(*names):
        for model, precision, way in itertools.product(MODELS, PRECISIONS, WAYS):
            cell = Cell(picks, model, precision, way)
            if 1 < cell.ranks <= MAX_RANKS and (model == "moe" or not picks[2]):
                yield cell


@cache
def _composed(model: str, precision: str) -> dict[str, Any]:
    """The composed experiment, without a layout: composing takes a hundred times as long as validating."""
    return compose("train", [*TINY, "data.path=unread", *MODELS[model], *PRECISIONS[precision]])


def refused(cell: Cell) -> str | None:
    """Why the configuration is refused, None where it is not."""
    try:
        cell.config()
    except ConfigError as error:
        return str(error)
    return None


def covering(whole: Sequence[Cell], seed: int = 0) -> list[Cell]:
    """A part of `whole` in which every mark of its cells stands, found greedily from `seed`."""
    draw = random.Random(seed)
    left = set().union(*map(marks, whole))
    chosen: list[Cell] = []
    while left:
        best = max(draw.sample(whole, len(whole)), key=lambda cell: len(marks(cell) & left) / cell.ranks)
        chosen.append(best)
        left -= marks(best)
    return chosen


def marks(cell: Cell) -> set[tuple[str, ...]]:
    """What a covering part must show: each choice, each pair of axes together, each model and precision in
    each way."""
    picked = {axis: pick for axis, pick in zip(CHOICES, cell.picks, strict=True) if pick}
    together = set(itertools.combinations(picked, 2))
    ways = {(cell.model, cell.way), (cell.precision, cell.way), (cell.model, cell.precision)}
    return {*picked.items(), *together, *ways}


def run(chosen: Sequence[Cell], folder: Path) -> dict[Cell, str | tuple[float, float]]:
    """For each cell the largest relative differences of loss and gradient norm, or what went wrong."""
    data = write_dataset(folder / "data", random_documents(300, seed=1))
    references = {Cell(("",) * len(CHOICES), c.model, c.precision, "fresh") for c in chosen}
    ran = list(dict.fromkeys([*references, *chosen]))
    curves = run_cases([cell.case() for cell in ran], MAX_RANKS, folder / "results", data)
    return {cell: _compared(curves[cell.name], curves[cell.reference]) for cell in chosen}


def _compared(spread: Curve | str, alone: Curve | str) -> str | tuple[float, float]:
    if isinstance(spread, str) or isinstance(alone, str):
        return (spread if isinstance(spread, str) else str(alone)).strip().splitlines()[-1]
    return (
        relative_difference(spread.loss, alone.loss),
        relative_difference(spread.grad_norm, alone.grad_norm),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where the table goes; none: the terminal only")
    parser.add_argument("--only", default="", help="layouts whose name has this in it")
    parser.add_argument("--precision", choices=[*PRECISIONS, "all"], default="all")
    parser.add_argument("--way", choices=[*WAYS, "all"], default="all")
    arguments = parser.parse_args()
    chosen = [
        cell
        for cell in cells()
        if arguments.only in cell.layout
        and arguments.precision in (cell.precision, "all")
        and arguments.way in (cell.way, "all")
    ]
    reasons = {cell: refused(cell) for cell in chosen}
    found: dict[Cell, str | tuple[float, float]] = {}
    able = [cell for cell in chosen if reasons[cell] is None]
    print(f"{len(chosen)} cells, of which {len(chosen) - len(able)} are refused", flush=True)
    for first in range(0, len(able), 40):
        with tempfile.TemporaryDirectory() as folder:
            found |= run(able[first : first + 40], Path(folder))
        print(f"{min(first + 40, len(able))}/{len(able)}", flush=True)
    lines = list(table(chosen, reasons, found))
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")
    wrong = [cell for cell in able if not right(cell, found[cell])]
    print(f"{len(able) - len(wrong)} of {len(able)} are the one-process run")
    sys.exit(bool(wrong))


def right(cell: Cell, found: str | tuple[float, float]) -> bool:
    return not isinstance(found, str) and max(found) < TOLERANCE[cell.precision]


def table(
    chosen: Sequence[Cell],
    reasons: dict[Cell, str | None],
    found: dict[Cell, str | tuple[float, float]],
) -> Iterator[str]:
    """A line for each layout and model: the worst difference of each precision and way."""
    columns = [(precision, way) for precision in PRECISIONS for way in WAYS]
    yield "| layout | model | " + " | ".join(f"{p} {w}" for p, w in columns) + " |"
    yield "|---" * (2 + len(columns)) + "|"
    for layout, model in dict.fromkeys((cell.layout, cell.model) for cell in chosen):
        row = {(c.precision, c.way): c for c in chosen if (c.layout, c.model) == (layout, model)}
        words = [_word(row.get(column), reasons, found) for column in columns]
        yield f"| {layout} | {model} | " + " | ".join(words) + " |"


def _word(
    cell: Cell | None, reasons: dict[Cell, str | None], found: dict[Cell, str | tuple[float, float]]
) -> str:
    if cell is None:
        return ""
    if reasons[cell] is not None:
        return "refused"
    result = found[cell]
    if isinstance(result, str):
        return f"**failed**: {result[:60]}"
    return f"{max(result):.0e}" if right(cell, result) else f"**{max(result):.0e}**"


if __name__ == "__main__":
    main()

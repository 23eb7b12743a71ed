"""A run introduces itself: what will be computed, by whom, for how long."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isoflop.config.checks import n_microbatches
from isoflop.config.ramp import tokens_before
from isoflop.config.schema import SPLIT_BACKWARD, ParallelConfig, RunConfig
from isoflop.monitor import units
from isoflop.monitor.layout import Axis, axes

SCHEDULE_NAMES = {
    "gpipe": "GPipe",
    "1f1b": "1F1B",
    "interleaved": "interleaved 1F1B",
    "interleaved_zb": "interleaved, zero bubble",
    "zbv": "ZB-V",
    "dualpipev": "DualPipeV",
}
SHARDS = {"none": "copies", "zero2": "zero2", "zero3": "zero3"}
ESTIMATES = ("gathered", "activations")
LABEL = 11  # width of the first column


@dataclass(frozen=True)
class RunIntro:
    """What is known before the first step. `flops_per_token` is that of `model/flops.py` (causal)."""

    config: RunConfig
    run_id: str
    folder: Path
    n_params: int
    n_params_non_embed: int
    flops_per_token: float
    total_steps: int
    resumed_step: int = 0
    resume_note: str = ""  # such as "checkpoint complete, 41 s ago"
    stages: Sequence[str] = ()  # of a pipeline: what stands on each of its ranks
    memory_rank: int = 0  # the rank that needs most
    memory_bytes: Mapping[str, int] = field(default_factory=dict)  # what it is expected to need, by part

    def render(self, width: int = 120) -> str:
        """The table that a run prints first, in `width` columns; long facts go on below themselves."""
        lines = [f"{self.config.name} · {self.run_id} · {self.folder}"]
        for name, parts in self._facts():
            lines += wrapped(f"{name:<{LABEL}}", parts, width)
        return "\n".join(lines)

    def _facts(self) -> Iterator[tuple[str, list[str]]]:
        train = self.config.train
        tokens = tokens_before(train.stages, self.total_steps)
        core = units.count(self.n_params_non_embed)
        yield (
            "model",
            [
                f"{units.count(self.n_params)} parameters ({core} without embedding)",
                f"{units.flop_rate(self.flops_per_token)}FLOP/token",
            ],
        )
        yield "layout", layout_parts(self.config)
        for axis in axes(self.config.parallel):
            yield f"  {axis.name}", axis_parts(self.config.parallel, axis)
        if self.stages:
            yield "  stages", list(self.stages)
        yield "batch", batch_parts(self.config)
        if self.memory_bytes:
            yield "memory", memory_parts(self.memory_bytes, self.memory_rank, self.config.parallel.ranks)
        yield (
            "budget",
            [
                f"{units.count(tokens)} tokens",
                f"{self.total_steps:,} steps",
                f"{units.scientific(tokens * self.flops_per_token)} FLOPs",
            ],
        )
        if self.resumed_step:
            note = f" ({self.resume_note})" if self.resume_note else ""
            yield "resume", [f"from step {self.resumed_step}{note}"]


def wrapped(label: str, parts: Sequence[str], width: int) -> list[str]:
    """`label` and `parts` joined by dots, broken between parts where they pass `width` columns."""
    lines = [label + parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines.append(" " * len(label) + part)
    return lines


def layout_parts(config: RunConfig) -> list[str]:
    """`8 ranks = data 2 × tensor 2 × pipeline 2`, `1F1B, 8 microbatches`, `bubble 11 %`."""
    parallel = config.parallel
    parts = [f"{parallel.ranks:,} rank" + "s" * (parallel.ranks != 1)]
    if parallel.ranks > 1:
        parts[0] += f" = {layout_name(parallel.model_dump() | {'expert': 1})}"  # experts take no more ranks
    if parallel.pipeline > 1:
        microbatches = n_microbatches(config)
        parts.append(f"{SCHEDULE_NAMES[parallel.pipeline_schedule]}, {microbatches} microbatches")
        at_most = "at most " if parallel.pipeline_schedule in SPLIT_BACKWARD else ""
        parts.append(f"bubble {at_most}{100 * bubble_fraction(parallel, microbatches):.0f} %")
    return parts


def axis_parts(parallel: ParallelConfig, axis: Axis) -> list[str]:
    """`2 · zero3 · ranks (0,2) (1,3)`."""
    parts = [f"{axis.degree:,}"]
    if axis.name == "data":
        copies = f", {parallel.replicas} copies" if parallel.replicas > 1 else ""
        parts.append(SHARDS[parallel.shard] + copies)
    return [*parts, f"ranks {axis.groups_text()}"]


def batch_parts(config: RunConfig) -> list[str]:
    """The batch as an equation; where it grows, what it was before."""
    train = config.train
    equation = (
        f"{train.global_batch_tokens:,} tokens = {config.parallel.data} data × {n_microbatches(config)} "
        f"microbatches × {train.microbatch_sequences} sequence{'s' * (train.microbatch_sequences > 1)} × "
        f"{train.seq_len:,}"
    )
    before = [f"{stage.batch_tokens:,}" for stage in train.stages[:-1]]
    return [equation, f"after {', '.join(before)}"] if before else [equation]


def memory_parts(memory_bytes: Mapping[str, int], rank: int, ranks: int) -> list[str]:
    """`1.21 GiB`, `parameters 240 MiB`, …: the sum first."""
    total = units.memory(sum(memory_bytes.values()))
    where = f" at most, on rank {rank}" if ranks > 1 else ""
    return [
        f"{total} expected{where}",
        *(f"{name} {'~' * (name in ESTIMATES)}{units.memory(size)}" for name, size in memory_bytes.items()),
    ]


def layout_name(parallel: Mapping[str, Any]) -> str:
    """The axes of a `parallel` group that are not 1: `data 2 × tensor 2 × pipeline 2`."""
    degrees = {axis: parallel.get(axis, 1) for axis in ("data", "tensor", "pipeline", "context", "expert")}
    return " × ".join(f"{axis} {degree}" for axis, degree in degrees.items() if degree > 1) or "one rank"


def bubble_fraction(parallel: ParallelConfig, microbatches: int) -> float:
    """Idle share of a step: x/(1+x) with x = (p-1)/(v·m) (Narayanan et al. 2021, §2.2).

    Schedules that split the backward pass fill some of it or all (Qi et al. 2024).
    """
    idle = (parallel.pipeline - 1) / (parallel.stages_per_rank * microbatches)
    return idle / (1 + idle)

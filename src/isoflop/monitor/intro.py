"""A run introduces itself: what will be computed, by whom, for how long."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.config.checks import n_microbatches
from isoflop.config.schema import ParallelConfig, RunConfig
from isoflop.monitor import units

SCHEDULE_NAMES = {"gpipe": "GPipe", "1f1b": "1F1B", "interleaved": "interleaved 1F1B"}


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

    def render(self) -> str:
        """The block that a run prints first."""
        lines = [f"{self.config.name} · {self.run_id} · {self.folder}", *self._facts()]
        return "\n".join(lines)

    def _facts(self) -> list[str]:
        train = self.config.train
        tokens = self.total_steps * train.global_batch_tokens
        core = units.count(self.n_params_non_embed)
        sizes = f"{units.count(self.n_params)} parameters ({core} without embedding)"
        batch = f"{self.config.parallel.data} data × {n_microbatches(self.config)} microbatches"
        facts = {
            "model": f"{sizes} · {units.flop_rate(self.flops_per_token)}FLOP/token",
            "layout": layout_line(self.config),
            "batch": f"{train.global_batch_tokens:,} tokens = {batch} × "
            f"{train.microbatch_sequences} sequences × {train.seq_len:,}",
            "budget": f"{units.count(tokens)} tokens · {self.total_steps:,} steps · "
            f"{units.scientific(tokens * self.flops_per_token)} FLOPs",
        }
        if self.resumed_step:
            facts["resume"] = f"from step {self.resumed_step}" + (
                f" ({self.resume_note})" if self.resume_note else ""
            )
        return [f"{name:<8} {fact}" for name, fact in facts.items()]


def layout_line(config: RunConfig) -> str:
    """`8 ranks = data 2 × tensor 2 × pipeline 2 · 1F1B, 8 microbatches · bubble 11 %`."""
    parallel = config.parallel
    text = f"{parallel.ranks} rank" + "s" * (parallel.ranks != 1)
    if parallel.ranks > 1:
        text += f" = {layout_name(parallel.model_dump())}"
    if parallel.pipeline > 1:
        microbatches = n_microbatches(config)
        text += f" · {SCHEDULE_NAMES[parallel.pipeline_schedule]}, {microbatches} microbatches"
        text += f" · bubble {100 * bubble_fraction(parallel, microbatches):.0f} %"
    return text


def layout_name(parallel: Mapping[str, Any]) -> str:
    """The axes of a `parallel` group that are not 1: `data 2 × tensor 2 × pipeline 2`."""
    degrees = {axis: parallel.get(axis, 1) for axis in ("data", "tensor", "pipeline", "context", "expert")}
    return " × ".join(f"{axis} {degree}" for axis, degree in degrees.items() if degree > 1) or "one rank"


def bubble_fraction(parallel: ParallelConfig, microbatches: int) -> float:
    """Idle share of a step: x/(1+x) with x = (p-1)/(v·m) (Narayanan et al. 2021, §2.2)."""
    idle = (parallel.pipeline - 1) / (parallel.stages_per_rank * microbatches)
    return idle / (1 + idle)

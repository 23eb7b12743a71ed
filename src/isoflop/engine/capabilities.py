"""What an engine does together, and what it refuses: asked before any process starts.

Each rule is a combination that fails, or that goes wrong without an error, in the libraries below. What no
rule refuses stands on the parity tests of tests/parallel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from shutil import which
from typing import Any

from isoflop.config.base import Fault
from isoflop.config.schema import SPLIT_BACKWARD, RunConfig

COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Refusal:
    """`key`=`value` is refused because of something; `instead` is the nearest that works."""

    key: str
    value: Any
    because: str
    instead: str

    def fault(self) -> Fault:
        return Fault(self.key, self.value, f"{self.because}; {self.instead}")


def refusals(config: RunConfig, device: str | None = None) -> Iterator[Refusal]:
    """Everything in `config` that its engine refuses; on `device` (cpu, cuda), where that is known."""
    for rule in RULES[config.engine.name]:
        yield from rule(config)
    if device is not None:
        yield from _device_refusals(config, device)


def _resharding(config: RunConfig) -> Iterator[Refusal]:
    parallel = config.parallel
    sharded = parallel.data * parallel.context > 1 and parallel.shard == "zero3"
    if sharded and parallel.pipeline > 1 and parallel.pipeline_schedule in SPLIT_BACKWARD:
        yield Refusal(
            "parallel.shard",
            "zero3",
            f"gives wrong gradients with pipeline_schedule={parallel.pipeline_schedule}: "
            "torch's FSDP frees the weights before their own gradients are computed",
            "zero2 does",
        )


def _recomputing(config: RunConfig) -> Iterator[Refusal]:
    parallel = config.parallel
    split = parallel.pipeline > 1 and parallel.pipeline_schedule in SPLIT_BACKWARD
    if split and parallel.recompute == "selective":
        yield Refusal(
            "parallel.recompute",
            "selective",
            "frees what it kept after one backward, "
            f"and pipeline_schedule={parallel.pipeline_schedule} goes back twice",
            "full does, or none",
        )


def _recomputing_experts(config: RunConfig) -> Iterator[Refusal]:
    if config.parallel.expert > 1 and config.parallel.recompute == "selective":
        yield Refusal(
            "parallel.recompute",
            "selective",
            f"cannot hold what parallel.expert={config.parallel.expert} ranks exchange: its size varies",
            "full does, or none",
        )


def _compiling(config: RunConfig) -> Iterator[Refusal]:
    parallel = config.parallel
    if not parallel.compile:
        return
    if parallel.pipeline > 1 and parallel.pipeline_schedule in SPLIT_BACKWARD:
        yield Refusal(
            "parallel.compile",
            True,
            f"makes one backward of two, which pipeline_schedule={parallel.pipeline_schedule} needs apart",
            "false does, or 1f1b",
        )
    if parallel.tensor > 1:
        yield Refusal(
            "parallel.compile",
            True,
            f"loses the layout of gradients between blocks that parallel.tensor={parallel.tensor} splits",
            "false does",
        )
    if config.model.moe is not None:
        yield Refusal(
            "parallel.compile",
            True,
            "has not been shown to leave a mixture of experts as it is: how many rows an expert has varies",
            "false does",
        )


def _context_kernels(config: RunConfig) -> Iterator[Refusal]:
    if config.parallel.context > 1 and config.model.attention in ("flash", "flex"):
        yield Refusal(
            "model.attention",
            config.model.attention,
            "has no mask for a part of a sequence's places (parallel.context)",
            "auto or sdpa does",
        )


def _device_refusals(config: RunConfig, device: str) -> Iterator[Refusal]:
    kernel = config.model.attention
    if kernel in ("flash", "flex") and device != "cuda":
        yield Refusal("model.attention", kernel, f"has no backward on {device}", "auto or sdpa does")
    if config.parallel.compile and device == "cpu" and not any(map(which, COMPILERS)):
        needed = "makes C++ of the blocks on a CPU, and no compiler is installed"
        yield Refusal("parallel.compile", True, needed, "`apt install g++`, or false")


RULES = {"native": (_resharding, _recomputing, _recomputing_experts, _compiling, _context_kernels)}

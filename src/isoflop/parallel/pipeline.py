"""Forward and backward of one global batch: alone, or through the stages of a pipeline."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    Schedule1F1B,
    ScheduleDualPipeV,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleZBVZeroBubble,
)

from isoflop.config.schema import ParallelConfig
from isoflop.model.decoder import Decoder
from isoflop.parallel.shard import sync_gradients

WITH_ONE_STAGE = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}  # a rank
WITH_MORE_STAGES = {
    "interleaved": ScheduleInterleaved1F1B,
    "interleaved_zb": ScheduleInterleavedZeroBubble,
    "zbv": ScheduleZBVZeroBubble,
    "dualpipev": ScheduleDualPipeV,
}
Objective = Callable[[Tensor, Tensor], Tensor]
"""(loss sums, targets) of one microbatch → what its backward starts from."""


class Runner(Protocol):
    """Runs forward and backward over microbatches, adding up gradients."""

    def run(self, tokens: Tensor, targets: Tensor, documents: Tensor) -> None:
        """Each (sequences, seq), this data rank's part of the batch; the objective is called a microbatch."""


class Alone:
    """The whole model on this rank of the pipeline axis; microbatches one after another."""

    def __init__(self, model: Decoder, n_microbatches: int, objective: Objective) -> None:
        self.model, self.n_microbatches, self.objective = model, n_microbatches, objective

    def run(self, tokens: Tensor, targets: Tensor, documents: Tensor) -> None:
        pieces = zip(*(x.chunk(self.n_microbatches) for x in (tokens, targets, documents)), strict=True)
        for i, (x, y, docs) in enumerate(pieces):
            sync_gradients(self.model, now=i == self.n_microbatches - 1)
            self.objective(self.model(x, docs, y), y).backward()


class Pipelined:
    """This rank's stages of a pipeline, under one of torch's schedules.

    Narayanan et al. 2021, §2.2 (gpipe, 1f1b, interleaved); Qi et al. 2024 (zero bubble, V-shaped: zbv);
    DeepSeek-AI 2024, §3.2.1 (dualpipev).
    """

    def __init__(
        self,
        parts: dict[int, Decoder],
        mesh: DeviceMesh,
        parallel: ParallelConfig,
        n_microbatches: int,
        objective: Objective,
        device: torch.device,
    ) -> None:
        n_stages = parallel.pipeline * parallel.stages_per_rank
        group = mesh.get_group("pipeline")
        stages = [PipelineStage(part, i, n_stages, device, group=group) for i, part in parts.items()]
        self.is_first, self.is_last = 0 in parts, n_stages - 1 in parts
        options: dict[str, Any] = {
            "n_microbatches": n_microbatches,
            "loss_fn": objective,
            "scale_grads": False,
        }
        self.schedule: Any
        if parallel.pipeline_schedule in WITH_ONE_STAGE:
            self.schedule = WITH_ONE_STAGE[parallel.pipeline_schedule](stages[0], **options)
        else:
            self.schedule = WITH_MORE_STAGES[parallel.pipeline_schedule](list(stages), **options)

    def run(self, tokens: Tensor, targets: Tensor, documents: Tensor) -> None:
        inputs = (tokens,) if self.is_first else ()
        self.schedule.step(
            *inputs,
            documents=documents,
            targets=targets,
            target=targets if self.is_last else None,
            return_outputs=False,
        )


def build_runner(
    parts: dict[int, Decoder],
    mesh: DeviceMesh,
    parallel: ParallelConfig,
    n_microbatches: int,
    objective: Objective,
    device: torch.device,
) -> Runner:
    """What runs `parts`, by the size of the pipeline axis."""
    if parallel.pipeline == 1:
        return Alone(parts[0], n_microbatches, objective)
    return Pipelined(parts, mesh, parallel, n_microbatches, objective, device)

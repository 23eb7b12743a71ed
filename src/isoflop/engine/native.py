"""The reference engine: PyTorch's own distributed stack, on gloo and on NCCL by the same path."""

import os
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from isoflop.config.base import ConfigError
from isoflop.config.checks import n_microbatches
from isoflop.config.schema import RunConfig
from isoflop.data.loader import Batch
from isoflop.dist.collectives import max_over_ranks, sum_over_ranks
from isoflop.dist.mesh import build_context_mesh, context_rank, data_rank
from isoflop.engine.base import Accept, StepResult
from isoflop.engine.capabilities import refusals
from isoflop.engine.objective import MeanOverTokens
from isoflop.engine.state import named_state
from isoflop.model.flops import attention_flops_per_square, matmul_flops_per_token
from isoflop.model.init import canonical_name
from isoflop.model.moe import mixtures
from isoflop.optim.groups import parameter_groups
from isoflop.parallel.apply import build_parts
from isoflop.parallel.context import places_of
from isoflop.parallel.expert import move_biases
from isoflop.parallel.gradients import Gradients
from isoflop.parallel.pipeline import build_runner


class NativeEngine:
    """`config.model` laid out on `mesh`, with its optimizer. See `engine.base.Engine`."""

    def __init__(self, config: RunConfig, mesh: DeviceMesh, device: torch.device) -> None:
        if faults := [refusal.fault() for refusal in refusals(config, device.type)]:
            raise ConfigError(faults)
        set_determinism(config.engine.deterministic, device)
        self.config, self.mesh, self.device = config, mesh, device
        context = config.parallel.context
        self.data_rank = data_rank(mesh, context)
        self.places = places_of(context_rank(mesh, context), context, config.train.seq_len)
        parts = self.parts = build_parts(config, mesh, build_context_mesh(config.parallel, device), device)
        self._run_in(n_microbatches(config))
        self.gradients = Gradients(list(parts.values()), mesh, config.model)
        self.named: dict[str, Tensor] = {}
        for part in parts.values():
            for name, parameter in part.named_parameters():
                self.named.setdefault(canonical_name(name, config.model), parameter)
        self.optimizer = config.optimizer.build(
            parameter_groups(self.named.items(), config.model, config.optimizer)
        )

    def train_step(self, batch: Batch, n_targets: int, lr: float, accept: Accept) -> StepResult:
        here = batch if self.config.parallel.context == 1 else batch.at(self.places)
        tokens, targets, documents = (
            x.to(self.device, non_blocking=True) for x in (here.tokens, here.targets, batch.documents)
        )
        if (n := len(tokens) // self.config.train.microbatch_sequences) != self.n_microbatches:
            self._run_in(n)  # train.batch_ramp: another stage has begun
        self.gradients.match_copies()
        for moe in [moe for part in self.parts.values() for moe in mixtures(part)]:
            moe.begin(1 / max(1, n_targets), self.n_microbatches)
        with self.objective.begin(n_targets):
            self.runner.run(tokens, targets, documents)
        squares = self.gradients.collect()
        first_tensor_rank = self.mesh.get_local_rank("tensor") == 0  # its peers hold the same loss
        nll, squared_norm, flops = sum_over_ranks(
            [self.objective.nll * first_tensor_rank, squares, self._flops(documents)], self.device
        )
        loss, grad_norm = nll / max(1, n_targets), squared_norm**0.5
        applied = accept(loss, grad_norm)
        if applied:
            self._clip(grad_norm)
            for group in self.optimizer.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)
            self.optimizer.step()
            move_biases(self.parts.values(), self.mesh)
        self.optimizer.zero_grad()
        return StepResult(loss, grad_norm, flops, applied)

    def _run_in(self, n_microbatches: int) -> None:
        """From now on a rank's batch has so many microbatches; a pipeline's schedule is made for a number."""
        self.n_microbatches = n_microbatches
        self.objective = MeanOverTokens(n_microbatches, self.device)
        self.runner = build_runner(
            self.parts, self.mesh, self.config.parallel, n_microbatches, self.objective, self.device
        )

    def state(self) -> dict[str, Any]:
        return named_state(self.named, self.optimizer)

    def agree(self, flag: bool) -> bool:
        return bool(max_over_ranks(float(flag), self.device))

    def _clip(self, grad_norm: float) -> None:
        limit = self.config.train.clip_grad_norm
        if limit is not None and grad_norm > limit:
            self.gradients.scale(limit / grad_norm)

    def _flops(self, documents: Tensor) -> float:
        """Model FLOPs of this data rank's sequences, counted on one of the ranks that share them."""
        sharing = (
            self.mesh.get_local_rank("tensor"),
            self.mesh.get_local_rank("pipeline"),
            context_rank(self.mesh, self.config.parallel.context),
        )
        if any(sharing):
            return 0.0
        model = self.config.model
        squares = documents.numel() * documents.shape[1]
        if model.document_mask:
            squares = int(document_lengths(documents).square().sum())
        return matmul_flops_per_token(model) * documents.numel() + attention_flops_per_square(model) * squares


def set_determinism(wanted: bool, device: torch.device) -> None:
    """Same inputs, same bits; on CUDA as far as its kernels can, with a warning for each that cannot."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(wanted, warn_only=device.type == "cuda")
    # torch would fill new memory, which costs time: nothing here reads it before writing it
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def document_lengths(documents: Tensor) -> Tensor:
    """documents (batch, seq) → the length of each document of each sequence (documents in all,)."""
    row = torch.arange(len(documents), device=documents.device)[:, None]
    return torch.unique(
        torch.stack((row.expand_as(documents), documents)).flatten(1), dim=1, return_counts=True
    )[1]

"""The reference engine: PyTorch's own distributed stack, on gloo and on NCCL by the same path."""

import os
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from isoflop.config.base import UserError
from isoflop.config.checks import n_microbatches
from isoflop.config.schema import RunConfig
from isoflop.data.loader import Batch
from isoflop.dist.collectives import max_over_ranks, sum_over_ranks
from isoflop.dist.mesh import data_rank
from isoflop.engine.base import StepResult
from isoflop.engine.objective import MeanOverTokens
from isoflop.engine.state import named_state
from isoflop.model.flops import attention_flops_per_square, matmul_flops_per_token
from isoflop.model.init import canonical_name
from isoflop.optim.groups import parameter_groups
from isoflop.parallel.apply import build_parts
from isoflop.parallel.gradients import Gradients
from isoflop.parallel.pipeline import build_runner


class NativeEngine:
    """`config.model` laid out on `mesh`, with its optimizer. See `engine.base.Engine`."""

    def __init__(self, config: RunConfig, mesh: DeviceMesh, device: torch.device) -> None:
        check_kernel(config.model.attention, device)
        set_determinism(config.engine.deterministic, device)
        self.config, self.mesh, self.device = config, mesh, device
        self.data_rank = data_rank(mesh)
        parts = build_parts(config, mesh, device)
        self.objective = MeanOverTokens(config.model.z_loss, n_microbatches(config), device)
        self.runner = build_runner(
            parts, mesh, config.parallel, n_microbatches(config), self.objective, device
        )
        self.gradients = Gradients(list(parts.values()), mesh, config.model)
        self.named: dict[str, Tensor] = {
            canonical_name(name, config.model): parameter
            for part in parts.values()
            for name, parameter in part.named_parameters()
        }
        self.optimizer = config.optimizer.build(
            parameter_groups(self.named.items(), config.optimizer.weight_decay)
        )

    def train_step(self, batch: Batch, n_targets: int, lr: float) -> StepResult:
        tokens, targets, documents = (
            x.to(self.device, non_blocking=True) for x in (batch.tokens, batch.targets, batch.documents)
        )
        with self.objective.begin(n_targets):
            self.runner.run(tokens, targets, documents)
        squares = self.gradients.collect()
        first_tensor_rank = self.mesh.get_local_rank("tensor") == 0  # its peers hold the same loss
        nll, squared_norm, flops = sum_over_ranks(
            [self.objective.nll * first_tensor_rank, squares, self._flops(documents)], self.device
        )
        grad_norm = squared_norm**0.5
        self._clip(grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepResult(nll / max(1, n_targets), grad_norm, flops)

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
        if self.mesh.get_local_rank("tensor") or self.mesh.get_local_rank("pipeline"):
            return 0.0
        model = self.config.model
        squares = documents.numel() * documents.shape[1]
        if model.document_mask:
            squares = int(document_lengths(documents).square().sum())
        return matmul_flops_per_token(model) * documents.numel() + attention_flops_per_square(model) * squares


def check_kernel(attention: str, device: torch.device) -> None:
    """Raises UserError where the kernel asked for has no backward on this device."""
    if attention in ("flash", "flex") and device.type != "cuda":
        raise UserError(f"model.attention={attention}: has no backward on {device.type}; auto or sdpa does")


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

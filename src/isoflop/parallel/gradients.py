"""The gradient of a model that is spread over ranks: tied copies, norm, clipping."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder


class Gradients:
    """The gradients of this rank's `parts`, seen as pieces of the whole model's."""

    def __init__(self, parts: list[Decoder], mesh: DeviceMesh, config: ModelConfig) -> None:
        self.parameters = [p for part in parts for p in part.parameters()]
        self.world_size = mesh.size()
        self.stages = mesh["pipeline"].size()
        self.tied = _tied_copies(parts) if config.tied and self.stages > 1 else []
        self.ends = _ends_of_pipeline(mesh) if config.tied and self.stages > 1 else None

    @torch.no_grad()
    def match_copies(self) -> None:
        """Give the second copy of a tied matrix the weights of the first, where this rank has both."""
        if len(self.tied) == 2:
            first, second = map(_local, self.tied)
            second.copy_(first)

    @torch.no_grad()
    def collect(self) -> Tensor:
        """Make each gradient whole where it is a partial sum; this rank's share of the squared norm.

        The shares of all ranks add up to the squared norm of the model's gradient, in float64.
        """
        for parameter in self.parameters:
            _settle(parameter)
        self._sum_tied()
        shares = [self._share(parameter) for parameter in self.parameters if parameter.grad is not None]
        return torch.stack(shares).sum()

    def _sum_tied(self) -> None:
        """The gradient of the tied matrix is the embedding's and the head's together.

        V-shaped pipelines have both on one rank, where the first copy then stands for both.
        """
        grads = [copy.grad for copy in self.tied if copy.grad is not None]
        if len(self.tied) == 2:
            _local(grads[0]).add_(_local(grads[1]))
            self.tied[1].grad = None
        elif self.tied:
            dist.all_reduce(_local(grads[0]), group=self.ends)

    def _share(self, parameter: Tensor) -> Tensor:
        """The squared norm of the shard here, divided by the ranks that hold the same shard."""
        assert parameter.grad is not None
        copies = self.world_size // self.stages
        if isinstance(parameter, DTensor):
            for axis, placement in enumerate(parameter.placements):
                if not placement.is_replicate():
                    copies //= parameter.device_mesh.size(axis)
        if len(self.tied) == 1 and parameter is self.tied[0]:
            copies *= 2  # the first stage and the last
        return _local(parameter.grad).double().square().sum() / copies

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Multiply every gradient by `factor`."""
        grads = [_local(parameter.grad) for parameter in self.parameters if parameter.grad is not None]
        torch._foreach_mul_(grads, factor)


def _settle(parameter: Tensor) -> None:
    """Sum a gradient that is partial over the tensor axis (a norm's, seen on a slice of the sequence)."""
    grad = parameter.grad
    if (
        isinstance(parameter, DTensor)
        and isinstance(grad, DTensor)
        and grad.placements != parameter.placements
    ):
        parameter.grad = grad.redistribute(placements=parameter.placements)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _tied_copies(parts: list[Decoder]) -> list[nn.Parameter]:
    """The shared matrix: on a rank of the first or of the last stage once, of both twice."""
    holders = [holder for part in parts for holder in (part.embedding, part.head) if holder is not None]
    return [holder.weight for holder in holders]  # type: ignore[misc]


def _ends_of_pipeline(mesh: DeviceMesh) -> dist.ProcessGroup | None:
    """The group of this rank's first and last stage. Every rank must come here: groups are made together."""
    mine = None
    for column in mesh.mesh.flatten(1).unbind(1):
        ends = [int(column[0]), int(column[-1])]
        group = dist.new_group(ends)
        if dist.get_rank() in ends:
            mine = group
    return mine

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
        self.tied = _tied_copy(parts) if config.tied and self.stages > 1 else None
        self.ends = _ends_of_pipeline(mesh) if config.tied and self.stages > 1 else None

    @torch.no_grad()
    def collect(self) -> Tensor:
        """Make each gradient whole where it is a partial sum; this rank's share of the squared norm.

        The shares of all ranks add up to the squared norm of the model's gradient, in float64.
        """
        for parameter in self.parameters:
            _settle(parameter)
        if self.tied is not None:
            assert self.tied.grad is not None
            dist.all_reduce(_local(self.tied.grad), group=self.ends)
        shares = [self._share(parameter) for parameter in self.parameters if parameter.grad is not None]
        return torch.stack(shares).sum()

    def _share(self, parameter: Tensor) -> Tensor:
        """The squared norm of the shard here, divided by the ranks that hold the same shard."""
        assert parameter.grad is not None
        copies = self.world_size // self.stages
        if isinstance(parameter, DTensor):
            for axis, placement in enumerate(parameter.placements):
                if not placement.is_replicate():
                    copies //= parameter.device_mesh.size(axis)
        if parameter is self.tied:
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


def _tied_copy(parts: list[Decoder]) -> nn.Parameter | None:
    """The shared matrix, on the ranks of the first and of the last stage."""
    for part in parts:
        holder = part.embedding or part.head
        if holder is not None:
            assert isinstance(holder.weight, nn.Parameter)
            return holder.weight
    return None


def _ends_of_pipeline(mesh: DeviceMesh) -> dist.ProcessGroup | None:
    """The group of this rank's first and last stage. Every rank must come here: groups are made together."""
    mine = None
    for column in mesh.mesh.flatten(1).unbind(1):
        ends = [int(column[0]), int(column[-1])]
        group = dist.new_group(ends)
        if dist.get_rank() in ends:
            mine = group
    return mine

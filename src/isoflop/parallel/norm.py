"""A norm over features that the tensor axis splits: its means are taken over all ranks."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_reduce, wait_tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle

from isoflop.model.norm import LayerNorm, RMSNorm


class SplitNorm(ParallelStyle):
    """For an `RMSNorm` or `LayerNorm` of x (…, features here): gain and bias are split as the features are.

    A rank sends two numbers a token at most, where gathering the features would send them all.
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        for name, parameter in list(module.named_parameters()):
            whole = parameter.data
            split = distribute_tensor(whole, device_mesh, [Shard(0)], src_data_rank=None)
            module.register_parameter(name, nn.Parameter(split))
        if isinstance(module, RMSNorm):
            module.forward = partial(_rms_norm, module, device_mesh)  # type: ignore[method-assign]
        else:
            assert isinstance(module, LayerNorm)
            module.forward = partial(_layer_norm, module, device_mesh)  # type: ignore[method-assign]
        return module


def _rms_norm(norm: RMSNorm, mesh: DeviceMesh, x: Tensor) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean_square = _mean(wide.square(), mesh)
    return (wide * torch.rsqrt(mean_square + norm.eps) * _here(norm.weight)).to(x.dtype)


def _layer_norm(norm: LayerNorm, mesh: DeviceMesh, x: Tensor) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - _mean(wide, mesh)
    scaled = centred * torch.rsqrt(_mean(centred.square(), mesh) + norm.eps)
    return (scaled * _here(norm.weight) + _here(norm.bias)).to(x.dtype)


def _mean(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """x (…, features here) → (…, 1), the mean over the features of all ranks, which have equally many."""
    total: Tensor = _Sum.apply(x.sum(-1, keepdim=True), mesh)
    return total / (x.shape[-1] * mesh.size())


def _here(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


class _Sum(torch.autograd.Function):
    """A sum over ranks whose gradient is one too: every rank's output depends on every rank's input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mesh: DeviceMesh) -> Tensor:
        ctx.mesh = mesh
        return wait_tensor(all_reduce(x, "sum", mesh))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return wait_tensor(all_reduce(grad.contiguous(), "sum", ctx.mesh)), None

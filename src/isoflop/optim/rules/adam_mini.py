"""Adam-mini: one second moment for a block of parameters instead of one for each."""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor
from torch.distributed.tensor.placement_types import Placement

from isoflop.optim.rules.base import Rule, local, local_gradient


class AdamMini(Rule):
    """Adam-mini with decoupled weight decay (Zhang et al. 2024, Algorithms 1 and 2). For each block b:

    m ← β₁·m + (1 - β₁)·g;  v_b ← β₂·v_b + (1 - β₂)·mean(g_b²);  θ ← θ - lr·(m̂/(√v̂_b + ε) + weight_decay·θ)

    with m̂ and v̂ corrected for their start at zero, as in Adam. A block is a head in the matrices of queries
    and keys, a row (an output, or a token of the embedding and the head) in the others, and a vector whole.

    State: `exp_avg` like the parameter, and `block_square`, one number a row, (…, rows, 1), sharded as the
    rows are: what a head shares stands in each of its rows, so that heads may be cut anywhere. Vectors: (1,).
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        for parameter in parameters:
            step, weight, gradient = self.next_step(parameter), local(parameter), local_gradient(parameter)
            (mean,) = self.state_like(parameter, "exp_avg")
            square = self._block_square(parameter)
            mean.lerp_(gradient, 1 - beta1)
            square.lerp_(block_means(parameter, gradient.square(), group["block_rows"]), 1 - beta2)
            root = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
            weight.mul_(1 - lr * group["weight_decay"])
            weight.addcdiv_(mean, root, value=-lr / (1 - beta1**step))

    def _block_square(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "block_square" not in state:
            here = local(parameter)
            zeros = here.new_zeros((*here.shape[:-1], 1))
            state["block_square"] = as_rows(parameter, zeros) if isinstance(parameter, DTensor) else zeros
        return local(state["block_square"])


def block_means(parameter: Tensor, values: Tensor, block_rows: int) -> Tensor:
    """The mean of `values`, the part here of something laid out as `parameter`, over each block.

    → (…, rows here, 1), for a vector (1,). Ranks talk only where a block is cut.
    """
    sums = values.sum(dim=-1, keepdim=True)
    if not isinstance(parameter, DTensor) or not _is_cut(parameter, block_rows):
        return _over_rows(sums / parameter.shape[-1], block_rows)
    whole = as_rows(parameter, sums, partial=True).full_tensor() / parameter.shape[-1]
    whole = _over_rows(whole, block_rows)
    return local(distribute_tensor(whole, parameter.device_mesh, row_places(parameter), src_data_rank=None))


def _over_rows(means: Tensor, block_rows: int) -> Tensor:
    """means (rows, 1) → each the mean over its block of rows."""
    if block_rows == 1:
        return means
    blocks = means.unflatten(0, (-1, block_rows))
    return blocks.mean(dim=1, keepdim=True).expand_as(blocks).flatten(0, 1)


def _is_cut(parameter: DTensor, block_rows: int) -> bool:
    """Whether a block may lie on several ranks."""
    last = parameter.ndim - 1
    shards = [place for place in parameter.placements if not place.is_replicate()]
    return any(block_rows > 1 or place.dim % parameter.ndim == last for place in shards)  # type: ignore[attr-defined]


def row_places(parameter: DTensor, partial: bool = False) -> list[Placement]:
    """Placements of one number a row; where columns are cut a copy, or with `partial` a part of a sum."""
    summed: Placement = Partial() if partial else Replicate()
    last = parameter.ndim - 1
    return [
        summed if not place.is_replicate() and place.dim % parameter.ndim == last else place  # type: ignore[attr-defined]
        for place in parameter.placements
    ]


def as_rows(parameter: DTensor, part: Tensor, partial: bool = False) -> DTensor:
    """`part` (…, rows here, 1) as this rank's share of one number a row of `parameter`."""
    shape = torch.Size((*parameter.shape[:-1], 1))
    return DTensor.from_local(
        part,
        parameter.device_mesh,
        row_places(parameter, partial),
        run_check=False,
        shape=shape,
        stride=torch.empty(shape, device="meta").stride(),
    )

"""AdamW over shards: torch's kernels, on the part of each parameter that lies here."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from isoflop.optim.rules.base import Rule, local, local_gradient

Implementation = Literal["auto", "fused", "foreach", "loop"]
FUSED_ON = ("cpu", "cuda")


class AdamW(Rule):
    """AdamW (Loshchilov and Hutter 2019, Algorithm 2) by torch's own functional form.

    It is elementwise, so shards need no communication, whatever meshes they lie on; and torch's dispatch
    of distributed tensors, which costs more than the update of a small shard, is not asked.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        implementation: Implementation,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.implementation = implementation

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        adamw_update(self, parameters, group, self.implementation)


def adamw_update(
    rule: Rule, parameters: list[Tensor], group: dict[str, Any], implementation: Implementation
) -> None:
    """One step of AdamW on `parameters`, with state in `rule`: `exp_avg`, `exp_avg_sq`, `step`."""
    fused = implementation == "fused" or (implementation == "auto" and allows_fused(parameters))
    weights, gradients, means, squares, steps = [], [], [], [], []
    for parameter in parameters:
        state, weight = rule.state[parameter], local(parameter)
        mean, square = rule.state_like(parameter, "exp_avg", "exp_avg_sq")
        if "step" not in state:
            device = weight.device if fused else torch.device("cpu")  # where the kernel reads it
            state["step"] = torch.zeros((), dtype=torch.float32, device=device)
        if not weight.numel():  # more ranks than rows; the step must count all the same
            state["step"] += 1
            continue
        weights.append(weight)
        gradients.append(local_gradient(parameter))
        means.append(mean)
        squares.append(square)
        steps.append(state["step"])
    beta1, beta2 = group["betas"]
    adamw(
        weights,
        gradients,
        means,
        squares,
        [],
        steps,
        foreach=None if implementation == "auto" and not fused else implementation == "foreach",
        fused=fused,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )


def allows_fused(parameters: list[Tensor]) -> bool:
    """Whether torch has one kernel for all of them, on this kind of device."""
    return all(p.is_floating_point() and p.device.type in FUSED_ON for p in parameters)

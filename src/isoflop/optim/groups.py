"""Which parameters decay."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def parameter_groups(named: Iterable[tuple[str, "Tensor"]], weight_decay: float) -> list[dict[str, Any]]:
    """torch parameter groups of `named` (name, parameter): one that decays, one that does not; none is empty.

    Matrices decay (ndim ≥ 2: projections, and with them the embedding, the head and a learned position
    table); biases and the gains of norms, QK-norms too, do not (ndim < 2). That is what nanoGPT's
    `configure_optimizers` does, after GPT-2 and GPT-3 (Brown et al. 2020, appendix B). In a group, parameters
    stand in the order of their names, so the order does not depend on how the model was taken apart.
    """
    ordered = sorted(((n, p) for n, p in named if p.requires_grad), key=lambda pair: pair[0])
    decaying = [p for _, p in ordered if p.ndim >= 2]
    others = [p for _, p in ordered if p.ndim < 2]
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]

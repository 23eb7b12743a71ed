"""Which parameters are treated alike: what decays, and at which share of the learning rate."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from isoflop.config.schema import ModelConfig, OptimizerConfig
from isoflop.model.parametrization import parameter_scale

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["embedding", "head", "heads", "matrix", "vector"]

DECAYING: dict[str, tuple[Kind, ...]] = {
    "projections": ("head", "heads", "matrix"),
    "matrices": ("head", "heads", "matrix", "embedding"),
    "all": ("head", "heads", "matrix", "embedding", "vector"),
}
"""What `optimizer.decay` names."""


def parameter_groups(
    named: Iterable[tuple[str, "Tensor"]], model: ModelConfig, optimizer: OptimizerConfig
) -> list[dict[str, Any]]:
    """torch parameter groups of `named` (canonical name, parameter), by kind and by what scales them.

    Each has `params`, their `names`, `kind`, `weight_decay`, `lr_scale` (the engine sets lr × lr_scale),
    `eps_scale`, and `block_rows`: rows of a matrix that belong together, d_head in queries and keys. In a
    group parameters stand in the order of their names, so that it does not depend on how the model was
    taken apart. Frozen parameters are in none.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in sorted(named, key=lambda pair: pair[0]):
        if not parameter.requires_grad:
            continue
        kind, scale = kind_of(name, parameter.ndim), parameter_scale(name, parameter.ndim, model)
        decays = kind in DECAYING[optimizer.decay]
        group = {
            "kind": kind,
            "weight_decay": optimizer.weight_decay * scale.decay if decays else 0.0,
            "lr_scale": scale.lr,
            "eps_scale": scale.eps,
            "block_rows": model.head_dim if kind == "heads" else 1,
        }
        found = groups.setdefault(tuple(group.values()), {"params": [], "names": [], **group})
        found["params"].append(parameter)
        found["names"].append(name)
    return list(groups.values())


def kind_of(name: str, ndim: int) -> Kind:
    """embedding (of tokens, positions; a tied head), head (untied), heads (queries, keys), matrix, vector."""
    if ndim < 2:
        return "vector"
    if name in ("embedding.weight", "position_embedding.weight"):
        return "embedding"
    if name == "head.weight":
        return "head"
    return "heads" if name.endswith(("attention.q.weight", "attention.k.weight")) else "matrix"


def with_eps(groups: list[dict[str, Any]], eps: float) -> list[dict[str, Any]]:
    """`groups` with Adam's ε, scaled as the parametrization asks."""
    return [{**group, "eps": eps * group.get("eps_scale", 1.0)} for group in groups]

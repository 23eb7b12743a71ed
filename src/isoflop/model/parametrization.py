"""How initial deviations, learning rates and multipliers follow the model's width and depth.

μP: Yang et al. 2022 (Tensor Programs V), table 8, the row of Adam, which allows tied embeddings. CompleteP:
Dey et al. 2025, table 1. With m = width / base_width and l = n_layers / base_depth (1 in μP):

                              init variance   lr          decay   Adam's ε
    embeddings, head          1               1           1       1/m
    matrices of the blocks    1/m             l^(α-1)/m   m       l^(-α)/m
    gains and biases there    -               l^(α-1)     1       l^(-α)/m
    the last norm             -               1           1       1/m

and in the forward pass: logits over m, each branch of the residual stream over l^α, scores over d_head
where the standard has √d_head. The decay grows as the rate falls, so that their product stays.
"""

from dataclasses import dataclass

from isoflop.config.schema import ModelConfig


@dataclass(frozen=True)
class Scale:
    """What a parameter's settings are multiplied by."""

    std: float = 1.0
    lr: float = 1.0
    decay: float = 1.0
    eps: float = 1.0


def parameter_scale(name: str, ndim: int, model: ModelConfig) -> Scale:
    """The factors of parameter `name`; all are 1 in the standard parametrization and at the base shape."""
    width, depth = width_ratio(model), depth_ratio(model)
    if not name.startswith("blocks."):
        return Scale(eps=1 / width)
    lr, eps = depth ** (model.depth_alpha - 1), depth**-model.depth_alpha / width
    if ndim < 2:
        return Scale(lr=lr, eps=eps)
    return Scale(std=width**-0.5, lr=lr / width, decay=width, eps=eps)


def logits_multiplier(model: ModelConfig) -> float:
    """Of the hidden state that the head reads."""
    return 1 / width_ratio(model)


def residual_multiplier(model: ModelConfig) -> float:
    """Of what attention and feed-forward add to the residual stream."""
    return depth_ratio(model) ** -model.depth_alpha


def attention_multiplier(model: ModelConfig) -> float:
    """Of the queries, beside the usual 1/√d_head of the scores; with both, scores are divided by d_head."""
    if model.parametrization == "standard":
        return 1.0
    return ((model.base_d_head or 1) / model.head_dim) ** 0.5


def width_ratio(model: ModelConfig) -> float:
    """m: how much wider than the base; 1 in the standard parametrization."""
    if model.parametrization == "standard" or model.base_width is None:
        return 1.0
    return model.width / model.base_width


def depth_ratio(model: ModelConfig) -> float:
    """l: how much deeper than the base; 1 but in CompleteP."""
    if model.parametrization != "completep" or model.base_depth is None:
        return 1.0
    return model.n_layers / model.base_depth


def base_shape(model: ModelConfig) -> tuple[float, float]:
    """Width and layers at which init schemes are evaluated, before the factors above."""
    return model.width / width_ratio(model), model.n_layers / depth_ratio(model)

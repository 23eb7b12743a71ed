"""The coordinate check of a parametrization: do activations move as far in a wide model as in a narrow one?

Yang et al. 2022 (Tensor Programs V), appendix D.1. With μP the change since the initial weights, of each
coordinate of each activation, neither grows nor vanishes with the width after a few steps; with CompleteP
neither with the depth.
"""

from collections.abc import Sequence
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from isoflop.config.schema import ModelConfig, OptimizerConfig
from isoflop.model.decoder import Decoder
from isoflop.model.init import initialize
from isoflop.optim.groups import parameter_groups

SEQ_LEN, SEQUENCES = 16, 8


def activation_changes(
    model: ModelConfig, optimizer: OptimizerConfig, steps: int, seeds: Sequence[int] = (0,)
) -> list[dict[str, float]]:
    """For each step from the first, the root mean square of what each activation has changed by since step 0.

    Activations: `embedding`, `blocks.<i>.attention`, `blocks.<i>.mlp`, `stream` (what the last norm reads)
    and `logits`; a mean over `seeds`, each with its own weights and batch of random tokens, at the full
    `optimizer.lr`.
    """
    runs = [_changes(model, optimizer, steps, seed) for seed in seeds]
    return [
        {name: sum(run[step][name] for run in runs) / len(runs) for name in runs[0][step]}
        for step in range(steps)
    ]


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent p of the least-squares fit values ∝ sizes^p."""
    x, y = [log(size) for size in sizes], [log(value) for value in values]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - x_mean) ** 2 for a in x)


def _changes(
    config: ModelConfig, optimizer_config: OptimizerConfig, steps: int, seed: int
) -> list[dict[str, float]]:
    model = Decoder(config)
    initialize(model, config, seed)
    optimizer = optimizer_config.build(parameter_groups(model.named_parameters(), config, optimizer_config))
    for group in optimizer.param_groups:
        group["lr"] = optimizer_config.lr * group.get("lr_scale", 1.0)
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(config.vocab_size, (SEQUENCES, SEQ_LEN + 1), generator=draw)
    start, changes = None, []
    for _ in range(steps + 1):
        seen = _activations(model, tokens[:, :-1])
        if start is None:
            start = {name: value.detach() for name, value in seen.items()}
        else:
            changes.append({name: _rms(value.detach() - start[name]) for name, value in seen.items()})
        F.cross_entropy(seen["logits"].flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return changes


def _activations(model: Decoder, tokens: Tensor) -> dict[str, Tensor]:
    """What the embedding, both halves of each block and all blocks together give out, and the logits."""
    seen: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        return module.register_forward_hook(lambda _, __, out: seen.update({name: out}))

    assert model.embedding is not None
    assert model.norm is not None
    hooks = [watch("embedding", model.embedding)]
    hooks += [model.norm.register_forward_pre_hook(lambda _, given: seen.update(stream=given[0]))]
    for number, block in model.blocks.items():
        hooks += [watch(f"blocks.{number}.{half}", getattr(block, half)) for half in ("attention", "mlp")]
    seen["logits"] = model(tokens, torch.zeros_like(tokens))
    for hook in hooks:
        hook.remove()
    return seen


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()

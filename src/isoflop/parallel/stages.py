"""Which layers stand in which stage of the pipeline."""

from isoflop.config.schema import ModelConfig
from isoflop.model.flops import n_block_matmul_params


def stage_layers(model: ModelConfig, n_stages: int) -> list[range]:
    """Contiguous layers for each stage, so that the most expensive stage costs least.

    Costs are matmul weights: a block's, and for the last stage the head's too; the embedding is a
    lookup. Every stage has at least one layer. Raises ValueError with more stages than layers.
    """
    if n_stages > model.n_layers:
        raise ValueError(f"{n_stages} stages of {model.n_layers} layers")
    block = n_block_matmul_params(model) / model.n_layers
    head = model.vocab_size * model.width / block  # in blocks
    sizes = [1] * n_stages
    for _ in range(model.n_layers - n_stages):  # each further layer goes where the load is least
        loads = [size + (head if i == n_stages - 1 else 0) for i, size in enumerate(sizes)]
        sizes[loads.index(min(loads))] += 1
    starts = [sum(sizes[:i]) for i in range(n_stages)]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]

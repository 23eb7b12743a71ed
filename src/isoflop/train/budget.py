"""How long a run is."""

from isoflop.config.ramp import steps_within, tokens_before
from isoflop.config.schema import RunConfig
from isoflop.model.flops import n_params


def total_steps(config: RunConfig) -> int:
    """Optimizer steps: as given, or as many whole batches as the token budget holds, at least one."""
    train = config.train
    if train.steps is not None:
        return train.steps
    tokens = (
        train.tokens if train.tokens is not None else round(train.tokens_per_param * n_params(config.model))
    )
    return max(1, steps_within(train.stages, tokens))


def total_tokens(config: RunConfig) -> int:
    """Tokens of all those steps, as the schedule counts them."""
    return tokens_before(config.train.stages, total_steps(config))

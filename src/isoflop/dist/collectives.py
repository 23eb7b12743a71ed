"""The few collectives that training itself needs."""

import torch
import torch.distributed as dist


def sum_over_ranks(values: list[float | torch.Tensor], device: torch.device) -> list[float]:
    """Each value summed over all ranks, in float64, in one message."""
    packed = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for value in values])
    if dist.get_world_size() > 1:
        dist.all_reduce(packed)
    return packed.tolist()


def max_over_ranks(value: float, device: torch.device) -> float:
    """The largest of the ranks' values."""
    packed = torch.tensor(value, dtype=torch.float64, device=device)
    if dist.get_world_size() > 1:
        dist.all_reduce(packed, dist.ReduceOp.MAX)
    return packed.item()


def gather_texts(mine: str) -> list[str]:
    """Every rank's text, in the order of the ranks. All ranks call it."""
    found: list[str] = [mine] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return found

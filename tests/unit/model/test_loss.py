"""The loss against log-softmax written out, and its gradient against finite differences."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from isoflop.model.loss import IGNORE
from isoflop.model.loss import loss_sums as sums_through_head

TARGETS = torch.tensor([[3, 0, IGNORE, 6], [IGNORE, 1, 1, 5]])


def loss_sums(logits: Tensor, targets: Tensor, z_loss: float) -> Tensor:
    """Of logits that are there already: a head that does nothing."""
    return sums_through_head(nn.Identity(), logits, targets, z_loss, None)


def random_logits(dtype: torch.dtype = torch.float64) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return 3 * torch.randn(*TARGETS.shape, 7, generator=draw, dtype=torch.float64).to(dtype)


def written_out(logits: Tensor, z_loss: float) -> tuple[float, float]:
    """Token by token, without those that have no target."""
    nll = objective = 0.0
    for row, target in zip(logits.flatten(0, 1), TARGETS.flatten().tolist(), strict=True):
        if target != -100:
            normaliser = row.exp().sum().log()
            nll += (normaliser - row[target]).item()
            objective += (normaliser - row[target] + z_loss * normaliser**2).item()
    return nll, objective


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
def test_sums_are_the_formula(z_loss: float) -> None:
    """Summed over the tokens that have a target; the negative log-likelihood has no z-loss in it."""
    nll, objective = loss_sums(random_logits(), TARGETS, z_loss)
    expected = written_out(random_logits(), z_loss)
    assert (nll.item(), objective.item()) == pytest.approx(expected, rel=1e-12)


def test_low_precision_logits_are_summed_in_float32() -> None:
    """bfloat16 logits have the loss of their own values in float32, not one rounded to eight bits."""
    logits = random_logits(torch.bfloat16)
    nll, objective = loss_sums(logits, TARGETS, 0.3)
    assert nll.dtype == objective.dtype == torch.float32
    assert (nll.item(), objective.item()) == pytest.approx(written_out(logits.double(), 0.3), rel=1e-6)


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
def test_the_gradient_is_that_of_finite_differences(z_loss: float) -> None:
    logits = random_logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss_sums(x, TARGETS, z_loss), logits)


def test_a_token_without_a_target_has_no_gradient() -> None:
    logits = random_logits().requires_grad_()
    loss_sums(logits, TARGETS, 0.3)[1].backward()
    assert_close(logits.grad.abs().sum(-1) > 0, TARGETS != -100)


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    """Where no token has a target the sums are zero, not the nan of a mean."""
    nll, objective = loss_sums(random_logits(), torch.full_like(TARGETS, IGNORE), 0.3)
    assert (nll.item(), objective.item()) == (0.0, 0.0)


class Largest(TorchDispatchMode):
    """Remembers the numbers of the largest tensor that any operation has made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return made


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
@pytest.mark.parametrize("chunk_tokens", [1, 3, 5, 16, 40])
def test_chunks_change_nothing_but_the_memory(chunk_tokens: int, z_loss: float) -> None:
    """Sums and gradients are those of all logits at once, of which no more than a chunk's ever exist."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 16, 6, generator=draw, dtype=torch.float64)
    targets = torch.randint(0, 50, (2, 16), generator=draw)
    targets[1, 12:] = IGNORE
    head = nn.Linear(6, 50, bias=False, dtype=torch.float64)
    results, largest = [], []
    for chunk in (None, chunk_tokens):
        here = x.clone().requires_grad_()
        head.weight.grad = None
        with Largest() as watched:
            sums = sums_through_head(head, here, targets, z_loss, chunk)
            sums[1].backward()
        results.append((sums.detach(), here.grad, head.weight.grad.clone()))
        largest.append(watched.numel)
    for chunked, whole in zip(results[1], results[0], strict=True):
        assert_close(chunked, whole, rtol=1e-12, atol=1e-14)
    assert largest[0] == 2 * 16 * 50
    assert largest[1] == max(2 * min(16, chunk_tokens) * 50, head.weight.numel())

"""The loss against log-softmax written out, and its gradient against finite differences."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from isoflop.model.loss import IGNORE, loss_sums

TARGETS = torch.tensor([[3, 0, IGNORE, 6], [IGNORE, 1, 1, 5]])


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

"""The guard's rules, against the window computed anew at every step; and the same after a resume."""

import math
import random
import statistics
from collections.abc import Sequence

import pytest

from isoflop.checkpoint.marker import Progress
from isoflop.config.base import UserError
from isoflop.config.schema import GuardConfig
from isoflop.train.guard import Guard, MeanLoss

NAN, INF = math.nan, math.inf


def verdicts(guard: Guard, losses: Sequence[float], grad_norm: float = 1.0) -> list[bool]:
    return [guard.accept(loss, grad_norm) for loss in losses]


def progress_of(guard: Guard) -> Progress:
    return Progress(step=9, window=guard.window, skips_in_row=guard.skips_in_row)


@pytest.mark.parametrize(
    ("loss", "grad_norm", "cause"),
    [
        (NAN, 1.0, "loss is nan"),
        (INF, 1.0, "loss is inf"),
        (2.0, NAN, "grad_norm is nan"),
        (2.0, INF, "grad_norm is inf"),
    ],
)
def test_what_is_no_number_is_skipped(loss: float, grad_norm: float, cause: str) -> None:
    guard = Guard(GuardConfig(), Progress())
    assert guard.accept(2.0, 1.0)
    assert not guard.accept(loss, grad_norm)
    assert (guard.cause, guard.skips_in_row) == (cause, 1)
    assert guard.accept(2.0, 1.0)
    assert guard.skips_in_row == 0
    assert not guard.cause


def test_a_spike_is_told_from_the_accepted_steps_of_the_window() -> None:
    """Random losses with leaps: each verdict is that of a window kept by hand, skipped steps not in it."""
    draw = random.Random(3)
    losses = [draw.gauss(3.0, 0.1) + (draw.random() < 0.1) * draw.choice([0.2, 0.5, 2.0]) for _ in range(600)]
    guard = Guard(GuardConfig(spike_sigmas=3.0, spike_window=20), Progress())
    accepted: list[float] = []
    expected = []
    for loss in losses:
        last = accepted[-20:]
        limit = statistics.mean(last) + 3.0 * statistics.pstdev(last) if len(last) == 20 else INF
        expected.append(loss <= limit)
        accepted += [loss] * expected[-1]
    assert verdicts(guard, losses) == expected
    assert 20 < expected.count(False) < 120


def test_the_limit_itself_is_no_spike() -> None:
    """Of 1 and 3 the mean is 2 and the population's deviation 1: 2 + 1.5 · 1."""
    config = GuardConfig(spike_sigmas=1.5, spike_window=2)
    for loss, taken in ((3.5, True), (3.5000001, False), (-100.0, True)):
        guard = Guard(config, Progress(window=(1.0, 3.0)))
        assert guard.accept(loss, 1.0) == taken
        assert guard.window == ((3.0, loss) if taken else (1.0, 3.0))


def test_without_the_rule_no_loss_is_too_high() -> None:
    guard = Guard(GuardConfig(), Progress())
    assert all(verdicts(guard, [2.0] * 200 + [1e30]))
    assert guard.window == ()  # nothing to carry in a checkpoint


@pytest.mark.parametrize("stopped_at", range(0, 61, 7))
def test_a_resumed_guard_decides_as_the_one_that_never_stopped(stopped_at: int) -> None:
    draw = random.Random(5)
    losses = [draw.choice([draw.gauss(2.0, 0.05), 2.5, NAN]) for _ in range(60)]
    config = GuardConfig(spike_sigmas=2.0, spike_window=5, max_skips_in_row=3)
    whole = Guard(config, Progress())
    first = Guard(config, Progress())
    expected = verdicts(whole, losses)
    begun = verdicts(first, losses[:stopped_at])
    second = Guard(config, progress_of(first))
    assert begun + verdicts(second, losses[stopped_at:]) == expected
    assert (second.window, second.skips_in_row) == (whole.window, whole.skips_in_row)
    assert {True, False} == set(expected)


@pytest.mark.parametrize("most", [0, 1, 5])
def test_one_skip_too_many_stops_with_its_cause(most: int) -> None:
    guard = Guard(GuardConfig(max_skips_in_row=most), Progress())
    for step in range(1, most + 1):
        guard.accept(NAN, 1.0)
        guard.check(step)
    guard.accept(2.0, 1.0)
    guard.check(most + 1)
    for step in range(most + 2, 2 * most + 2):
        guard.accept(NAN, 1.0)
        guard.check(step)
    guard.accept(2.0, INF)
    with pytest.raises(UserError, match=rf"is inf at step 77, {most + 1} skipped in a row") as caught:
        guard.check(77)
    assert f"max_skips_in_row={most}" in str(caught.value)
    assert "optimizer.lr" in str(caught.value)


def test_the_mean_loss_is_of_the_steps_since_it_was_taken() -> None:
    mean = MeanLoss()
    assert mean.take() is None
    for loss in (1.0, 2.0, 6.0):
        mean.add(loss)
    assert mean.take() == 3.0
    assert mean.take() is None
    mean.add(5.0)
    assert mean.take() == 5.0

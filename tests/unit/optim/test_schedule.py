"""The learning rate's closed forms, at the corners and between."""

from math import cos, pi, sqrt
from typing import Any

import pytest

from isoflop.config.schema import ScheduleConfig
from isoflop.optim.checks import schedule_faults
from isoflop.optim.schedule import learning_rate_factor, schedule_spans

TOTAL = 1_000_000
KINDS = ["constant", "cosine", "linear", "wsd"]
CONSTANT = {"kind": "constant", "final_fraction": 1.0}


def factor(tokens: float, **schedule: Any) -> float:
    return learning_rate_factor(ScheduleConfig(**schedule), int(tokens), TOTAL)


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_is_linear_from_zero_to_the_peak(kind: str) -> None:
    for tokens in (1, 1000, 60_000, 119_999):
        assert factor(tokens, kind=kind, warmup_tokens=120_000) == pytest.approx(tokens / 120_000, rel=1e-15)
    assert factor(120_000, kind=kind, warmup_tokens=120_000) == 1.0
    assert factor(25_000, kind=kind) == pytest.approx(0.5)  # None: a twentieth of the run
    assert factor(50_000, kind=kind) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_without_warm_up_the_first_step_is_near_the_peak(kind: str) -> None:
    assert factor(1, kind=kind, warmup_tokens=0) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_cosine_and_linear_against_their_formulas(final: float) -> None:
    for tokens in range(200_000, TOTAL + 1, 50_000):
        x = (tokens - 200_000) / 800_000
        how: dict[str, Any] = {"warmup_tokens": 200_000, "final_fraction": final}
        cosine = final + (1 - final) * (1 + cos(pi * x)) / 2
        assert factor(tokens, kind="cosine", **how) == pytest.approx(cosine, rel=1e-12, abs=1e-15)
        assert factor(tokens, kind="linear", **how) == pytest.approx(
            1 - (1 - final) * x, rel=1e-12, abs=1e-15
        )


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_decay_shorter_than_the_run_stays_level_at_its_end(kind: str) -> None:
    how: dict[str, Any] = {
        "kind": kind,
        "warmup_tokens": 100_000,
        "decay_tokens": 400_000,
        "final_fraction": 0.2,
    }
    assert factor(300_000, **how) == pytest.approx(0.6)  # both shapes are half-way down in the middle
    assert factor(500_000, **how) == pytest.approx(0.2)
    assert factor(900_000, **how) == pytest.approx(0.2)


@pytest.mark.parametrize("decay", [None, 200_000])  # None: a fifth of the run
def test_wsd_holds_the_peak_and_then_falls_as_one_minus_root(decay: int | None) -> None:
    how: dict[str, Any] = {"kind": "wsd", "decay_tokens": decay, "final_fraction": 0.0}
    for tokens in (50_000, 400_000, 800_000):
        assert factor(tokens, **how) == 1.0
    for tokens in (800_001, 850_000, 900_000, 999_999):
        assert factor(tokens, **how) == pytest.approx(1 - sqrt((tokens - 800_000) / 200_000), rel=1e-12)
    assert factor(850_000, **{**how, "final_fraction": 0.2}) == pytest.approx(0.2 + 0.8 * 0.5)


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_the_run_ends_at_the_final_fraction(kind: str) -> None:
    for final in (0.0, 0.1, 1.0):
        assert factor(TOTAL, kind=kind, final_fraction=final) == pytest.approx(final, abs=1e-15)
        assert factor(2 * TOTAL, kind=kind, final_fraction=final) == pytest.approx(final, abs=1e-15)


def test_a_constant_rate_stays() -> None:
    assert {factor(tokens, kind="constant") for tokens in range(50_000, TOTAL + 1, 50_000)} == {1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_it_rises_and_then_never_rises_again(kind: str) -> None:
    values = [factor(tokens, kind=kind) for tokens in range(1000, TOTAL + 1, 1000)]
    peak = values.index(1.0)
    assert values[:peak] == sorted(set(values[:peak]))
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert min(values) > 0 or kind == "wsd"


def test_the_mean_of_a_cosine_is_the_middle_of_its_range() -> None:
    """∫ over the decay = (1 + final) / 2; over the linear warm-up = 1/2 (midpoints, 1,000 intervals)."""
    how: dict[str, Any] = {"kind": "cosine", "warmup_tokens": 200_000, "final_fraction": 0.1}
    mean = sum(factor(500 + 1000 * i, **how) for i in range(1000)) / 1000
    assert mean == pytest.approx(0.2 * 0.5 + 0.8 * 0.55, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("total", [1, 2, 3, 19])
def test_the_shortest_runs_have_a_rate(kind: str, total: int) -> None:
    schedule = ScheduleConfig(kind=kind, final_fraction=0.5)
    for tokens in range(1, total + 1):
        assert 0.5 <= learning_rate_factor(schedule, tokens, total) <= 1.0
    all_warm_up = ScheduleConfig(kind=kind, warmup_tokens=total)
    assert learning_rate_factor(all_warm_up, total, total) in (1.0, 0.1)


@pytest.mark.parametrize(
    ("kind", "warmup", "decay"),
    [
        ("constant", 50_000, 0),
        ("cosine", 50_000, 950_000),
        ("linear", 50_000, 950_000),
        ("wsd", 50_000, 200_000),
    ],
)
def test_spans_left_out_are_those_documented(kind: str, warmup: int, decay: int) -> None:
    schedule = ScheduleConfig(kind=kind, final_fraction=1.0)
    assert schedule_spans(schedule, TOTAL) == (warmup, decay)
    assert list(schedule_faults(schedule, TOTAL)) == []


@pytest.mark.parametrize(
    ("schedule", "key", "said"),
    [
        (
            {"kind": "cosine", "warmup_tokens": TOTAL + 1},
            "warmup_tokens",
            "more than the run's 1,000,000 tokens",
        ),
        ({**CONSTANT, "warmup_tokens": TOTAL + 1}, "warmup_tokens", "more than the run's 1,000,000"),
        ({"kind": "wsd", "warmup_tokens": 800_001}, "warmup_tokens", "at most 800000 fit"),
        ({"kind": "wsd", "decay_tokens": 950_001}, "decay_tokens", "at most 950000 fit"),
        ({"kind": "linear", "warmup_tokens": 9, "decay_tokens": TOTAL}, "decay_tokens", "at most 999991 fit"),
        ({**CONSTANT, "decay_tokens": 5}, "decay_tokens", "is not read by a constant schedule"),
        ({**CONSTANT, "final_fraction": 0.5}, "final_fraction", "no effect in a constant schedule"),
    ],
    ids=str,
)
def test_a_schedule_longer_than_the_run_is_a_fault(schedule: dict[str, Any], key: str, said: str) -> None:
    [fault] = schedule_faults(ScheduleConfig(**schedule), TOTAL)
    assert fault.key == f"schedule.{key}"
    assert fault.given == schedule[key]
    assert said in fault.message


def test_spans_that_just_fit_are_no_fault() -> None:
    for schedule in (
        {"warmup_tokens": TOTAL},
        {"kind": "wsd", "warmup_tokens": 1, "decay_tokens": TOTAL - 1},
    ):
        assert list(schedule_faults(ScheduleConfig(**schedule), TOTAL)) == []

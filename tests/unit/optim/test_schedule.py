"""The learning rate's closed forms, at the corners and between."""

from math import cos, pi, sqrt
from typing import Any

import pytest

from isoflop.config.base import ConfigError
from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.config.schema import ScheduleConfig
from isoflop.optim.checks import schedule_faults
from isoflop.optim.schedule import learning_rate_factor, schedule_spans

TOTAL = 1_000_000
BATCH = 1_000
KINDS = ["constant", "cosine", "linear", "inverse_sqrt", "wsd"]
CONSTANT = {"kind": "constant", "final_fraction": 1.0}
ROOT = {"kind": "inverse_sqrt", "final_fraction": 0.0}


def factor(tokens: float, **schedule: Any) -> float:
    return learning_rate_factor(ScheduleConfig(**schedule), int(tokens), TOTAL, BATCH)


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
        least = 0.999 * tokens**-0.5 if kind == "inverse_sqrt" else 0.5
        assert least <= learning_rate_factor(schedule, tokens, total, 1) <= 1.0
    all_warm_up = ScheduleConfig(kind=kind, warmup_tokens=total)
    assert learning_rate_factor(all_warm_up, total, total, 1) in (1.0, 0.1)


@pytest.mark.parametrize(
    ("kind", "warmup", "decay"),
    [
        ("constant", 50_000, 0),
        ("cosine", 50_000, 950_000),
        ("linear", 50_000, 950_000),
        ("wsd", 50_000, 200_000),
        ("inverse_sqrt", 50_000, 0),
    ],
)
def test_spans_left_out_are_those_documented(kind: str, warmup: int, decay: int) -> None:
    level = {"final_fraction": 0.0 if kind == "inverse_sqrt" else 1.0}
    schedule = ScheduleConfig(kind=kind, **level)
    assert schedule_spans(schedule, TOTAL, BATCH)[:2] == (warmup, decay)
    assert list(schedule_faults(schedule, TOTAL, BATCH)) == []


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
        ({**CONSTANT, "decay_steps": 5}, "decay_steps", "is not read by a constant schedule"),
        ({"warmup_steps": 1001}, "warmup_steps", "is 1,001,000 tokens, more than the run's 1,000,000"),
        ({"kind": "wsd", "warmup_steps": 801}, "warmup_steps", "at most 800 fit"),
        ({"kind": "wsd", "decay_steps": 951}, "decay_steps", "at most 950 fit"),
        ({"kind": "wsd", "constant_tokens": 5}, "constant_tokens", "is not read by a wsd schedule"),
        ({"kind": "cosine", "decay_shape": "linear"}, "decay_shape", "is not read by a cosine schedule"),
        ({**ROOT, "decay_shape": "cosine"}, "decay_shape", "no effect without schedule.decay_tokens"),
        ({**ROOT, "final_fraction": 0.1}, "final_fraction", "no effect in a inverse_sqrt schedule without"),
        ({**ROOT, "decay_tokens": 10, "final_fraction": 0.5}, "final_fraction", "more than the 0.224"),
        ({**CONSTANT, "final_fraction": 0.5}, "final_fraction", "no effect in a constant schedule"),
    ],
    ids=str,
)
def test_a_schedule_longer_than_the_run_is_a_fault(schedule: dict[str, Any], key: str, said: str) -> None:
    [fault] = schedule_faults(ScheduleConfig(**schedule), TOTAL, BATCH)
    assert fault.key == f"schedule.{key}"
    assert fault.given == schedule[key]
    assert said in fault.message


def test_spans_that_just_fit_are_no_fault() -> None:
    for schedule in (
        {"warmup_tokens": TOTAL},
        {"kind": "wsd", "warmup_tokens": 1, "decay_tokens": TOTAL - 1},
    ):
        assert list(schedule_faults(ScheduleConfig(**schedule), TOTAL, BATCH)) == []


def test_inverse_sqrt_after_its_constant_phase() -> None:
    """1 to the phase's end, √(end / tokens) after it; without a phase from the warm-up's end."""
    how: dict[str, Any] = {**ROOT, "warmup_tokens": 40_000}
    for tokens in (40_000, 100_000, 160_000):
        assert factor(tokens, **how, constant_tokens=160_000) == 1.0
    assert factor(640_000, **how, constant_tokens=160_000) == pytest.approx(0.5, rel=1e-12)
    assert factor(TOTAL, **how, constant_tokens=160_000) == pytest.approx(0.4, rel=1e-12)
    assert factor(160_000, **how) == pytest.approx(0.5, rel=1e-12)
    assert factor(160_000, **how, constant_tokens=10_000) == pytest.approx(0.5, rel=1e-12)  # within warm-up


def test_inverse_sqrt_may_come_down_at_the_end() -> None:
    """From where it is when the decay begins, in the shape that is asked for, to the final fraction."""
    how: dict[str, Any] = {"kind": "inverse_sqrt", "warmup_tokens": 0, "constant_tokens": 200_000}
    how |= {"decay_tokens": 200_000, "final_fraction": 0.1}
    assert factor(800_000, **how) == pytest.approx(0.5, rel=1e-12)
    assert factor(900_000, **how) == pytest.approx(0.3, rel=1e-12)
    assert factor(900_000, **how, decay_shape="sqrt") == pytest.approx(0.1 + 0.4 * (1 - sqrt(0.5)), rel=1e-12)
    assert factor(TOTAL, **how) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize(
    ("shape", "left"),
    [
        (None, lambda x: 1 - sqrt(x)),
        ("sqrt", lambda x: 1 - sqrt(x)),
        ("linear", lambda x: 1 - x),
        ("cosine", lambda x: (1 + cos(pi * x)) / 2),
    ],
)
def test_shapes_of_wsd(shape: str | None, left: Any) -> None:
    how: dict[str, Any] = {
        "kind": "wsd",
        "decay_tokens": 200_000,
        "final_fraction": 0.2,
        "decay_shape": shape,
    }
    for x in (0.001, 0.25, 0.5, 0.9, 1.0):
        assert factor(800_000 + 200_000 * x, **how) == pytest.approx(0.2 + 0.8 * left(x), rel=1e-9)


@pytest.mark.parametrize("kind", ["wsd", "inverse_sqrt"])
def test_before_the_decay_the_horizon_does_not_matter(kind: str) -> None:
    """With a warm-up that is given, so that one run can be branched to several horizons."""
    how: dict[str, Any] = {"kind": kind, "warmup_tokens": 50_000, "decay_tokens": 100_000}
    schedule = ScheduleConfig(**how)
    for tokens in range(1000, 400_001, 1000):
        factors = {
            learning_rate_factor(schedule, tokens, total, BATCH) for total in (500_000, 900_000, TOTAL)
        }
        assert len(factors) == 1, tokens
    assert learning_rate_factor(schedule, 450_000, 500_000, BATCH) < factor(450_000, **how)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_in_steps_are_lengths_in_full_batches(kind: str) -> None:
    tokens: dict[str, Any] = {"kind": kind, "warmup_tokens": 70_000}
    steps: dict[str, Any] = {"kind": kind, "warmup_steps": 70}
    if kind == "inverse_sqrt":
        tokens, steps = tokens | {"constant_tokens": 300_000}, steps | {"constant_steps": 300}
    if kind != "constant":
        tokens, steps = tokens | {"decay_tokens": 250_000}, steps | {"decay_steps": 250}
    values = [factor(1000 * i, **steps) for i in range(1, 1001)]
    assert values == [factor(1000 * i, **tokens) for i in range(1, 1001)]
    assert values[69] == 1.0
    assert values[68] < 1.0


def test_a_length_given_in_tokens_and_in_steps_is_a_fault() -> None:
    words = ["schedule.warmup_tokens=5", "schedule.warmup_steps=5"]
    words += ["schedule.decay_tokens=7", "schedule.decay_steps=7"]
    with pytest.raises(ConfigError) as found:
        load_run(compose("train", words))
    assert {fault.key for fault in found.value.faults} == {"schedule.warmup_steps", "schedule.decay_steps"}

"""A batch-size ramp is the same run in every layout, and after a resume in another one inside any stage."""

from pathlib import Path

import pytest
from experiments import Case, Curve, relative_difference, run_cases
from helpers import random_documents, write_dataset
from programs import read_rows
from runs_here import events_of, train_here

RAMP = "train.batch_ramp=[{tokens: 768, global_batch_tokens: 256}, {tokens: 1536, global_batch_tokens: 512}]"
COMMON = (RAMP, "precision=fp64", "train.global_batch_tokens=1024")  # 3 steps of 256, 3 of 512, then of 1,024
DATA, PIPELINE = ("parallel.data=2",), ("parallel.pipeline=2",)
ZBV = (*PIPELINE, "parallel.pipeline_schedule=zbv", "parallel.stages_per_rank=2", "parallel.shard=none")

CASES = [
    Case("alone", COMMON),
    Case("data", (*COMMON, *DATA)),
    Case("tensor", (*COMMON, "parallel.tensor=2")),
    Case("pipeline", (*COMMON, *PIPELINE)),
    Case("zbv", (*COMMON, *ZBV)),
    Case("data, pipeline, alone", COMMON, then={2: PIPELINE, 5: (), 8: DATA}),
    Case("small", (*COMMON, *PIPELINE, "train.microbatch_sequences=2")),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=2))


@pytest.fixture(scope="module")
def curves(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curve | str]:
    return run_cases(CASES, 2, tmp_path_factory.mktemp("cases"), data)


@pytest.mark.parametrize("name", [case.name for case in CASES[1:]])
def test_the_layout_does_not_matter(curves: dict[str, Curve | str], name: str) -> None:
    alone, spread = curves["alone"], curves[name]
    assert isinstance(alone, Curve), alone
    assert isinstance(spread, Curve), spread
    for field in ("loss", "grad_norm", "flops"):
        assert relative_difference(getattr(spread, field), getattr(alone, field)) < 1e-9
    growth = [round(flops / alone.flops[0]) for flops in alone.flops]
    assert growth == [1, 1, 1, 2, 2, 2, 4, 4, 4, 4]


def test_a_run_counts_tokens_and_decays_by_them(data: Path, tmp_path: Path) -> None:
    """Linear from 768 tokens (the first stage) to 6,400: the rate at each step is that of its tokens."""
    words = ("train.steps=10", RAMP, "train.global_batch_tokens=1024", "optimizer.lr=0.01")
    schedule = ("schedule=linear", "schedule.warmup_tokens=768", "schedule.final_fraction=0")
    folder = train_here(data, tmp_path, *words, *schedule, "checkpoint.every=4")
    seen = [256, 512, 768, 1280, 1792, 2304, 3328, 4352, 5376, 6400]
    rates = [0.01 * (tokens / 768 if tokens < 768 else 1 - (tokens - 768) / (6400 - 768)) for tokens in seen]
    rows = read_rows(folder)
    assert [row["lr"] for row in rows] == pytest.approx(rates, rel=1e-12, abs=1e-18)
    missing = [
        tokens - row["tokens"] for tokens, row in zip(seen, rows, strict=True)
    ]  # a short last sample's
    assert missing == sorted(missing)
    assert missing[0] >= 0
    assert missing[-1] < 64
    assert [event["step"] for event in events_of(folder, "checkpoint")] == [4, 8, 10]

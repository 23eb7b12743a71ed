"""Batches that grow: the arithmetic against walking, and no sequence lost or doubled where a stage ends."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_documents, write_dataset

from isoflop.config.base import ConfigError
from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.config.ramp import batch_stages, batch_tokens_of, steps_within, tokens_before
from isoflop.config.schema import DataConfig, RunConfig, TrainConfig
from isoflop.data.loader import build_batches
from isoflop.train.budget import total_steps, total_tokens

SEQ_LEN = 16
RAMP = "train.batch_ramp=[{tokens: 128, global_batch_tokens: 32}, {tokens: 256, global_batch_tokens: 64}]"


@pytest.mark.parametrize("seed", range(20))
def test_the_arithmetic_is_that_of_walking(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.randint(1, 9) for _ in range(draw.randint(0, 4))]
    lengths = [draw.randint(1, 7) for _ in sizes]
    last = draw.randint(1, 20)
    stages = batch_stages([(size * n, size) for size, n in zip(sizes, lengths, strict=True)], last)
    walked = [size for size, n in zip(sizes, lengths, strict=True) for _ in range(n)]
    walked += [last] * 50
    for step, size in enumerate(walked):
        assert batch_tokens_of(stages, step) == size
        assert tokens_before(stages, step) == sum(walked[:step])
    for tokens in range(sum(walked)):
        enough = sum(sum(walked[: n + 1]) <= tokens for n in range(len(walked)))
        assert steps_within(stages, tokens) == enough


def test_a_far_step_is_found_at_once() -> None:
    stages = batch_stages([(10**12, 10**6), (10**15, 2 * 10**6)], 4 * 10**6)
    far = 10**6 + 5 * 10**8 + 10**12
    assert tokens_before(stages, far) == 10**12 + 10**15 + 4 * 10**18
    assert steps_within(stages, tokens_before(stages, far)) == far


def train_config(*ramp: tuple[int, int], batch: int) -> TrainConfig:
    stages = [{"tokens": tokens, "global_batch_tokens": size} for tokens, size in ramp]
    return TrainConfig.model_validate(
        {"seq_len": SEQ_LEN, "global_batch_tokens": batch, "batch_ramp": stages, "microbatch_sequences": 1}
    )


def test_the_sequences_are_those_of_a_run_without_a_ramp_in_their_order(tmp_path: Path) -> None:
    """Over three stages and several epochs; each rank's parts together are the batch, at any step."""
    root = write_dataset(tmp_path, random_documents(40, longest=30))
    data: dict[str, Any] = {"path": str(root)}
    flat = build_batches(DataConfig(**data), train_config(batch=4 * SEQ_LEN), 5)
    ramp = ((6 * SEQ_LEN, 2 * SEQ_LEN), (20 * SEQ_LEN, 4 * SEQ_LEN))
    grown = build_batches(DataConfig(**data), train_config(*ramp, batch=12 * SEQ_LEN), 5)
    sizes = [len(grown.step(step).tokens) for step in range(16)]
    assert sizes == [2, 2, 2, 4, 4, 4, 4, 4] + [12] * 8
    steps = [grown.step(step) for step in range(16)]
    whole = [flat.step(step) for step in range(sum(sizes) // 4)]
    for field in ("tokens", "targets", "documents"):
        ours = torch.cat([getattr(batch, field) for batch in steps])
        theirs = torch.cat([getattr(batch, field) for batch in whole])
        assert torch.equal(ours[: len(theirs)], theirs)
    assert sum(grown.n_targets(step) for step in range(16)) == sum(
        int((batch.targets >= 0).sum()) for batch in steps
    )
    for step in (0, 2, 3, 7, 8, 15):
        parts = [grown.step(step, rank, 2).tokens for rank in range(2)]
        assert torch.equal(torch.cat(parts), steps[step].tokens)
    afresh = build_batches(DataConfig(**data), train_config(*ramp, batch=12 * SEQ_LEN), 5)
    assert torch.equal(afresh.step(9).tokens, steps[9].tokens)


def tiny_run(*overrides: str) -> RunConfig:
    sizes = ["train.seq_len=16", "train.microbatch_sequences=1", "train.global_batch_tokens=128"]
    return load_run(compose("train", ["data.path=x", *sizes, *overrides]))


def test_the_budget_counts_every_stage() -> None:
    """4 steps of 32, 4 of 64, then of 128."""
    assert total_tokens(tiny_run(RAMP, "train.steps=10")) == 4 * 32 + 4 * 64 + 2 * 128
    by_tokens = tiny_run(RAMP, "train.tokens=700")
    assert (total_steps(by_tokens), total_tokens(by_tokens)) == (10, 640)
    assert total_steps(tiny_run(RAMP, "train.tokens=127")) == 3
    assert total_tokens(tiny_run("train.steps=10")) == 1280


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (
            ["train.batch_ramp=[{tokens: 100, global_batch_tokens: 32}]"],
            "train.batch_ramp.0.tokens",
            "not a multiple of its batch of 32; 96 is",
        ),
        (
            [RAMP, "parallel.data=4"],
            "train.batch_ramp.0.global_batch_tokens",
            "4 × 1 × 16 = 64; 64 is",
        ),
        (
            [RAMP, "parallel.pipeline=4"],
            "train.batch_ramp.0.global_batch_tokens",
            "as many microbatches; there are 2",
        ),
        ([RAMP, "train.tokens=31"], "train.tokens", "less than one step: the first stage's batch is 32"),
        (["train.batch_ramp=[{tokens: 32}]"], "train.batch_ramp.0.global_batch_tokens", ""),
    ],
    ids=["length", "data", "pipeline", "budget", "key"],
)
def test_a_stage_that_does_not_fit_is_a_fault(overrides: list[str], key: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_run(*overrides)
    messages = {fault.key: fault.message for fault in caught.value.faults}
    assert said in messages[key]

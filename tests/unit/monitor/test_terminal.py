"""What a person sees while a run trains."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.monitor.intro import RunIntro
from isoflop.monitor.terminal import TerminalSink, closing_line


def row(step: int) -> dict[str, float | int]:
    return {"step": step, "loss": 10 / step, "lr": 3e-3, "tokens_per_second": 41_234.5, "mfu": 0.3821}


def intro(overrides: list[str], **more: object) -> RunIntro:
    config = load_run(compose("train", ["data.path=d", *overrides]))
    return RunIntro(config, "9f3c01a2be", Path("runs/x"), 125_854_464, 100_688_640, 0.906e9, 1450, **more)  # type: ignore[arg-type]


def shown(mode: str, steps: range, total: int, resumed: int = 0, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, highlight=False, soft_wrap=True)
    sink = TerminalSink(mode, resumed, total, console)  # type: ignore[arg-type]
    sink.open(intro([]))
    for step in steps:
        sink.log(row(step))
    sink.close("finished", {"step": steps[-1], "final_loss": 1.0})
    return out.getvalue()


def plain_steps(text: str) -> list[int]:
    return [
        int(line.split("/")[0].removeprefix("step").replace(",", ""))
        for line in text.splitlines()
        if "/" in line and line.startswith("step")
    ]


@pytest.mark.parametrize(
    ("first", "last", "every"),
    [(1, 1000, 1), (1, 7, 1), (1, 39, 1), (500, 1000, 1), (10, 1000, 10), (7, 1000, 7), (1, 1, 1)],
)
def test_plain_lines_are_few_and_have_both_ends(first: int, last: int, every: int) -> None:
    steps = range(first, last + 1, every)
    seen = plain_steps(shown("auto", steps, total=last, resumed=first - 1))
    assert seen[0] == steps[0]
    assert seen[-1] == steps[-1]
    assert seen == sorted(set(seen))
    assert len(seen) <= 22
    assert len(seen) >= min(len(steps), 10)


def test_a_run_that_stops_early_shows_its_last_step() -> None:
    assert plain_steps(shown("plain", range(1, 38), total=1000))[-1] == 37


def test_a_plain_line_says_what_matters() -> None:
    line = shown("plain", range(1, 3), total=1450).splitlines()[-3]
    assert line.startswith("step     1/1,450  loss 10.0000  lr 3.00e-03  41.2 k tok/s  MFU 38.2 %")


def test_on_a_terminal_there_is_a_bar() -> None:
    text = shown("auto", range(1, 11), total=10, terminal=True)
    assert "━" in text
    assert "10/10" in text
    assert "MFU 38.2 %" in text
    assert plain_steps(text) == []


def test_off_is_silent() -> None:
    assert shown("off", range(1, 11), total=10) == ""


CUBE = ["name=125m-lion", "parallel=2x2x2", "train.seq_len=2048", "train.microbatch_sequences=64"]


def test_a_run_introduces_itself() -> None:
    block = intro(
        [*CUBE, "train.global_batch_tokens=2097152"],
        resumed_step=600,
        resume_note="41 s ago",
        stages=["0: embedding, layers 0–9", "1: layers 10–15, head"],
        memory_bytes={"parameters": 3 * 2**20, "gradients": 2**20, "activations": 2**30},
        memory_rank=4,
    )
    assert block.render().splitlines() == [
        "125m-lion · 9f3c01a2be · runs/x",
        "model      125.9 M parameters (100.7 M without embedding) · 0.906 GFLOP/token",
        "layout     8 ranks = data 2 × tensor 2 × pipeline 2 · 1F1B, 8 microbatches · bubble 11 %",
        "  data     2 · zero3 · ranks (0,2) (1,3) (4,6) (5,7)",
        "  tensor   2 · ranks (0,1) (2,3) (4,5) (6,7)",
        "  pipeline 2 · ranks (0,4) (1,5) (2,6) (3,7)",
        "  stages   0: embedding, layers 0–9 · 1: layers 10–15, head",
        "batch      2,097,152 tokens = 2 data × 8 microbatches × 64 sequences × 2,048",
        "memory     1 GiB expected at most, on rank 4 · parameters 3 MiB · gradients 1 MiB"
        " · activations ~1 GiB",
        "budget     3.04 B tokens · 1,450 steps · 2.76e18 FLOPs",
        "resume     from step 600 (41 s ago)",
    ]


def test_a_narrow_terminal_gets_more_lines() -> None:
    """Nothing is lost, and no line passes the width where a single fact does not."""
    block = intro([*CUBE, "train.global_batch_tokens=2097152"])
    narrow, wide = block.render(80).splitlines(), block.render(120).splitlines()
    assert max(map(len, narrow)) <= 80 < max(map(len, wide))
    assert "           bubble 11 %" in narrow
    assert "".join(narrow).replace(" ", "").replace("·", "") == "".join(wide).replace(" ", "").replace(
        "·", ""
    )


def test_one_rank_has_no_axes() -> None:
    lines = intro([]).render().splitlines()
    assert lines[2] == "layout     1 rank"
    assert [line.split()[0] for line in lines[1:]] == ["model", "layout", "batch", "budget"]


def test_the_last_line_sums_up() -> None:
    summary = {
        "step": 1450,
        "final_loss": 2.91337,
        "best_loss": 2.9011,
        "tokens": 3.04e9,
        "wall_seconds": 725,
    }
    assert closing_line("finished", summary) == (
        "finished · 1,450 steps · loss 2.9134 (best 2.9011) · 3.04 B tokens · 12 min 5 s"
    )
    assert closing_line("failed", {"final_loss": None}) == "failed"

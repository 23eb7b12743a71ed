"""Runs killed at random, each then resumed in another layout: the same data, the same losses.

A tiny model is trained in 2 to 4 ranks and killed (SIGKILL) at a random moment: a rank, or the launcher
with all of them. It is then resumed in a layout drawn from the others. Right is a run whose rows are the
steps 1 … n without a gap or a double, whose tokens and FLOPs are exactly, and whose losses and gradient norms
to a relative 1e-5 (float32), those of one rank that was never disturbed.

    python benchmarks/kills.py [--kills 20] [--seed 0] [--steps 40]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers import random_documents, write_dataset
from programs import descendants, kill, only_run, read_rows, run, start, train_command, wait_for_step

TOLERANCE = 1e-5  # relative
LAYOUTS = {
    "one rank": (),
    "data 2": ("parallel.data=2",),
    "data 2, zero2": ("parallel.data=2", "parallel.shard=zero2"),
    "data 3": ("parallel.data=3",),
    "data 4, copies": ("parallel.data=4", "parallel.shard=none"),
    "tensor 2": ("parallel.tensor=2",),
    "pipeline 2": ("parallel.pipeline=2",),
    "interleaved": (
        "parallel.pipeline=2",
        "parallel.pipeline_schedule=interleaved",
        "parallel.stages_per_rank=2",
    ),
    "data 2 × tensor 2": ("parallel.data=2", "parallel.tensor=2"),
    "data 2 × pipeline 2": ("parallel.data=2", "parallel.pipeline=2"),
    "tensor 2 × pipeline 2": ("parallel.tensor=2", "parallel.pipeline=2"),
}
BATCH = ("train.global_batch_tokens=768", "train.microbatch_sequences=2")  # 24 sequences: for 1, 2, 3 and 4


@dataclass(frozen=True)
class Outcome:
    """One run, killed and resumed."""

    first: str
    second: str
    victim: str
    killed_at: int
    resumed_from: int
    difference: float  # the largest relative one, of losses and gradient norms
    fault: str  # what is wrong with it; empty where nothing is


def main() -> int:
    """Print one row a kill, and how many runs came out right; exit 1 where one did not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of layouts, victims and moments")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        data = write_dataset(Path(folder) / "data", random_documents(300, seed=2))
        words = (*BATCH, f"train.steps={options.steps}", "checkpoint.every=4")
        done = run(train_command(data, Path(folder) / "alone", *words))
        if done.returncode:
            sys.exit(done.stderr)
        alone = read_rows(only_run(Path(folder) / "alone"))
        print(f"{'killed':<24}{'victim':<10}{'at':>4}{'from':>6}  {'resumed':<24}{'difference':>12}")
        outcomes = []
        for number in range(options.kills):
            outcomes.append(one_kill(draw, data, Path(folder) / str(number), words, alone))
            print(line(outcomes[-1]), flush=True)
    right = sum(not outcome.fault for outcome in outcomes)
    print(f"{right} of {options.kills} are the run that nobody disturbed")
    return int(right < options.kills)


def one_kill(
    draw: random.Random, data: Path, runs: Path, words: tuple[str, ...], alone: list[dict[str, Any]]
) -> Outcome:
    """Start in one layout, kill at a random moment, resume in another, compare with `alone`."""
    first, second = draw.sample(sorted(LAYOUTS), 2)
    while first == "one rank":  # that is the easy one to kill
        first, second = draw.sample(sorted(LAYOUTS), 2)
    asynchronous = draw.choice(("true", "false"))
    more = (*words, f"checkpoint.asynchronous={asynchronous}")
    process = start(train_command(data, runs, *more, *LAYOUTS[first]))
    at, delay = draw.randint(1, len(alone) * 3 // 4), draw.uniform(0, 0.2)
    wait_for_step(runs, at, process)
    time.sleep(delay)
    victim = draw.choice(("launcher", "rank"))
    killed_at = kill_run(draw, process, victim, only_run(runs))
    folder = only_run(runs)
    done = run(train_command(data, runs, *more, *LAYOUTS[second], f"resume={folder}"))
    resumed_from = [event["step"] for event in read_events(folder) if event["event"] in ("start", "resume")][
        -1
    ]
    fault, difference = compare(read_rows(folder), alone)
    if done.returncode:
        fault = (done.stderr.strip().splitlines() or ["failed without a word"])[-1]
    return Outcome(first, second, victim, killed_at, resumed_from, difference, fault)


def kill_run(draw: random.Random, process: subprocess.Popen[str], victim: str, folder: Path) -> int:
    """Kill the launcher, or one of its ranks and with it the run; how far the run had come by then."""
    ranks = [pid for pid in descendants(process.pid) if is_rank(pid)]
    killed_at = len(read_rows(folder))
    if victim == "rank" and ranks:
        os.kill(draw.choice(ranks), signal.SIGKILL)
        process.communicate(timeout=60)
    else:
        kill(process)
        process.communicate()
    return killed_at


def is_rank(pid: int) -> bool:
    """Whether a process below the launcher trains: it leads a session, the servers that fork it do not."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def compare(rows: list[dict[str, Any]], alone: list[dict[str, Any]]) -> tuple[str, float]:
    """What is wrong with `rows`, if anything, and the largest relative difference from `alone`."""
    steps = [row["step"] for row in rows]
    if steps != [row["step"] for row in alone]:
        return f"its steps are {steps}", float("nan")
    pairs = list(zip(rows, alone, strict=True))
    for name in ("tokens", "flops", "lr"):
        if wrong := [row["step"] for row, other in pairs if row[name] != other[name]]:
            return f"its {name} differ from step {wrong[0]} on", float("nan")
    difference = max(
        abs(row[name] - other[name]) / abs(other[name])
        for row, other in pairs
        for name in ("loss", "grad_norm")
    )
    return "" if difference <= TOLERANCE else "its losses are others", difference


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, without the lines that a kill has torn."""
    events = []
    for line_ in (folder / "events.jsonl").read_text().splitlines():
        try:
            events.append(json.loads(line_))
        except ValueError:
            continue
    return events


def line(outcome: Outcome) -> str:
    """One row of the table."""
    cells = f"{outcome.first:<24}{outcome.victim:<10}{outcome.killed_at:>4}{outcome.resumed_from:>6}"
    return f"{cells}  {outcome.second:<24}{outcome.difference:>12.1e}  {outcome.fault}".rstrip()


if __name__ == "__main__":
    sys.exit(main())

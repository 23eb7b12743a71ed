"""Steps that are not taken: skipped on all ranks alike, written down, and the same after a resume."""

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from experiments import tiny
from helpers import random_documents, write_dataset
from programs import read_rows, reproducible
from runs_here import events_of, train_here

from isoflop.checkpoint.marker import complete_checkpoints, read_progress, step_of
from isoflop.config.base import UserError
from isoflop.config.schema import RunConfig
from isoflop.dist.spawn import spawn_ranks
from isoflop.engine.native import NativeEngine
from isoflop.monitor.folder import RunFolder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=2))


def with_nan_at(first: int, last: int) -> type[NativeEngine]:
    """An engine whose weights are no numbers while it computes the steps `first` … `last`, 0-based."""

    class Poisoned(NativeEngine):
        calls = 0

        def train_step(self, *arguments: Any) -> Any:
            sick = first <= self.calls <= last
            self.calls += 1
            return poisoned(self, lambda: super(Poisoned, self).train_step(*arguments), sick)

    return Poisoned


def poisoned(engine: Any, step: Callable[[], Any], sick: bool) -> Any:
    """`step()` with nan in this rank's weights, which are then as before, unless the step was taken."""
    weights = list(engine.state()["model"].values())
    before = [weight.clone() for weight in weights]
    if sick:
        for weight in weights:
            weight.fill_(math.nan)
    result = step()
    if sick:
        assert not result.applied
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)
    return result


def test_a_step_that_is_no_number_is_skipped_and_written_down(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 5 and 6: rows with null, events with the cause, a checkpoint put off until weights are sound."""
    monkeypatch.setattr("isoflop.engine.run.NativeEngine", with_nan_at(4, 5))
    folder = train_here(data, tmp_path, "train.steps=9", "checkpoint.every=3", "checkpoint.keep=9")
    rows = read_rows(folder)
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert [row["step"] for row in rows if row.get("skipped")] == [5, 6]
    assert [row["step"] for row in rows if row["loss"] is None and row["grad_norm"] is None] == [5, 6]
    assert all(row["tokens"] > before["tokens"] for before, row in pairwise(rows))
    skips = events_of(folder, "skip")
    assert [(skip["step"], skip["in_row"], skip["cause"]) for skip in skips] == [
        (5, 1, "loss is nan"),
        (6, 2, "loss is nan"),
    ]
    assert [skip["loss"] for skip in skips] == [None, None]
    saved = [step_of(checkpoint) for checkpoint in complete_checkpoints(folder / "checkpoints")]
    assert saved == [3, 7, 9]
    assert math.isnan(RunFolder(folder).read_metrics()[4]["loss"])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final_loss"] == rows[-1]["loss"]


def test_too_many_in_a_row_stop_the_run_before_it_spoils_its_checkpoint(data: Path, tmp_path: Path) -> None:
    """A learning rate that blows the weights up: the update was one of numbers, only the next steps tell."""
    words = ("optimizer.lr=1e30", "schedule=constant", "schedule.warmup_tokens=0", "checkpoint.every=1")
    with pytest.raises(UserError, match=r"is nan at step \d+, 3 skipped in a row") as caught:
        train_here(data, tmp_path, "train.steps=30", "train.guard.max_skips_in_row=2", *words)
    assert "train.guard.max_skips_in_row=2" in str(caught.value)
    [folder] = tmp_path.iterdir()
    skips = events_of(folder, "skip")
    assert [skip["in_row"] for skip in skips] == [1, 2, 3]
    last = complete_checkpoints(folder / "checkpoints")[-1]
    assert step_of(last) == skips[0]["step"] - 1
    [end] = events_of(folder, "fail")
    assert "skipped in a row" in end["cause"]


def test_the_rule_for_spikes_survives_a_resume(data: Path, tmp_path: Path) -> None:
    """A rule so tight that it strikes often: the run cut off after step 8 replays the very same verdicts."""
    rule = ("train.guard.spike_sigmas=1", "train.guard.spike_window=5", "train.guard.max_skips_in_row=30")
    words = (*rule, "train.steps=24", "checkpoint.every=4", "checkpoint.keep=9", "optimizer.lr=1e-5")
    whole = train_here(data, tmp_path / "whole", *words)
    other = train_here(data, tmp_path / "other", *words)
    for checkpoint in complete_checkpoints(other / "checkpoints"):
        if step_of(checkpoint) > 12:
            shutil.rmtree(checkpoint)
    (other / "summary.json").unlink()
    assert len(read_progress(complete_checkpoints(other / "checkpoints")[-1]).window) == 5
    train_here(data, tmp_path / "other", *words)
    assert reproducible(other) == reproducible(whole)
    skipped = [row["step"] for row in read_rows(whole) if row.get("skipped")]
    assert min(skipped) > 5
    assert max(skipped) > 13
    assert all("above" in skip["cause"] and skip["loss"] > 0 for skip in events_of(whole, "skip"))


def test_ranks_skip_together(data: Path, tmp_path: Path) -> None:
    """One of two ranks has nan in step 3: both skip it, and are then the ranks that were told to leave it."""
    assert set(spawn_ranks(_rank, (data, tmp_path), 2, tmp_path, 1, "isoflop.engine.worker").values()) == {0}
    sick, told = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("sick", "told"))
    assert sick["applied"] == told["applied"] == [[step != 3 for step in range(6)]] * 2
    assert sick["loss"] == told["loss"]
    assert sick["causes"] == [["loss is nan"]] * 2


def _rank(rank: int, n_ranks: int, data: Path, folder: Path) -> int:
    import torch.distributed as dist

    from isoflop.dist.env import Ranks
    from isoflop.dist.mesh import process_group

    torch.set_num_threads(1)
    config = tiny(data, "parallel.data=2")
    for name in ("sick", "told"):
        store = dist.FileStore(str(folder / f"store-{name}"), n_ranks)
        with process_group(Ranks(rank, n_ranks), torch.device("cpu"), config.cluster, store):
            found: list[Any] = [None] * n_ranks
            steps = _six_steps(config, sick=name == "sick" and rank == 1, told=name == "told")
            dist.all_gather_object(found, steps)
        if rank == 0:
            columns = [list(column) for column in zip(*found, strict=True)]
            (folder / f"{name}.json").write_text(
                json.dumps(dict(zip(("applied", "loss", "causes"), columns, strict=True)))
            )
    return 0


def _six_steps(config: RunConfig, sick: bool, told: bool) -> tuple[list[bool], list[float | None], list[str]]:
    """Whether each was applied, losses but that of step 3, causes; step 3 is `sick`, or `told` to be left."""
    from isoflop.checkpoint.marker import Progress
    from isoflop.data.loader import build_batches
    from isoflop.dist.mesh import build_mesh
    from isoflop.train.guard import Guard

    batches = build_batches(config.data, config.train, 0)
    engine = NativeEngine(config, build_mesh(config.parallel, torch.device("cpu")), torch.device("cpu"))
    guard, results, causes = Guard(config.train.guard, Progress()), [], []

    def accept(left: bool, loss: float, grad_norm: float) -> bool:
        return guard.accept(loss, grad_norm) and not left

    for step in range(6):
        batch, n_targets = batches.step(step, engine.data_rank, 2), batches.n_targets(step)
        take = partial(engine.train_step, batch, n_targets, 0.003, partial(accept, told and step == 3))
        results.append(poisoned(engine, take, sick=sick and step == 3))
        causes += [guard.cause] if guard.cause else []
    losses = [None if step == 3 else result.loss for step, result in enumerate(results)]
    return [result.applied for result in results], losses, causes

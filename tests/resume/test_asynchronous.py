"""A checkpoint that is written while training goes on is the one that would have been written at once."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from experiments import tiny
from helpers import random_documents, write_dataset
from programs import (
    events,
    kill,
    only_run,
    read_rows,
    reproducible,
    start,
    train_command,
    wait_for_step,
)
from runs_here import events_of, train_here

from isoflop.checkpoint.marker import complete_checkpoints, read_marker
from isoflop.config.schema import RunConfig
from isoflop.dist.spawn import spawn_ranks

LAYOUTS = {
    "sharded": ("parallel.data=4",),
    "tensor": ("parallel.tensor=2", "parallel.data=2", "parallel.shard=zero2"),
    "pipeline": ("parallel.pipeline=2", "parallel.data=2", "parallel.shard=none"),
}
RUN = ("train.steps=30", "checkpoint.every=2", "checkpoint.asynchronous=true")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=2))


@pytest.fixture(scope="module")
def saved(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each layout's state after two steps, saved at once and asynchronously."""
    folder = tmp_path_factory.mktemp("saved")
    codes = spawn_ranks(_rank, (data, folder), 4, folder, 1, "isoflop.engine.worker")
    assert set(codes.values()) == {0}, codes
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bytes_in_every_layout(saved: Path, layout: str) -> None:
    """Two more steps are taken while it is written; every file of tensors is the same, and is all there."""
    at_once, later = (
        read_marker(saved / layout / how / "step-00000002")["files"] for how in ("at_once", "later")
    )
    tensors = sorted(name for name in at_once if name.endswith(".distcp"))
    assert tensors == sorted(name for name in later if name.endswith(".distcp"))
    assert len(tensors) == 4
    assert [at_once[name] for name in tensors] == [later[name] for name in tensors]
    found = json.loads((saved / layout / "found.json").read_text())
    assert found == {"step": 2, "equal": True, "moved": True}


def test_a_run_is_the_same_run(data: Path, tmp_path: Path) -> None:
    """Metrics bitwise; each checkpoint's cost is in its event, what was waited for is a part of it."""
    words = ("train.steps=12", "checkpoint.every=2", "checkpoint.keep=9")
    at_once = train_here(data, tmp_path / "at_once", *words)
    later = train_here(data, tmp_path / "later", *words, "checkpoint.asynchronous=true")
    assert reproducible(later) == reproducible(at_once)
    for folder, asynchronous in ((at_once, False), (later, True)):
        saves = events_of(folder, "checkpoint")
        assert [save["step"] for save in saves] == [2, 4, 6, 8, 10, 12]
        assert all(0 < save["blocked_seconds"] <= save["seconds"] + 1e-5 for save in saves)
        assert {save["asynchronous"] for save in saves} == {asynchronous}
        losses = [row["loss"] for row in read_rows(folder)]
        means = [sum(losses[step - 2 : step]) / 2 for step in (2, 4, 6, 8, 10, 12)]
        assert [save["loss"] for save in saves] == pytest.approx(means, rel=1e-12)
        best = json.loads((folder / "summary.json").read_text())
        assert best["best_checkpoint_loss"] == pytest.approx(min(means))
        assert best["best_checkpoint"] == f"step-{2 * means.index(min(means)) + 2:08d}"


def test_killed_while_it_is_written(data: Path, tmp_path: Path) -> None:
    """SIGKILL, at a moment when saves overlap steps: what is complete is loaded, the rest was never there."""
    whole = train_here(data, tmp_path / "whole", *RUN)
    first = start(train_command(data, tmp_path / "killed", *RUN))
    wait_for_step(tmp_path / "killed", 9, first)
    kill(first)
    folder = only_run(tmp_path / "killed")
    assert train_here(data, tmp_path / "killed", *RUN) == folder
    assert reproducible(folder) == reproducible(whole)
    assert events(folder).count("resume") == 1


def test_asked_twice_to_stop(data: Path, tmp_path: Path) -> None:
    """SIGTERM and SIGUSR2 while the last checkpoint is written: 75, and it is whole."""
    command = train_command(data, tmp_path, "train.steps=10000", "parallel.data=2", *RUN[1:])
    process = start(command)
    wait_for_step(tmp_path, 6, process)
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
        os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == os.EX_TEMPFAIL, output
    folder = only_run(tmp_path)
    rows = read_rows(folder)
    last = complete_checkpoints(folder / "checkpoints")[-1]
    assert last.name == f"step-{len(rows):08d}"
    assert events(folder)[-2:] == ["checkpoint", "preempt"]
    assert "Traceback" not in output


def _rank(rank: int, n_ranks: int, data: Path, folder: Path) -> int:
    import torch
    import torch.distributed as dist

    from isoflop.dist.env import Ranks
    from isoflop.dist.mesh import process_group

    torch.set_num_threads(1)
    for name, layout in LAYOUTS.items():
        config, here = tiny(data, *layout), folder / name
        here.mkdir(exist_ok=True)
        store = dist.FileStore(str(here / "store"), n_ranks)
        with process_group(Ranks(rank, n_ranks), torch.device("cpu"), config.cluster, store):
            found = _save_both_ways(config, here)
        if rank == 0:
            (here / "found.json").write_text(json.dumps(found))
    return 0


def _save_both_ways(config: RunConfig, here: Path) -> dict[str, Any]:
    """Two steps, two saves of them; two more steps while the second is written; then load that one."""
    import torch
    import torch.distributed as dist

    from isoflop.checkpoint.load import load
    from isoflop.checkpoint.marker import Progress
    from isoflop.checkpoint.saver import Saved, Saver, staged
    from isoflop.config.schema import CheckpointConfig
    from isoflop.data.loader import build_batches
    from isoflop.dist.mesh import build_mesh
    from isoflop.engine.native import NativeEngine

    engine = NativeEngine(config, build_mesh(config.parallel, torch.device("cpu")), torch.device("cpu"))
    batches = build_batches(config.data, config.train, 0)

    def train(first: int, last: int) -> None:
        for step in range(first, last):
            batch = batches.step(step, engine.data_rank, config.parallel.data)
            engine.train_step(batch, batches.n_targets(step), 0.01, lambda loss, grad_norm: True)

    done: list[Saved] = []
    train(0, 2)
    expected = local_tensors(staged(engine.state()))
    Saver(CheckpointConfig(), here / "at_once", done.append).save(engine.state(), Progress(2))
    with Saver(CheckpointConfig(asynchronous=True), here / "later", done.append) as later:
        later.save(engine.state(), Progress(2))
        train(2, 4)
        moved = not all(map(torch.equal, local_tensors(engine.state()), expected))
    step = load(engine.state(), here / "later" / "step-00000002").step
    equal = all(map(torch.equal, local_tensors(engine.state()), expected))
    everywhere: list[bool] = [False] * dist.get_world_size()
    dist.all_gather_object(everywhere, equal and len(done) == 2)
    return {"step": step, "equal": all(everywhere), "moved": moved}


def local_tensors(state: Any) -> list[Any]:
    """What this rank holds of each tensor, in the order of their names."""
    from torch.distributed.tensor import DTensor

    if not isinstance(state, dict):
        return [state.to_local() if isinstance(state, DTensor) else state]
    return [tensor for name in sorted(state) for tensor in local_tensors(state[name])]

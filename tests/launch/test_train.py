"""The training program as a person uses it: what it prints, refuses and leaves behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import random_documents, write_dataset
from programs import events, only_run, read_rows, reproducible, run, train_command

from isoflop.config.load import read_run_config
from isoflop.data.loader import IGNORE, build_batches


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=3))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six steps in one process, with W&B offline."""
    runs = tmp_path_factory.mktemp("runs")
    done = run(train_command(data, runs, "train.steps=6", "monitor.wandb=auto", "name=six"))
    assert done.returncode == 0, done.stderr
    return only_run(runs)


def test_run_folder_is_the_contract(finished: Path) -> None:
    """Everything that design promises is in the run folder, with its keys and plausible values."""
    config, rows = read_run_config(finished / "config.yaml"), read_rows(finished)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    keys = {"step", "tokens", "flops", "loss", "grad_norm", "lr", "tokens_per_second"}
    assert all(keys | {"step_seconds", "mfu", "memory_bytes"} == set(row) for row in rows)
    batches = build_batches(config.data, config.train, config.seed)
    n_tokens = sum(int((batches.step(step).targets != IGNORE).sum()) for step in range(6))
    assert rows[-1]["tokens"] == n_tokens
    assert 0 < rows[-1]["mfu"] < 1
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["final_loss"] == rows[-1]["loss"]
    assert summary["best_loss"] == min(row["loss"] for row in rows)
    assert (summary["tokens"], summary["restarts"]) == (n_tokens, 0)
    provenance = json.loads((finished / "provenance.json").read_text())
    assert finished.name == f"six-{provenance['run_id']}"
    assert provenance["data"][0]["manifest"]["total_documents"] == 300
    assert provenance["versions"]["torch"]
    assert "train.steps=6" in (finished / "overrides.txt").read_text().split()
    assert events(finished) == ["start", "checkpoint", "finish"]
    assert (finished / "wandb").is_dir()


def test_torchrun_does_the_same(data: Path, tmp_path: Path) -> None:
    """`torchrun launch/train.py` is bitwise the run whose ranks launch/train.py starts itself."""
    overrides = ("train.steps=4", "parallel.data=2")
    spawned, launched = tmp_path / "spawned", tmp_path / "launched"
    assert run(train_command(data, spawned, *overrides)).returncode == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run([*torchrun, *train_command(data, launched, *overrides)[1:]])
    assert done.returncode == 0, done.stderr
    assert only_run(launched).name == only_run(spawned).name
    assert reproducible(only_run(launched)) == reproducible(only_run(spawned))


def test_torchrun_with_other_ranks_is_refused(data: Path, tmp_path: Path) -> None:
    """The degrees' product and the launcher's ranks must agree, and the fault says both."""
    launched = {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    done = run(train_command(data, tmp_path, "parallel.data=2"), **launched)
    assert done.returncode == 2
    assert "data 2 × context 1 × tensor 1 × pipeline 1 needs 2 ranks, torchrun started 4" in done.stderr
    assert not list(tmp_path.iterdir())


def test_sweep_runs_every_point(data: Path, tmp_path: Path) -> None:
    """`-m` runs the grid, each point in its own folder, and a lower lr gives another curve."""
    done = run(
        train_command(data, tmp_path, "-m", "train.steps=4", "optimizer.lr=1e-3,1e-4", "optimizer=adamw,lion")
    )
    assert done.returncode == 0, done.stderr
    folders = [path for path in tmp_path.iterdir() if (path / "summary.json").exists()]
    assert len(folders) == 4
    assert len({read_rows(folder)[-1]["loss"] for folder in folders}) == 4


def test_kernel_without_a_backward_here_is_refused(data: Path, tmp_path: Path) -> None:
    """FlexAttention cannot train on a CPU: before any process starts the program says what does."""
    done = run(train_command(data, tmp_path, "train.steps=2", "model.attention=flex", "engine.device=cpu"))
    assert done.returncode == 2
    assert "model.attention=flex  has no backward on cpu; auto or sdpa does" in done.stderr
    assert not list(tmp_path.iterdir())


def damage(kind: str, root: Path) -> None:
    shard = next(root.glob("*.ds"))
    if kind == "missing shard":
        shard.unlink()
    elif kind == "truncated shard":
        os.truncate(shard, shard.stat().st_size - 2)
    elif kind == "changed shard":
        content = bytearray(shard.read_bytes())
        content[100] ^= 1
        shard.write_bytes(content)
    elif kind == "moved document":
        index = shard.with_name(shard.name + ".index")
        ends = bytearray(index.read_bytes())
        ends[0] ^= 1  # the first document is longer or shorter by one token
        index.write_bytes(ends)
    elif kind == "other tokenizer":
        (root / "tokenizer.json").write_text("{}")
    elif kind == "no manifest":
        (root / "manifest.json").unlink()
    elif kind == "broken manifest":
        (root / "manifest.json").write_text('{"format_version": 1}')
    elif kind == "no folder":
        shutil.rmtree(root)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("missing shard", ".ds"),
        ("truncated shard", ".ds"),
        ("changed shard", ".ds"),
        ("moved document", ".ds.index"),
        ("other tokenizer", "tokenizer.json"),
        ("no manifest", "manifest.json"),
        ("broken manifest", "manifest.json"),
        ("no folder", "does not exist"),
    ],
)
def test_damaged_data_is_named(data: Path, tmp_path: Path, kind: str, named: str) -> None:
    """Damaged data ends the run before its first step: one cause, the file, exit 1, no traceback."""
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    damage(kind, broken)
    done = run(train_command(broken, tmp_path / "runs", "train.steps=2"))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert named in done.stderr
    assert not list((tmp_path / "runs").glob("*/metrics.jsonl"))


def test_checkpoint_without_marker_is_not_loaded(data: Path, finished: Path, tmp_path: Path) -> None:
    """A checkpoint that lost its marker is absent: the run starts from the one before, or from nothing."""
    runs = tmp_path / "runs"
    folder = runs / finished.name
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / "step-00000006" / "COMPLETE").unlink()
    done = run(train_command(data, runs, "train.steps=6", "name=six"))
    assert done.returncode == 0, done.stderr
    assert reproducible(folder) == reproducible(finished)
    assert events(folder)[-3:] == ["start", "checkpoint", "finish"]


def test_damaged_checkpoint_is_named(data: Path, tmp_path: Path) -> None:
    """A complete checkpoint with a truncated file ends the run with its name, and is left as it is."""
    command = train_command(data, tmp_path, "train.steps=6", "checkpoint.every=3")
    assert run(command).returncode == 0
    folder = only_run(tmp_path)
    (folder / "summary.json").unlink()
    file = next((folder / "checkpoints" / "step-00000006").glob("*.distcp"))
    os.truncate(file, 100)
    done = run(command)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "step-00000006" in done.stderr
    assert "Traceback" not in done.stderr
    assert file.exists()
    shutil.rmtree(file.parent)
    assert run(command).returncode == 0, "the checkpoint before it serves"
    assert "resume" in events(folder)


def test_full_disk_leaves_no_half_checkpoint(data: Path, tmp_path: Path) -> None:
    """A disk that fills up while saving: one cause, exit 1, and only complete checkpoints are left."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small tmpfs: {mounted.stderr.decode().strip()}")
    try:
        command = train_command(data, small, "train.steps=9", "checkpoint.every=3", "checkpoint.keep=9")
        done = run(command)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "No space left" in done.stderr or "no space left" in done.stderr
        assert "Traceback" not in done.stderr
        left = list(only_run(small).glob("checkpoints/*"))
        assert all((folder / "COMPLETE").exists() for folder in left)
        assert left, "the disk was too small for the first checkpoint"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_two_programs_do_not_share_a_folder(data: Path, finished: Path, tmp_path: Path) -> None:
    """A second program in the same run folder is refused while the first holds it."""
    from isoflop.monitor.lock import locked

    runs = tmp_path / "runs"
    shutil.copytree(finished, runs / finished.name)
    (runs / finished.name / "summary.json").unlink()
    with locked(runs / finished.name):
        done = run(train_command(data, runs, "train.steps=6", "name=six"))
    assert done.returncode == 1
    assert f"process {os.getpid()}" in done.stderr


def test_diverging_run_stops_with_its_cause(data: Path, tmp_path: Path) -> None:
    """A loss that is no number ends the run as failed, naming the step; events say why."""
    done = run(
        train_command(data, tmp_path, "train.steps=50", "optimizer.lr=1e30", "train.clip_grad_norm=null")
    )
    assert done.returncode == 1
    assert "at step" in done.stderr
    assert "optimizer.lr" in done.stderr
    folder = only_run(tmp_path)
    assert events(folder)[-1] == "fail"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["run_id"]) == ("failed", folder.name.rpartition("-")[2])
    assert summary["step"] == len(read_rows(folder))
    assert summary["n_params"] > 0


def test_rank_that_dies_is_named(data: Path, tmp_path: Path) -> None:
    """One rank killed from outside: the run ends, names that rank, and leaves no process behind."""
    import signal
    import time

    from programs import descendants, start, wait_for_step

    process = start(train_command(data, tmp_path, "train.steps=100000", "parallel.data=2"))
    wait_for_step(tmp_path, 2, process)
    ranks = [pid for pid in descendants(process.pid) if "rank" in cmdline(pid) or is_rank(pid)]
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["status"] == "running"
    os.kill(max(ranks), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "killed by signal 9" in output
    time.sleep(0.2)
    assert events(only_run(tmp_path))[-1] == "fail"


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def is_rank(pid: int) -> bool:
    """A rank leads a session of its own."""
    return os.getsid(pid) == pid


def test_overfit_and_limit(data: Path, tmp_path: Path) -> None:
    """debug=limit is five steps; debug=overfit drives the loss of its few sequences far down."""
    done = run(train_command(data, tmp_path / "limit", "debug=limit"))
    assert done.returncode == 0, done.stderr
    assert len(read_rows(only_run(tmp_path / "limit"))) == 5
    small = ("train.global_batch_tokens=64", "train.microbatch_sequences=2", "train.steps=150")
    done = run(train_command(data, tmp_path / "overfit", "debug=overfit", *small, "train.clip_grad_norm=1"))
    assert done.returncode == 0, done.stderr
    rows = read_rows(only_run(tmp_path / "overfit"))
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


def test_profiler_writes_a_trace(data: Path, tmp_path: Path) -> None:
    """debug=profiler leaves a trace of the steps that it names."""
    done = run(train_command(data, tmp_path, "debug=profiler"))
    assert done.returncode == 0, done.stderr
    trace = json.loads((only_run(tmp_path) / "profile" / "trace.json").read_text())
    steps = {event["name"] for event in trace["traceEvents"] if event["name"].startswith("ProfilerStep")}
    assert len(steps) == 3

"""A resume is right when nobody can tell from the numbers that there was one."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from helpers import random_documents, write_dataset
from programs import events, kill, only_run, read_rows, reproducible, run, start, train_command, wait_for_step

from isoflop.config.load import read_run_config

RUN = ("train.steps=30", "checkpoint.every=4")
LAYOUTS = {"one rank": (), "two ranks": ("parallel.data=2",)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=2))


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run folder of each layout's run that nobody disturbed."""
    folders = {}
    for name, layout in LAYOUTS.items():
        runs = tmp_path_factory.mktemp("uninterrupted")
        done = run(train_command(data, runs, *RUN, *layout))
        assert done.returncode == 0, done.stderr
        folders[name] = only_run(runs)
    return folders


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_at_any_step_is_the_run_that_never_stopped(
    data: Path, uninterrupted: dict[str, Path], tmp_path: Path, layout: str
) -> None:
    """SIGKILL at a random step, the same command again: metrics.jsonl is bitwise the uninterrupted run's."""
    command = train_command(data, tmp_path, *RUN, *LAYOUTS[layout])
    step = random.randint(5, 25)
    first = start(command)
    wait_for_step(tmp_path, step, first)
    kill(first)
    again = run(command)
    assert again.returncode == 0, again.stderr
    folder = only_run(tmp_path)
    assert folder.name == uninterrupted[layout].name
    assert reproducible(folder) == reproducible(uninterrupted[layout]), f"killed at step {step}"
    assert len(reproducible(folder)) == 30
    assert events(folder).count("resume") == 1
    assert events(folder)[-1] == "finish"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["restarts"]) == ("finished", 1)
    assert 0 < summary["wall_seconds"] < 300


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_asked_to_stop_saves_and_goes_on(
    data: Path, uninterrupted: dict[str, Path], tmp_path: Path, number: signal.Signals, name: str
) -> None:
    """SIGTERM or Ctrl-C: a checkpoint, exit 75, one line; the same command then ends the same run."""
    command = train_command(data, tmp_path, "train.steps=30", "checkpoint.every=null", *LAYOUTS["two ranks"])
    first = start(command)
    wait_for_step(tmp_path, 6, first)
    os.kill(first.pid, number)
    output, _ = first.communicate(timeout=60)
    folder = only_run(tmp_path)
    stopped_at = len(read_rows(folder))
    assert first.returncode == os.EX_TEMPFAIL, output
    assert "Traceback" not in output
    assert "run the same command again" in output
    assert 6 <= stopped_at < 30
    assert (folder / "checkpoints" / f"step-{stopped_at:08d}" / "COMPLETE").exists()
    assert events(folder)[-1] == "preempt"
    assert run(command).returncode == 0
    assert reproducible(folder) == reproducible(uninterrupted["two ranks"])


def test_asked_to_stop_while_starting(data: Path, tmp_path: Path) -> None:
    """SIGTERM while the ranks still start is not lost: the run leaves after its first step, with 75."""
    process = start(train_command(data, tmp_path, "train.steps=100000", *LAYOUTS["two ranks"]))
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/provenance.json")):  # written just before the ranks are started
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == os.EX_TEMPFAIL, output
    assert len(read_rows(only_run(tmp_path))) == 1


def test_other_layout_continues_in_the_same_folder(
    data: Path, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    """`resume=<run folder>` with another layout keeps the folder and the id, and the losses."""
    command = train_command(data, tmp_path, *RUN)
    first = start(command)
    wait_for_step(tmp_path, 6, first)
    kill(first)
    folder = only_run(tmp_path)
    done = run(train_command(data, tmp_path, *RUN, f"resume={folder}", "parallel.tensor=2"))
    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path) == folder
    assert read_run_config(folder / "config-2.yaml").parallel.tensor == 2
    rows, alone = reproducible(folder), reproducible(uninterrupted["one rank"])
    assert [row["step"] for row in rows] == [row["step"] for row in alone]
    assert max(abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(rows, alone, strict=True)) < 1e-5


def test_resume_refuses_another_experiment(
    data: Path, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    """`resume=` a run of another learning rate names the key and what it is there; nothing is changed."""
    folder = uninterrupted["one rank"]
    before = sorted(path.name for path in folder.iterdir())
    done = run(train_command(data, tmp_path, *RUN, f"resume={folder}", "optimizer.lr=0.5"))
    assert done.returncode == 2
    assert "optimizer.lr=0.5" in done.stderr
    assert "0.003" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


def test_finished_run_is_not_run_again(data: Path, uninterrupted: dict[str, Path]) -> None:
    """The same command on a finished run says so, quickly, and changes nothing."""
    folder = uninterrupted["one rank"]
    before = (folder / "metrics.jsonl").read_bytes()
    done = run(train_command(data, folder.parent, *RUN))
    assert done.returncode == 0
    assert str(folder) in done.stdout
    assert (folder / "metrics.jsonl").read_bytes() == before

"""The programs, run as a person runs them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiments import TINY

ROOT = Path(__file__).parents[1]


def train_command(data: Path, runs: Path, *overrides: str) -> list[str]:
    """`python launch/train.py` on the tiny experiment."""
    here = [f"data.path={data}", f"runs_dir={runs}", "cluster.threads_per_rank=1"]
    return [sys.executable, str(ROOT / "launch" / "train.py"), *TINY, *here, *overrides]


def environment(**more: str) -> dict[str, str]:
    """This process's, one thread, without what a launcher may have left in it."""
    left = {
        key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "WANDB_API_KEY")
    }
    return {**left, "OMP_NUM_THREADS": "1", **more}


def run(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Run to the end; its output as text."""
    return subprocess.run(command, capture_output=True, text=True, env=environment(**env), timeout=600)


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start in a process group of its own, as a shell does."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        start_new_session=True,
    )


def only_run(runs: Path) -> Path:
    """The one run folder in `runs`."""
    folders = [path for path in runs.iterdir() if (path / "config.yaml").exists()]
    assert len(folders) == 1, folders
    return folders[0]


def wait_for_step(runs: Path, step: int, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until `step` is in the metrics of the one run in `runs`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        files = list(runs.glob("*/metrics.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= step:
            return
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.01)
    raise AssertionError(f"step {step} did not come in {seconds} s")


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL the launcher, and wait until no process of its ranks is left."""
    children = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in children):
        assert time.monotonic() < deadline, "ranks outlived their launcher"
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_rows(run_folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def reproducible(run_folder: Path) -> list[dict[str, Any]]:
    """The rows without the measured times and memory."""
    from isoflop.monitor.metrics import MEASURED

    return [
        {key: value for key, value in row.items() if key not in MEASURED} for row in read_rows(run_folder)
    ]


def events(run_folder: Path) -> list[str]:
    """The kinds of events, in order."""
    lines = (run_folder / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]

"""A run that hangs ends by itself, and says which rank the others wait for."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from experiments import tiny
from helpers import random_documents, write_dataset
from programs import alive, descendants, events, only_run, read_rows, start, train_command, wait_for_step

from isoflop.data.manifest import read_manifest
from isoflop.dist.spawn import spawn_ranks
from isoflop.engine.launch import freeze
from isoflop.monitor.failures import first_failure
from isoflop.monitor.folder import RunFolder

LIMIT = "cluster.timeout_seconds=4"
ENDLESS = "train.steps=100000"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=3))


def pid_of(rank: int, launcher: int) -> int:
    """The process whose output is the log of `rank`."""
    for pid in descendants(launcher):
        if os.readlink(f"/proc/{pid}/fd/1").endswith(f"rank-{rank}.log"):
            return pid
    raise AssertionError(f"rank {rank} is not there")


def test_a_stopped_rank_is_named(data: Path, tmp_path: Path) -> None:
    """SIGSTOP to one of four ranks: it is named as silent, with the collective the others wait in."""
    process = start(train_command(data, tmp_path, ENDLESS, LIMIT, "parallel.data=2", "parallel.tensor=2"))
    wait_for_step(tmp_path, 2, process)
    ranks = descendants(process.pid)
    os.kill(pid_of(2, process.pid), signal.SIGSTOP)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    cause = next(line for line in output.splitlines() if "no progress" in line)
    assert cause.startswith("rank 2: no progress for 4 s: ")
    assert "rank 2 did not answer" in cause
    assert " wait in " in cause or " waits in " in cause
    assert " #" in cause.partition(" in ")[2], "the collective has its number"
    assert "Traceback" not in output
    folder = only_run(tmp_path)
    assert events(folder)[-1] == "fail"
    (*_, event) = (json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines())
    assert (event["rank"], event["cause"]) == (2, cause.removeprefix("rank 2: "))
    answered = {file.name for file in (folder / "logs").glob("flight-rank-*.json")}
    assert answered == {f"flight-rank-{rank}.json" for rank in (0, 1, 3)}
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in ranks):
        assert time.monotonic() < deadline, "ranks outlived the run"
        time.sleep(0.1)


def test_a_run_that_is_stopped_as_a_whole_goes_on(data: Path, tmp_path: Path) -> None:
    """A suspended job has not hung: every process stopped for longer than the limit, then continued."""
    command = train_command(data, tmp_path, "train.steps=60", LIMIT, "parallel.data=2")
    process = start(command)
    wait_for_step(tmp_path, 2, process)
    ranks = descendants(process.pid)
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(6)
    for pid in ranks:
        os.kill(pid, signal.SIGCONT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert len(read_rows(only_run(tmp_path))) == 60


def stuck_rank(rank: int, n_ranks: int, stuck: int, *arguments: object) -> int:
    """A rank of a real run, whose reading of the data blocks on the rank `stuck` at the fourth step."""
    from isoflop.data.tokens import TokenDataset
    from isoflop.engine.worker import spawned_rank

    read, calls = TokenDataset.read, iter(range(10**9))

    def blocked(self: TokenDataset, start: int, stop: int) -> object:
        if rank == stuck and next(calls) >= 60:
            time.sleep(3600)
        return read(self, start, stop)

    TokenDataset.read = blocked  # type: ignore[assignment, method-assign]
    return spawned_rank(rank, n_ranks, *arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layout", "stuck", "waits"),
    [
        (("parallel.data=2",), 1, "rank 0 waits in "),
        (("parallel.pipeline=2",), 0, "rank 1 waits in a message of pipeline"),
        ((), 0, ""),
    ],
    ids=["data", "pipeline", "alone"],
)
def test_a_rank_that_reads_for_ever_is_named(
    data: Path, tmp_path: Path, layout: tuple[str, ...], stuck: int, waits: str
) -> None:
    """The others wait for a rank whose file system does not answer: its line in data/ is told."""
    config = tiny(data, ENDLESS, LIMIT, *layout)
    folder = RunFolder(tmp_path / "run").create()
    file = freeze(config, folder, "0123456789", [read_manifest(data)], [])
    arguments = (stuck, folder, file, "0123456789", tmp_path / "store", 1)
    ended = spawn_ranks(stuck_rank, arguments, config.parallel.ranks, folder.logs, 1, "isoflop.engine.worker")
    assert all(ended.values()), "no rank ends as if all were well"
    failure = first_failure(folder, ended)
    assert failure["rank"] == stuck
    assert failure["cause"].startswith(f"no progress for 4 s: {waits}")
    assert f"rank {stuck} " in failure["cause"]
    assert "in data/loader.py:" in failure["cause"] or "in data/tokens.py:" in failure["cause"]
    written = json.loads((folder.logs / f"flight-rank-{stuck}.json").read_text())
    assert any("time.sleep(3600)" in line for line in written["stack"])
    assert written["waits"] is None

"""Which rank failed first, and how its end is written down."""

import json
import os
import time
from pathlib import Path

import pytest

from isoflop.monitor import failures
from isoflop.monitor.failures import Failure, clear_failures, first_failure, record_failure, write_failure
from isoflop.monitor.folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run").create()


class Clock:
    """Time that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(failures.time, "time", lambda: self.now)


@pytest.mark.parametrize("first", range(3))
def test_the_first_note_tells_the_cause(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Not the rank that ended first, nor the lowest: the one that failed first, the rest lost their peer."""
    clock = Clock(monkeypatch)
    for rank in range(3):
        clock.now = 20.0 if rank == first else 30.0 - rank
        write_failure(folder, rank, "nan in layer 3" if rank == first else "peer closed")
    for ended in ((0, 1, 2), (2, 1, 0)):
        found = first_failure(folder, dict.fromkeys(ended, 1))
        assert found == Failure(rank=first, time=20.0, cause="nan in layer 3")


def test_a_killed_rank_is_first_where_it_ended_first(folder: RunFolder) -> None:
    """It left no note; those that lost it did. Killed without notice, it may have wanted too much memory."""
    write_failure(folder, 0, "peer closed")
    killed = first_failure(folder, {3: -9, 0: 1, 1: -9})
    assert killed["rank"] == 3
    assert "signal 9" in killed["cause"]
    assert "memory" in killed["cause"]
    crashed = first_failure(folder, {2: -11, 0: 1})
    assert (crashed["rank"], crashed["cause"]) == (2, "killed by signal 11")


def test_a_rank_killed_after_a_failure_is_an_echo(folder: RunFolder) -> None:
    """The launcher itself kills the ranks that hang once one has failed."""
    write_failure(folder, 1, "the disk is full")
    assert first_failure(folder, {1: 1, 0: -9, 2: -9})["cause"] == "the disk is full"


def test_a_rank_that_aborts_after_its_note_is_told_by_the_note(folder: RunFolder) -> None:
    """A library may abort the process on its way out; the cause is what the rank wrote."""
    write_failure(folder, 1, "loss is nan")
    assert first_failure(folder, {1: -6, 0: 1}) == first_failure(folder, {1: 1})
    assert first_failure(folder, {1: -6, 0: 1})["cause"] == "loss is nan"


@pytest.mark.parametrize("stopped", [os.EX_OK, os.EX_TEMPFAIL])
def test_a_rank_that_ended_as_asked_did_not_fail(folder: RunFolder, stopped: int) -> None:
    """However early it ended."""
    assert first_failure(folder, {0: stopped, 1: 3}) | {"time": 0} == {
        "rank": 1,
        "time": 0,
        "cause": "ended with exit code 3",
    }
    assert first_failure(folder, {0: stopped, 1: -15})["rank"] == 1


def test_earlier_attempts_are_forgotten(folder: RunFolder) -> None:
    """Only their notes are: the log of a rank stays."""
    write_failure(folder, 0, "an old cause")
    folder.log_of_rank(0).write_text("an old log")
    clear_failures(folder)
    assert first_failure(folder, {1: 2})["cause"] == "ended with exit code 2"
    assert folder.log_of_rank(0).read_text() == "an old log"


def test_the_end_is_written_down(folder: RunFolder) -> None:
    """An event with rank and cause at the last logged step, and a summary that keeps what it said before."""
    folder.metrics.write_text(
        '{"step": 1, "tokens": 10, "flops": 1.0, "loss": 5.0}\n'
        '{"step": 2, "tokens": 20, "flops": 2.0, "loss": 4.0}\n'
    )
    folder.write_summary({"name": "a", "status": "running", "restarts": 2})
    record_failure(folder, Failure(rank=3, time=0.0, cause="nan"))
    (event,) = folder.read_events()
    assert {name: event[name] for name in ("event", "step", "rank", "cause")} == {
        "event": "fail",
        "step": 2,
        "rank": 3,
        "cause": "nan",
    }
    summary = json.loads(folder.summary.read_text())
    assert (summary["name"], summary["status"], summary["step"]) == ("a", "failed", 2)
    assert (summary["final_loss"], summary["best_loss"], summary["tokens"]) == (4.0, 4.0, 20)


def test_a_run_that_never_began_fails_at_step_0(folder: RunFolder) -> None:
    record_failure(folder, Failure(rank=0, time=0.0, cause="no data"))
    assert folder.read_events()[0]["step"] == 0
    summary = json.loads(folder.summary.read_text())
    assert (summary["status"], summary["step"], summary["final_loss"]) == ("failed", 0, None)


def test_a_full_disk_does_not_hide_the_cause(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A note that cannot be written is said; a launcher that cannot write the end down still tells it."""
    note = folder.logs / f"rank-1.failure.json.{os.getpid()}.partial"
    note.symlink_to("/dev/full")
    write_failure(folder, 1, "no space left")
    assert capsys.readouterr().err == "rank 1: no space left\n"
    assert not list(folder.logs.glob("*.failure.json"))
    folder.events.mkdir()  # nothing can be written there
    record_failure(folder, Failure(rank=1, time=0.0, cause="no space left"))


def test_of_several_ranks_that_record_one_end_the_first_is_heard(folder: RunFolder) -> None:
    """Ranks of a launcher each write down how the attempt ended; the next attempt's end is another one."""
    folder.append_event("start", 0)
    write_failure(folder, 2, "nan in layer 3")
    for rank in (1, 0):
        record_failure(folder, first_failure(folder, {rank: 1}))
    assert [event["event"] for event in folder.read_events()] == ["start", "fail"]
    assert folder.read_events()[-1]["rank"] == 2
    clear_failures(folder)
    time.sleep(0.01)  # an attempt takes time
    write_failure(folder, 1, "the disk is full")  # before it has started
    record_failure(folder, first_failure(folder, {1: 1}))
    assert [event["event"] for event in folder.read_events()] == ["start", "fail", "fail"]

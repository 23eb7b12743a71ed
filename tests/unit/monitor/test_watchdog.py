"""When the watchdog accuses, and when it takes that back."""

from pathlib import Path

import pytest

from isoflop.dist.env import Ranks
from isoflop.monitor import watchdog as module
from isoflop.monitor.folder import RunFolder
from isoflop.monitor.watchdog import Watchdog, flight_file


class Ticks:
    """An event that lets `n` ticks pass, each of `seconds` on the clock."""

    def __init__(self, n: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.now, self.seconds = n, 0.0, seconds
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def wait(self, timeout: float) -> bool:
        self.left, self.now = self.left - 1, self.now + self.seconds
        return self.left < 0

    def is_set(self) -> bool:
        return False


@pytest.fixture
def watch(tmp_path: Path) -> Watchdog:
    """Of a rank alone, with a limit of ten seconds and a tick each; nobody starts the thread."""
    return Watchdog(RunFolder(tmp_path / "run").create(), Ranks(), limit_seconds=10.0)


@pytest.mark.parametrize(
    ("ticks", "seconds", "patience", "accused"),
    [
        (10, 1.0, 1.0, False),
        (11, 1.0, 1.0, True),
        (30, 1.0, 3.0, False),
        (31, 1.0, 3.0, True),
        (5, 1000.0, 1.0, False),  # the process was stopped itself: at most two ticks count
        (6, 1000.0, 1.0, True),
    ],
)
def test_the_limit(
    watch: Watchdog,
    monkeypatch: pytest.MonkeyPatch,
    ticks: int,
    seconds: float,
    patience: float,
    accused: bool,
) -> None:
    said: list[float] = []
    monkeypatch.setattr(watch, "_accuse", lambda: said.append(watch._seconds))
    monkeypatch.setattr(watch, "_stopped", Ticks(ticks, seconds, monkeypatch))
    watch.alive("step 1", patience)
    watch.run()
    assert bool(said) == accused


def test_a_sign_of_life_begins_anew(watch: Watchdog) -> None:
    watch._seconds = 9.0
    watch.alive("step 2")
    assert watch._seconds == 0.0


def test_a_rank_that_moves_on_takes_it_back(watch: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had only been slow: its file goes, and nothing ends."""
    ended: list[str] = []
    monkeypatch.setattr(module, "end", lambda folder, ranks, cause, found: ended.append(cause))
    file = flight_file(watch.folder, 0)

    def moves_on() -> dict[int, Path]:
        assert file.exists()
        watch.alive("step 3")
        return {0: file}

    monkeypatch.setattr(watch, "_hear", moves_on)
    watch._accuse()
    assert not file.exists()
    assert not ended


def test_a_rank_that_does_not_move_ends(watch: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own line as the cause, where it is alone."""
    ended: list[tuple[str, int]] = []
    monkeypatch.setattr(module, "end", lambda folder, ranks, cause, found: ended.append((cause, found.rank)))
    watch._seconds, watch._doing = 12.0, "step 4"
    watch._accuse()
    ((cause, rank),) = ended
    assert rank == 0
    assert cause.startswith("no progress for 12 s: rank 0 is in ")
    assert cause.endswith(" (step 4)")
    assert flight_file(watch.folder, 0).exists()

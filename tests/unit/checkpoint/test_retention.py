"""Which checkpoints stay, against a plain reading of the rule over the whole history."""

import random
from pathlib import Path

import pytest

from isoflop.checkpoint.marker import (
    Progress,
    complete_checkpoints,
    mark_complete,
    progress_marker,
    step_folder,
    step_of,
)
from isoflop.checkpoint.retention import best, drop_the_rest, kept
from isoflop.config.schema import CheckpointConfig


def by_hand(history: dict[int, float | None], config: CheckpointConfig) -> set[int]:
    """Every checkpoint ever written, judged at once: nothing that was dropped may have had to stay."""
    staying = set()
    for step, loss in history.items():
        later = [other for other in history if other > step]
        better = [
            other
            for other, its in history.items()
            if loss is not None and its is not None and (its < loss or (its == loss and other > step))
        ]
        if len(later) < config.keep:
            staying.add(step)
        if config.keep_every is not None and step % config.keep_every == 0:
            staying.add(step)
        if loss is not None and len(better) < config.keep_best:
            staying.add(step)
    return staying


@pytest.mark.parametrize("seed", range(12))
def test_the_rule_holds_after_every_save(tmp_path: Path, seed: int) -> None:
    """Random cadences and losses (with ties and without any), saved and dropped one after another."""
    draw = random.Random(seed)
    config = CheckpointConfig(
        keep=draw.randint(1, 3), keep_every=draw.choice([None, 4, 10]), keep_best=draw.randint(0, 3)
    )
    history: dict[int, float | None] = {}
    step = 0
    for _ in range(25):
        step += draw.randint(1, 5)
        history[step] = draw.choice([None, *(round(draw.uniform(1, 2), 1) for _ in range(4))])
        folder = step_folder(tmp_path, step)
        folder.mkdir()
        mark_complete(folder, progress_marker(Progress(step), loss=history[step]))
        drop_the_rest(tmp_path, config)
        expected = by_hand(history, config)
        assert {step_of(found) for found in complete_checkpoints(tmp_path)} == expected, config
        assert kept(history, config) == expected
    known = {step: loss for step, loss in history.items() if loss is not None}
    if config.keep_best:
        lowest = min(known.values())
        latest = max(step for step, loss in known.items() if loss == lowest)
        assert best(tmp_path) == (step_folder(tmp_path, latest).name, lowest)


def test_incomplete_ones_are_neither_counted_nor_touched(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        step_folder(tmp_path, step).mkdir()
    mark_complete(step_folder(tmp_path, 1), progress_marker(Progress(1), loss=1.0))
    drop_the_rest(tmp_path, CheckpointConfig(keep=1))
    assert sorted(tmp_path.iterdir()) == [step_folder(tmp_path, step) for step in (1, 2, 3)]


def test_without_losses_there_is_no_best(tmp_path: Path) -> None:
    assert best(tmp_path / "none") is None
    folder = step_folder(tmp_path, 5)
    folder.mkdir()
    mark_complete(folder, progress_marker(Progress(5), loss=None))
    assert best(tmp_path) is None


def test_more_than_eight_digits_are_still_in_order(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        step_folder(tmp_path, step).mkdir()
        mark_complete(step_folder(tmp_path, step), progress_marker(Progress(step), loss=None))
    drop_the_rest(tmp_path, CheckpointConfig(keep=1))
    assert [step_of(folder) for folder in complete_checkpoints(tmp_path)] == [100_000_000]

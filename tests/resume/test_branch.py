"""One stable phase, several horizons: a branch is the run that went straight through."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import random_documents, write_dataset
from programs import read_rows, reproducible
from runs_here import events_of, train_here

from isoflop.checkpoint.marker import read_marker, read_progress
from isoflop.config.base import ConfigError, UserError
from isoflop.config.identity import branch_identity

WSD = ("schedule=wsd", "schedule.warmup_tokens=2048", "schedule.final_fraction=0.1")  # 4 steps of 512
SAVES = ("checkpoint.every=3", "checkpoint.keep_every=12")
STABLE = (*WSD, *SAVES, "schedule.decay_tokens=4096", "train.steps=40")


def horizon(steps: int, decay_steps: int) -> tuple[str, ...]:
    return (*WSD, f"train.steps={steps}", f"schedule.decay_tokens={512 * decay_steps}")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=2))


@pytest.fixture(scope="module")
def parent(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose rate is at its peak from step 4 to step 32, with checkpoints of steps 12, 24 and 36."""
    return train_here(data, tmp_path_factory.mktemp("parent"), *STABLE)


@pytest.mark.parametrize(("steps", "decay_steps", "at"), [(20, 8, 12), (29, 5, 24)])
def test_a_branch_is_the_run_that_went_straight_there(
    data: Path, parent: Path, tmp_path: Path, steps: int, decay_steps: int, at: int
) -> None:
    """Bitwise, in every row, weights and optimizer; and it is a run of its own."""
    straight = train_here(data, tmp_path / "straight", *horizon(steps, decay_steps))
    branch = train_here(data, tmp_path / "branch", *horizon(steps, decay_steps), f"branch_from={parent}@{at}")
    assert reproducible(branch) == reproducible(straight)
    assert [row["step"] for row in read_rows(branch)] == list(range(1, steps + 1))
    assert branch.name != straight.name
    ends = [folder / "checkpoints" / f"step-{steps:08d}" for folder in (branch, straight)]
    tensors, others = ({k: v["sha256"] for k, v in read_marker(end)["files"].items()} for end in ends)
    assert tensors["__0_0.distcp"] == others["__0_0.distcp"]
    assert read_progress(ends[0]) == read_progress(ends[1])


def test_the_parent_stays_as_it_was_and_is_named(data: Path, parent: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(parent.rglob("*")) if path.is_file()}
    branch = train_here(data, tmp_path, *horizon(15, 3), f"branch_from={parent}@12")
    assert {path: path.read_bytes() for path in sorted(parent.rglob("*")) if path.is_file()} == before
    parent_id = json.loads((parent / "provenance.json").read_text())["run_id"]
    origin = json.loads((branch / "provenance.json").read_text())["branched_from"]
    assert origin == {
        "run_id": parent_id,
        "folder": str(parent),
        "step": 12,
        "differs": ["schedule.decay_tokens", "train.steps"],
    }
    [event] = events_of(branch, "branch")
    assert (event["step"], event["run_id"]) == (12, parent_id)
    summary = json.loads((branch / "summary.json").read_text())
    assert (summary["status"], summary["restarts"], summary["step"]) == ("finished", 0, 15)


def test_a_branch_needs_its_parent_only_to_begin(data: Path, parent: Path, tmp_path: Path) -> None:
    """Interrupted, it goes on from its own checkpoint, though the parent is gone."""
    moved = tmp_path / parent.name
    moved.symlink_to(parent)
    words = (*horizon(29, 5), "checkpoint.every=2", f"branch_from={moved}@24")
    whole = train_here(data, tmp_path / "whole", *words)
    other = train_here(data, tmp_path / "other", *words)
    folder = other / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000028", "step-00000029"]
    (folder / "step-00000029" / "COMPLETE").unlink()  # as if it had been killed in its last save
    (other / "summary.json").unlink()
    moved.unlink()
    assert train_here(data, tmp_path / "other", *words) == other
    assert reproducible(other) == reproducible(whole)


@pytest.mark.parametrize(
    ("more", "key", "said"),
    [
        (["branch_from={parent}@13"], "branch_from", "there are: 12, 24, 36, 39, 40"),
        (["branch_from={parent}@24", "train.steps=24"], "branch_from", "the run ends with step 24"),
        (["branch_from={parent}@12", "model.d_ff=128"], "model.d_ff", "is 64 in that run"),
        (["branch_from={parent}@12", "optimizer=lion"], "optimizer.name", "is adamw in that run"),
        (
            ["branch_from={parent}@12", "train.global_batch_tokens=1024"],
            "train.global_batch_tokens",
            "12,288 tokens of 12 steps; that run had 6,144",
        ),
    ],
    ids=["step", "end", "model", "optimizer", "batch"],
)
def test_what_cannot_be_continued_is_refused(
    data: Path, parent: Path, tmp_path: Path, more: list[str], key: str, said: str
) -> None:
    words = [word.format(parent=parent) for word in more]
    with pytest.raises(ConfigError) as caught:
        train_here(data, tmp_path, *horizon(30, 3), *words)
    assert {fault.key: fault.message for fault in caught.value.faults}[key].find(said) >= 0
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/config\.yaml: there is no such file"):
        train_here(data, tmp_path, *horizon(30, 3), f"branch_from={tmp_path}/nowhere@12")


def test_a_larger_batch_is_a_ramp_of_the_branch(data: Path, parent: Path, tmp_path: Path) -> None:
    """The first 12 steps were of 512 tokens, as the ramp says; from there on they are twice that."""
    ramp = "train.batch_ramp=[{tokens: 6144, global_batch_tokens: 512}]"
    words = (*horizon(16, 4), "train.global_batch_tokens=1024", ramp, f"branch_from={parent}@12")
    rows = read_rows(train_here(data, tmp_path, *words))
    assert [row["step"] for row in rows] == list(range(1, 17))
    steps = [b["tokens"] - a["tokens"] for a, b in pairwise(rows)]
    assert all(size <= 512 for size in steps[:11])
    assert all(1000 < size <= 1024 for size in steps[11:])


def test_the_id_is_of_the_run_and_not_of_its_place() -> None:
    assert branch_identity("runs/a-0123456789@12") == "0123456789@12"
    assert branch_identity("/else/b-0123456789/@0012") == "0123456789@12"
    assert branch_identity("runs/a-0123456789@13") != branch_identity("runs/a-0123456789@12")
    assert branch_identity(None) is None

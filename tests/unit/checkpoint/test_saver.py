"""A checkpoint is complete or absent, is what was saved, and says so when it is not any more."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from isoflop.checkpoint import saver as saver_module
from isoflop.checkpoint.load import load
from isoflop.checkpoint.marker import MARKER, Progress, complete_checkpoints, read_marker, step_folder
from isoflop.checkpoint.save import save
from isoflop.checkpoint.saver import Saved, Saver
from isoflop.config.base import UserError
from isoflop.config.schema import CheckpointConfig

PROGRESS = Progress(7, 700, 7e9, window=(2.5, 0.1 + 0.2), skips_in_row=1)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.FileStore(str(tmp_path / "store"), 1))
    yield
    dist.destroy_process_group()


def make_state(seed: int = 0) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(64, 48, generator=draw)
    moments = {"step": torch.tensor(7.0), "exp_avg": torch.randn(64, 48, generator=draw, dtype=torch.float64)}
    return {"model": {"weight": weight, "half": weight.bfloat16()}, "optimizer": {"weight": moments}}


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        equal(a[key], b[key]) if isinstance(a[key], dict) else torch.equal(a[key], b[key]) for key in a
    )


def data_files(folder: Path) -> dict[str, str]:
    """The checksum of every file that holds tensors."""
    files = read_marker(folder)["files"]
    return {name: file["sha256"] for name, file in files.items() if name != ".metadata"}


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    folder = save(make_state(), PROGRESS, tmp_path / "checkpoints", keep=1)
    found = make_state(seed=1)
    assert load(found, folder) == PROGRESS
    assert equal(found, make_state())


def test_asynchronous_is_the_same_bytes_whatever_training_does_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write is held back until the state has been overwritten, twice over."""
    go, real = threading.Event(), saver_module.write

    def held_back(*arguments: Any) -> Path:
        assert go.wait(20)
        return real(*arguments)

    monkeypatch.setattr(saver_module, "write", held_back)
    done: list[Saved] = []
    state, checkpoints = make_state(), tmp_path / "later"
    with Saver(CheckpointConfig(asynchronous=True), checkpoints, done.append) as saver:
        saver.save(state, PROGRESS, loss=2.5)
        for tensor in (*state["model"].values(), *state["optimizer"]["weight"].values()):
            tensor.fill_(-1)
        saver.poll()
        assert (done, complete_checkpoints(checkpoints)) == ([], [])
        go.set()
        saver.wait()
        saver.poll()
    [saved] = done
    assert (saved.step, saved.loss, saved.folder) == (7, 2.5, step_folder(checkpoints, 7))
    assert 0 < saved.blocked_seconds <= saved.seconds
    at_once = save(make_state(), PROGRESS, tmp_path / "at_once", keep=1)
    assert data_files(saved.folder) == data_files(at_once)
    found = make_state(seed=1)
    assert load(found, saved.folder) == PROGRESS
    assert equal(found, make_state())


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second save waits for the first; leaving the context waits for the last."""
    inside, most, real = [0], [0], saver_module.write

    def counted(*arguments: Any) -> Path:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        folder = real(*arguments)
        inside[0] -= 1
        return folder

    monkeypatch.setattr(saver_module, "write", counted)
    done: list[Saved] = []
    with Saver(CheckpointConfig(asynchronous=True, keep=9), tmp_path / "c", done.append) as saver:
        for step in range(1, 6):
            saver.save(make_state(step), Progress(step))
    assert [saved.step for saved in done] == [1, 2, 3, 4, 5]
    assert most == [1]
    for saved in done:
        found = make_state()
        assert load(found, saved.folder).step == saved.step
        assert equal(found, make_state(saved.step))


def test_synchronous_blocks_for_as_long_as_it_takes(tmp_path: Path) -> None:
    done: list[Saved] = []
    saver = Saver(CheckpointConfig(), tmp_path / "c", done.append)
    saver.save(make_state(), PROGRESS)
    assert done[0].blocked_seconds == done[0].seconds > 0
    assert (tmp_path / "c" / "step-00000007" / MARKER).exists()


@pytest.mark.parametrize("when", ["wait", "save", "end"])
def test_a_failure_in_the_thread_is_told_with_its_cause(tmp_path: Path, when: str) -> None:
    """The folder of checkpoints cannot be made: a file is in its place."""
    (tmp_path / "c").write_text("in the way")
    done: list[Saved] = []
    saver = Saver(CheckpointConfig(asynchronous=True), tmp_path / "c", done.append)

    def go_on() -> None:
        with saver:
            saver.save(make_state(), PROGRESS)
            assert saver._thread is not None
            saver._thread.join()
            assert saver.failed
            saver.poll()  # leaves it to a moment that all ranks have agreed on
            assert saver.failed
            if when == "wait":
                saver.wait()
            if when == "save":
                saver.save(make_state(), PROGRESS)

    with pytest.raises(UserError, match="could not save"):
        go_on()
    assert done == []
    assert not saver.failed


def test_what_was_under_way_when_training_failed_is_completed(tmp_path: Path) -> None:
    done: list[Saved] = []

    def fail() -> None:
        with Saver(CheckpointConfig(asynchronous=True), tmp_path / "c", done.append) as saver:
            saver.save(make_state(), PROGRESS)
            raise UserError("loss is nan")

    with pytest.raises(UserError, match="loss is nan"):
        fail()
    assert [saved.step for saved in done] == [7]
    assert load(make_state(), done[0].folder) == PROGRESS


def test_every_flipped_byte_is_found_in_its_file(tmp_path: Path) -> None:
    """A bit of each file in turn; nothing of the state is touched by a checkpoint that is not what it was."""
    folder = save(make_state(), PROGRESS, tmp_path / "c", keep=1)
    names = sorted(path.name for path in folder.iterdir() if path.name != MARKER)
    assert names == sorted(read_marker(folder)["files"])
    assert ".metadata" in names
    for name in names:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
        found = make_state(seed=1)
        with pytest.raises(UserError, match="sha256") as caught:
            load(found, folder)
        assert str(path) in str(caught.value)
        assert f"remove {folder} to resume from the checkpoint before it" in str(caught.value)
        assert equal(found, make_state(seed=1))
        path.write_bytes(content)
    load(make_state(), folder)


def test_a_file_cut_short_or_gone_is_found_by_size_alone(tmp_path: Path) -> None:
    folder = save(make_state(), PROGRESS, tmp_path / "c", keep=1)
    path = folder / "__0_0.distcp"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match=rf"distcp: has {len(content) - 1:,} bytes, {len(content):,} were"):
        load(make_state(), folder, "size")
    path.unlink()
    with pytest.raises(UserError, match=r"__0_0\.distcp: cannot be read: no such file"):
        load(make_state(), folder, "size")


def test_size_does_not_read_the_bytes(tmp_path: Path) -> None:
    """The tensors' own bytes: neither torch nor the size notices."""
    state = make_state()
    folder = save(state, PROGRESS, tmp_path / "c", keep=1)
    path = folder / "__0_0.distcp"
    content = path.read_bytes()
    at = content.index(state["model"]["weight"].numpy().tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    found = make_state(seed=1)
    load(found, folder, "size")
    assert not torch.equal(found["model"]["weight"], state["model"]["weight"])
    with pytest.raises(UserError, match="sha256"):
        load(found, folder)


def test_a_marker_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = save(make_state(), PROGRESS, tmp_path / "c", keep=1)
    marker = json.loads((folder / MARKER).read_text())
    for damaged in ("{", json.dumps({key: marker[key] for key in marker if key != "files"})):
        (folder / MARKER).write_text(damaged)
        with pytest.raises(
            UserError, match=r"cannot be loaded: .*; remove .* to resume from the checkpoint before"
        ):
            load(make_state(), folder)


def test_saving_again_over_an_incomplete_one_leaves_nothing_of_it(tmp_path: Path) -> None:
    folder = step_folder(tmp_path / "c", 7)
    folder.mkdir(parents=True)
    (folder / "__0_9.distcp").write_bytes(b"left by a rank that was killed")
    save(make_state(), PROGRESS, tmp_path / "c", keep=1)
    assert not (folder / "__0_9.distcp").exists()
    shutil.rmtree(folder)

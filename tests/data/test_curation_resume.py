"""A build ends whole or not at all; the same command goes on, another does not take its work for its own."""

import fcntl
import io
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from curation import Counts, config_of, corpus, curate, prose, texts_of
from programs import environment
from rich.console import Console

from isoflop.config.base import UserError
from isoflop.curate.build import make_plan
from isoflop.curate.executor import WORKERS_LOCK, run_stage, wait_for_stragglers
from isoflop.curate.existing import identify
from isoflop.curate.stages import Stage
from isoflop.curate.tokens.publish import move_into_place
from isoflop.data.manifest import DatasetError, read_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return corpus(tmp_path / "in", [prose(seed) for seed in range(40)], files=4)


def command(source: Path, output: Path, *overrides: str) -> list[str]:
    here = [f"data.sources=[{source}]", f"data.output={output}", "tokenizer.vocab_size=400"]
    return [sys.executable, str(ROOT / "launch" / "data.py"), *here, "pipeline.language=null", *overrides]


def run(command: list[str], file_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), preexec_fn=limit, timeout=120
    )


def test_again_is_complete_and_changes_nothing(source: Path, tmp_path: Path) -> None:
    output, said = tmp_path / "out", io.StringIO()
    first = curate(source, output, "pipeline=none")
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    again = curate(source, output, "pipeline=none", "data.workers=1", console=Console(file=said, width=300))
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before
    assert "complete already" in said.getvalue()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]


def test_a_changed_threshold_is_refused_or_built_anew(source: Path, tmp_path: Path) -> None:
    output, none = tmp_path / "out", ("pipeline=none", "pipeline.pii=null")
    first = curate(source, output, *none)
    c4 = "pipeline.c4={min_num_sentences: %d, edit_lines: false}"
    with pytest.raises(UserError, match=r"pipeline\.c4: null → .*data\.overwrite=true"):
        curate(source, output, *none, c4 % 11)
    assert read_manifest(output) == first
    anew = curate(source, output, *none, c4 % 11, "data.overwrite=true")
    (c4_rows,) = [record for record in anew.stages if record.name == "c4 quality"]
    assert c4_rows.documents_in == 40
    with pytest.raises(UserError, match=r"pipeline\.c4\.min_num_sentences: 11 → 500"):
        curate(source, output, *none, c4 % 500)
    assert read_manifest(output) == anew


def test_half_a_build_is_not_taken_for_another_configurations(source: Path, tmp_path: Path) -> None:
    """datatrove would: it marks finished tasks by their number alone."""
    output = tmp_path / "out"
    strict = "pipeline.c4={min_num_sentences: 1000}"
    with pytest.raises(UserError, match="no document is left after c4 quality"):
        curate(source, output, "pipeline=none", strict)
    assert (tmp_path / "out.partial").exists()
    assert not output.exists()
    assert curate(source, output, "pipeline=none").total_documents == 40


def test_changed_input_is_refused(source: Path, tmp_path: Path) -> None:
    curate(source, tmp_path / "out", "pipeline=none")
    with (source / "0.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(UserError, match="the input files have changed"):
        curate(source, tmp_path / "out", "pipeline=none")
    anew = curate(source, tmp_path / "out", "pipeline=none", "data.overwrite=true")
    assert anew.total_documents == 41


def test_a_torn_dataset_is_noticed(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shard = output / curate(source, output, "pipeline=none").shards[0].file
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(UserError, match=f"{shard.name} is missing or cut short"):
        curate(source, output, "pipeline=none")
    (output / "manifest.json").write_text("{")
    with pytest.raises(DatasetError):
        curate(source, output, "pipeline=none")
    assert curate(source, output, "pipeline=none", "data.overwrite=true").total_documents == 40


def test_what_is_no_dataset_is_left_alone(source: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "out" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(UserError, match=r"out is there and is no dataset; give another data\.output"):
        curate(source, tmp_path / "out", "pipeline=none", "data.overwrite=true")
    assert thesis.read_text() == "years of work"


def test_interrupted_three_times_it_ends_as_if_never(source: Path, tmp_path: Path) -> None:
    output, alone = tmp_path / "out", ["data.workers=1", "data.tasks=4"]
    for mark, how, code in (
        ("filter-*/logs/completions/00001", signal.SIGKILL, -signal.SIGKILL),
        ("match-*/logs/completions/00003", signal.SIGTERM, 128 + signal.SIGTERM),
        ("tokenize-*/logs/completions/00000", signal.SIGINT, 130),
    ):
        with subprocess.Popen(
            command(source, output, *alone), stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        ) as build:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob(f"out.partial/*-{mark}")):
                assert build.poll() is None, build.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.005)
            build.send_signal(how)
            told = build.communicate(timeout=60)
        assert build.returncode == code, told
        assert b"Traceback" not in told[1]
        assert not output.exists(), f"a dataset was there after {how.name} at {mark}"
    wait_for_stragglers(tmp_path / "out.partial" / WORKERS_LOCK, seconds=5)
    done = run(command(source, output, *alone))
    assert done.returncode == 0, done.stderr
    whole = curate(source, tmp_path / "whole", "pipeline.language=null", "data.tasks=4")
    assert read_manifest(output).content_sha256 == whole.content_sha256
    assert [s.model_copy(update={"seconds": 0}) for s in read_manifest(output).stages] == [
        s.model_copy(update={"seconds": 0}) for s in whole.stages
    ]
    assert texts_of(output) == texts_of(tmp_path / "whole")


def test_killed_at_random_it_ends_as_if_never(source: Path, tmp_path: Path) -> None:
    """SIGKILL wherever the clock happens to strike, again and again: the documents are those of one go."""
    recipe = ("pipeline.exact={by: text}", "pipeline.repeated={}", "data.tasks=4")
    whole = curate(source, tmp_path / "whole", "pipeline.language=null", *recipe)
    output, draw = tmp_path / "out", random.Random()
    for _ in range(4):
        with subprocess.Popen(
            command(source, output, *recipe),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        ) as build:
            try:
                told = build.communicate(timeout=draw.uniform(1.0, 6.0))
            except subprocess.TimeoutExpired:
                build.kill()
                continue
            assert build.returncode == 0, told
    done = run(command(source, output, *recipe))
    assert done.returncode == 0, done.stderr
    assert read_manifest(output).content_sha256 == whole.content_sha256
    assert [stage.dropped for stage in read_manifest(output).stages] == [s.dropped for s in whole.stages]


def test_a_full_disk_is_one_line_and_no_dataset(source: Path, tmp_path: Path) -> None:
    """A limit on a file's size stands for it: the same write fails, in the same task."""
    full = run(command(source, tmp_path / "out"), file_bytes=6_000)
    assert full.returncode == 1
    assert re.fullmatch(r"stage \w+, task \d+: File too large.*the same command continues.*\n", full.stderr)
    assert not (tmp_path / "out").exists()
    assert run(command(source, tmp_path / "out")).returncode == 0


def stage(tmp_path: Path, failure: str = "") -> Stage:
    return Stage("trial", tmp_path, 3, [Counts(tmp_path, failure)])


def run_trial(tmp_path: Path, failure: str = "") -> None:
    lock = tmp_path / WORKERS_LOCK
    run_stage(stage(tmp_path, failure), workers=1, lock=lock, display=lambda *_: None)


def test_finished_tasks_are_not_done_again(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^stage trial, task 1: ValueError: two and two are five; .*continues"
    ):
        run_trial(tmp_path)
    (tmp_path / "mended").touch()
    run_trial(tmp_path)
    assert [(tmp_path / f"ran-{rank}").read_text() for rank in range(3)] == ["x", "xx", "x"]
    assert "two and two" in (tmp_path / "logs" / "logs" / "task_00001.err").read_text()


def test_a_killed_task_is_noticed(tmp_path: Path) -> None:
    """A pool of processes would wait for it for ever."""
    with pytest.raises(UserError, match=r"task 1: its process ended by SIGKILL; out of memory\?"):
        run_trial(tmp_path, "killed")


def test_a_build_waits_for_tasks_of_a_killed_one(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="tasks of an earlier build still run"):
            wait_for_stragglers(tmp_path / "lock", seconds=0.3)
    wait_for_stragglers(tmp_path / "lock", seconds=0.3)


def test_two_builds_of_one_dataset_do_not_mix(source: Path, tmp_path: Path) -> None:
    partial = tmp_path / "out.partial"
    partial.mkdir()
    with (partial / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another build of this dataset is running"):
            curate(source, tmp_path / "out", "pipeline=none")
    assert os.listdir(partial) == ["build.lock"]


def test_what_was_published_is_made_again_for_another_place(source: Path, tmp_path: Path) -> None:
    """As when it is killed after its dataset was moved away: the kept work folder has its merge for done."""
    work = f"data.work={tmp_path / 'work'}"
    first = curate(source, tmp_path / "sets" / "a", "pipeline=none", work)
    (tokens,) = (tmp_path / "work").glob("*-tokenize-*")
    second = curate(source, tmp_path / "sets" / "b", "pipeline=none", work)
    assert second.content_sha256 == first.content_sha256
    assert list(tokens.glob("logs/completions/*"))
    config = config_of(source, tmp_path / "c", "pipeline=none", work)
    recipe = import_module("data_pipelines.fineweb").recipe
    merge = recipe(make_plan(config, tmp_path / "work", identify(config, recipe))).stages[-1]
    for rank in range(merge.tasks):
        (merge.logs / "completions").mkdir(parents=True, exist_ok=True)
        (merge.logs / "completions" / f"{rank:05d}").touch()
    assert curate(source, tmp_path / "c", "pipeline=none", work).content_sha256 == first.content_sha256


def test_replacing_a_dataset_touches_nothing_else(source: Path, tmp_path: Path) -> None:
    """Not a backup beside it; and across file systems the old one stays until the new one stands."""
    backup = tmp_path / "out.old" / "precious"
    backup.parent.mkdir()
    backup.write_text("years of work")
    curate(source, tmp_path / "out", "pipeline=none")
    elsewhere = Path("/dev/shm") / f"work-{os.getpid()}"
    try:
        again = ("data.overwrite=true", f"data.work={elsewhere}", "tokenizer.vocab_size=300")
        assert curate(source, tmp_path / "out", "pipeline=none", *again).tokenizer.vocab_size == 300
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)
    assert backup.read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out.old"]


def test_a_replacement_that_was_cut_short_is_undone(tmp_path: Path) -> None:
    """Killed between the two renamings, the old dataset is put back before anything else is done."""
    parked = tmp_path / ".out.replaced"
    parked.mkdir()
    (parked / "manifest.json").write_text("old")
    with pytest.raises(FileNotFoundError):
        move_into_place(tmp_path / "not-made", tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    made = tmp_path / "made"
    made.mkdir()
    (made / "manifest.json").write_text("new")
    move_into_place(made, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

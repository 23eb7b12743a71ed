"""Builds a token dataset: the stages of a recipe in a work folder of their own, then one rename.

The work folder stands beside the dataset and is named by a fingerprint of everything the result depends
on: configuration, recipe, code, versions and input. datatrove marks a finished task by its number alone
and would take another configuration's work for its own; here it cannot find it.
"""

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from isoflop.config.base import UserError
from isoflop.config.pipeline import CurateConfig
from isoflop.curate import accounting, installed, publish
from isoflop.curate.executor import WORKERS_LOCK, Stage, run_stage, wait_for_stragglers
from isoflop.curate.existing import complete, identify, summary
from isoflop.curate.plan import Plan
from isoflop.curate.progress import stage_display
from isoflop.curate.sources import SourceFile, find_sources, n_tasks
from isoflop.data.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    StageRecord,
    read_manifest,
    write_manifest,
)

Recipe = Callable[[Plan], list[Stage]]


def build(config: CurateConfig, recipe: Recipe, console: Console | None = None) -> Manifest:
    """Build `config.data.output` by `recipe`, or find it complete. Raises UserError where it cannot.

    Interrupted, it leaves the finished tasks; the same call then does the rest.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    output = Path(config.data.output)
    identity = identify(config, recipe)
    done = complete(output, config, identity, console)
    if done is not None:
        return done
    partial = output.with_name(output.name + ".partial")
    with _told(partial, console), _alone(partial), _ended_by_sigterm():
        manifest = _build(config, recipe, identity, partial / identity["fingerprint"][:10], console)
        shutil.rmtree(partial, ignore_errors=True)
    console.print(accounting.drop_table(list(manifest.stages)))
    console.print(summary(output, manifest))
    return manifest


def _build(
    config: CurateConfig, recipe: Recipe, identity: dict[str, Any], work: Path, console: Console
) -> Manifest:
    """Run the stages in `work`, and publish what they made."""
    started = time.monotonic()
    plan = make_plan(config, work)
    wait_for_stragglers(work.parent / WORKERS_LOCK)
    output = Path(config.data.output)
    if not (plan.dataset / MANIFEST).is_file():
        records: list[StageRecord] = []
        stages = recipe(plan)
        for stage in stages:
            records += _run(stage, plan, console)
            if records and records[-1].documents_out == 0:
                console.print(accounting.drop_table(records))
                last = next(record for record in records if record.documents_out == 0)
                raise UserError(f"no document is left after {last.name}; pipeline.* says what it drops")
        manifest = _describe(plan, identity, records, stages)
        write_manifest(plan.dataset, manifest)
    publish.move_into_place(plan.dataset, output)
    console.print(f"built in {time.monotonic() - started:.0f} s")
    return read_manifest(output)


def make_plan(config: CurateConfig, work: Path) -> Plan:
    """What there is to read and in how many pieces."""
    work.mkdir(parents=True, exist_ok=True)
    files = find_sources(config.data.sources)
    if files:
        return Plan(config, files, [], min(config.data.tasks or n_tasks(files), len(files)), work)
    tasks = config.data.tasks or installed.FILES
    paths = [installed.warc_path(work / "corpus", rank) for rank in range(tasks)]
    files = [SourceFile(str(path), "warc", 0, 0) for path in paths]
    return Plan(config, files, installed.all_pages(), tasks, work)


def _run(stage: Stage, plan: Plan, console: Console) -> list[StageRecord]:
    """One stage, and a line about it."""
    started, logs = time.monotonic(), plan.folder("logs") / stage.name
    workers = plan.config.data.workers or len(os.sched_getaffinity(0))
    with stage_display(console, stage.name, stage.tasks) as display:
        run_stage(stage, logs, workers, plan.work.parent / WORKERS_LOCK, display)
    records = accounting.step_records(logs, stage.tasks)
    counts = f"{records[0].documents_in:>9,} → {records[-1].documents_out:,} documents" if records else ""
    console.print(f"{stage.name:<12} {time.monotonic() - started:6.1f} s {counts}")
    return records


def _describe(
    plan: Plan, identity: dict[str, Any], records: list[StageRecord], stages: list[Stage]
) -> Manifest:
    """The manifest of the token files in `plan.dataset`."""
    publish.tidy(plan.dataset, plan.tokenizer)
    config = plan.config
    tokenizer = publish.tokenizer_record(plan.tokenizer, config.tokenizer)
    dtype = publish.dtype_of(tokenizer)
    shards = publish.shard_records(plan.dataset, dtype)
    tokens, documents = sum(s.tokens for s in shards), sum(s.documents for s in shards)
    lost = accounting.broken_link(records)
    if lost or documents != records[-1].documents_out:
        raise UserError(f"{plan.work}: {lost or 'documents were lost in the merge'}; remove it and run again")
    last = next(stage for stage in stages if stage.name == "tokenize")
    text_bytes = accounting.stat_total(
        plan.folder("logs") / last.name, last.tasks, accounting.TOKENIZE, "text_bytes"
    )
    return Manifest(
        format_version=FORMAT_VERSION,
        tokenizer=tokenizer,
        dtype=dtype,
        total_tokens=tokens,
        total_documents=documents,
        shards=tuple(shards),
        stages=tuple(records),
        licence=config.data.licence or ("not stated" if config.data.sources else installed.LICENCE),
        seed=config.seed,
        unigram_entropy_nats=publish.unigram_entropy_nats(plan.dataset, shards, tokenizer),
        bytes_per_token=text_bytes / tokens,
        **identity,
    )


@contextmanager
def _told(partial: Path, console: Console) -> Iterator[None]:
    """What ends a build early is said in a line."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        console.print(f"interrupted; what is done is kept in {partial}, and the same command continues")
        raise
    except OSError as error:
        where = error.filename or partial
        raise UserError(f"{where}: {error.strerror}; mend it, and the same command continues") from None


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Hold `partial` against a second build of the same dataset. Raises UserError where one is running."""
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{partial}: another build of this dataset is running; wait for it") from None
        yield


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the build as Ctrl-C does, with the exit code of its own."""

    def leave(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

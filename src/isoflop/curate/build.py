"""Builds a token dataset: the stages of a recipe in a work folder, then one rename."""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from isoflop.config.base import UserError
from isoflop.config.curation.run import CurateConfig
from isoflop.curate import accounting
from isoflop.curate.card.page import write_card
from isoflop.curate.describe import digest
from isoflop.curate.executor import WORKERS_LOCK, run_stage, wait_for_stragglers
from isoflop.curate.existing import complete, identify, summary
from isoflop.curate.input import installed
from isoflop.curate.input.records import too_many_failures
from isoflop.curate.input.sources import find_sources, n_tasks, pieces
from isoflop.curate.parts import TOKENIZE
from isoflop.curate.plan import Plan
from isoflop.curate.progress import stage_display
from isoflop.curate.samples.merge import merge_samples
from isoflop.curate.stages import ASIDE, Outcome, Stage, begin
from isoflop.curate.tokens import publish
from isoflop.curate.tokens.megatron import write_megatron
from isoflop.curate.usage import USAGE, stage_usage
from isoflop.data.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    StageRecord,
    read_manifest,
    write_manifest,
)

Recipe = Callable[[Plan], Outcome]


def build(config: CurateConfig, recipe: Recipe, console: Console | None = None) -> Manifest:
    """Build `config.data.output` by `recipe`, or find it complete. Raises UserError where it cannot.

    Interrupted, it leaves the finished tasks; the same call then does the rest.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    output = Path(config.data.output)
    identity = identify(config, recipe)
    done = complete(output, config, identity, console)
    if done is not None:
        return add_megatron(output, done) if config.data.megatron else done
    work = Path(config.data.work) if config.data.work else output.with_name(output.name + ".partial")
    with _told(work, console), _alone(work), _ended_by_sigterm():
        manifest = _build(config, recipe, identity, work, console)
        if config.data.work is None:
            shutil.rmtree(work, ignore_errors=True)
    console.print(accounting.drop_table(list(manifest.stages)))
    console.print(summary(output, manifest))
    return manifest


def add_megatron(output: Path, manifest: Manifest) -> Manifest:
    """Megatron's files beside those of a dataset that was built without them."""
    if (manifest.model_extra or {}).get("megatron"):
        return manifest
    written = write_megatron(output, manifest.shards, manifest.dtype)
    manifest = manifest.model_copy(update={"megatron": written})
    write_card(output, manifest, output.name)
    write_manifest(output, manifest)
    return manifest


def _build(
    config: CurateConfig, recipe: Recipe, identity: dict[str, Any], work: Path, console: Console
) -> Manifest:
    """Run the stages in `work`, and publish what they made."""
    started = time.monotonic()
    outcome = recipe(make_plan(config, work, identity))
    wait_for_stragglers(work / WORKERS_LOCK)
    if not (outcome.dataset / MANIFEST).is_file():
        if not outcome.dataset.is_dir():  # an earlier build has published what this stage made
            shutil.rmtree(outcome.stages[-1].folder, ignore_errors=True)
        records: list[StageRecord] = []
        for stage in outcome.stages:
            records += _run(stage, config, records, console)
            _refuse_nothing(records, console)
            _refuse_failures(records, config)
        manifest = _describe(config, outcome, identity, records)
        write_card(outcome.dataset, manifest, Path(config.data.output).name)
        write_manifest(outcome.dataset, manifest)  # last: it is what makes a dataset whole
    output = Path(config.data.output)
    publish.move_into_place(outcome.dataset, output)
    shutil.rmtree(outcome.stages[-1].folder, ignore_errors=True)  # of a kept work folder: its result is gone
    console.print(f"built in {time.monotonic() - started:.0f} s")
    return read_manifest(output)


def make_plan(config: CurateConfig, work: Path, identity: dict[str, Any]) -> Plan:
    """What there is to read and in how many pieces."""
    files, pages = pieces(find_sources(config.data.sources)), []
    tasks = min(config.data.tasks or n_tasks(files), len(files))
    if not files:
        tasks, pages = config.data.tasks or installed.FILES, installed.all_pages()
    depends = {name: identity[name] for name in ("sources", "inputs_sha256", "code_sha256", "versions")}
    return Plan(config, files, pages, tasks, work, {**depends, "sources": digest(depends["sources"])})


def _run(
    stage: Stage, config: CurateConfig, before: list[StageRecord], console: Console
) -> list[StageRecord]:
    """One stage, and a line about it."""
    started = time.monotonic()
    for change in begin(stage)[:3]:
        console.print(f"{stage.name:<12} is done anew: {change}", markup=False)
    workers = config.data.workers or len(os.sched_getaffinity(0))
    expected = before[-1].documents_out if before else None
    with stage_display(console, stage.name, stage.tasks, expected) as display:
        run_stage(stage, workers, stage.folder.parent / WORKERS_LOCK, display)
    records = accounting.step_records(stage.logs, stage.tasks)
    seconds = time.monotonic() - started
    told = f"{stage.name:<12} {seconds:7.1f} s"
    if records:
        entered, left = records[0].documents_in, records[-1].documents_out
        told += f" {entered:>9,} → {left:<9,} documents {entered / max(seconds, 1e-3):>9,.0f}/s"
    console.print(told.rstrip())
    return records


def _refuse_nothing(records: list[StageRecord], console: Console) -> None:
    """Raises UserError where a step has dropped every document, with the table that says which."""
    if records and records[-1].documents_out == 0:
        console.print(accounting.drop_table(records))
        last = next(record for record in records if record.documents_out == 0)
        raise UserError(f"no document is left after {last.name}; pipeline.* says what it drops")


def _refuse_failures(records: list[StageRecord], config: CurateConfig) -> None:
    """Raises UserError where more of the input was broken than may be."""
    dropped = sum((Counter(record.dropped) for record in records), Counter[str]())
    files = len(find_sources(config.data.sources)) or 1
    read = records[0].documents_in if records else 0
    told = too_many_failures(dropped, read, files, config.data.max_failed_fraction)
    if told is not None:
        raise UserError(told)


def _describe(
    config: CurateConfig, outcome: Outcome, identity: dict[str, Any], records: list[StageRecord]
) -> Manifest:
    """The manifest of the token files in `outcome.dataset`."""
    publish.tidy(outcome.dataset, outcome.tokenizer)
    tokenizer = publish.tokenizer_record(outcome.tokenizer, config.tokenizer)
    dtype = publish.dtype_of(tokenizer)
    shards = publish.shard_records(outcome.dataset, dtype)
    tokens, documents = sum(s.tokens for s in shards), sum(s.documents for s in shards)
    lost = accounting.broken_link(records)
    if lost or documents != records[-1].documents_out:
        work = outcome.stages[0].folder.parent
        raise UserError(f"{work}: {lost or 'documents were lost in the merge'}; remove it and run again")
    merge_samples([stage.folder / ASIDE for stage in outcome.stages], outcome.dataset, config.samples)
    last = next(stage for stage in outcome.stages if stage.name == TOKENIZE)
    text_bytes = accounting.stat_total(last.logs, last.tasks, accounting.TOKENIZE, "text_bytes")
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
        unigram_entropy_nats=publish.unigram_entropy_nats(outcome.dataset, shards, tokenizer),
        bytes_per_token=text_bytes / tokens,
        text_bytes=text_bytes,
        megatron=write_megatron(outcome.dataset, shards, dtype) if config.data.megatron else [],
        work=[
            {"stage": stage.name, "tasks": stage.tasks, **stage_usage(stage.logs / USAGE)}
            for stage in outcome.stages
        ],
        **_models(outcome),
        **identity,
    )


def _models(outcome: Outcome) -> dict[str, Any]:
    """What stages found out that only the manifest keeps: how good the classifier is, evaluations' items."""
    notes = {"quality_classifier": "model/classifier.json", "evaluations": "index/evaluations.json"}
    return {
        key: json.loads((stage.folder / path).read_text())
        for stage in outcome.stages
        for key, path in notes.items()
        if (stage.folder / path).is_file()
    }


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

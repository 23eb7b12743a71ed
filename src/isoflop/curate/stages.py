"""The stages of a recipe, each in a folder named by everything that its result depends on.

datatrove marks a finished task by its number alone, and would take another configuration's work for its
own. Here other settings, code, versions, input or task counts make another folder: what was done with the
same ones is found again, and nothing else is. A name also depends on all the stages before it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from isoflop.curate.accounting import step_name
from isoflop.curate.describe import canonical, describe, differences, digest
from isoflop.curate.plan import Plan
from isoflop.curate.samples.keep import NoteKept
from isoflop.curate.samples.watch import watch

HERE = Path("/this/stage")  # stands for a stage's own folder while its name is being found
RECORD = "stage.json"
ASIDE = "aside"  # samples of what the tasks of a stage dropped


@dataclass(frozen=True)
class Stage:
    """`tasks` independent, restartable tasks, each of which runs `steps` on its piece of the documents.

    `threads` is for the tokenizer's Rust code: 1 where there are many tasks, 0 (all cores) in a lone one.
    """

    name: str
    folder: Path
    tasks: int
    steps: Sequence[PipelineStep]
    threads: int = 1
    settings: Any = None  # what the folder is named by

    @property
    def logs(self) -> Path:
        """Completions, statistics and what tasks print."""
        return self.folder / "logs"


@dataclass(frozen=True)
class Outcome:
    """A recipe's stages, and what they will have made: a folder of token files, and their tokenizer."""

    stages: list[Stage]
    dataset: Path
    tokenizer: Path


class Stages:
    """Gathers the stages of a recipe."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.all: list[Stage] = []
        self._before = digest(plan.depends, plan.tasks)

    def add(
        self,
        name: str,
        tasks: int,
        steps: Callable[[Path], Sequence[PipelineStep]],
        threads: int = 1,
        note_kept: bool = False,
    ) -> Path:
        """The next stage; returns its folder, which `steps` is given too: what a stage makes stands there.

        `note_kept`: what comes to its last step is what the dataset keeps.
        """
        described = canonical([describe(step) for step in steps(HERE)])
        for stage in self.all:  # by name: that another one's settings have changed is told there, once
            described = described.replace(str(stage.folder), f"/{stage.name}")
        settings = {"tasks": tasks, "steps": json.loads(described)}
        self._before = digest(self._before, name, settings)
        settings |= self.plan.depends
        folder = self.plan.work / f"{len(self.all):02d}-{name}-{self._before[:10]}"
        samples = self.plan.config.samples
        watched = watch(steps(folder), folder / ASIDE, samples, step_name)
        if note_kept:
            watched.insert(-1, NoteKept(folder / ASIDE, samples))
        self.all.append(Stage(name, folder, tasks, watched, threads, settings))
        return folder


def begin(stage: Stage) -> list[str]:
    """Make the stage's folder; how its settings differ from those that the same stage was done with before.

    Empty where it is new, or goes on. Raises OSError where the folder cannot be made.
    """
    done_otherwise = [
        json.loads(record.read_text())
        for record in sorted(stage.folder.parent.glob(f"*-{stage.name}-*/{RECORD}"), key=_time)
        if record.parent != stage.folder
    ]
    is_new = not stage.folder.exists()
    stage.folder.mkdir(parents=True, exist_ok=True)
    (stage.folder / RECORD).write_text(json.dumps(stage.settings))
    if not is_new or not done_otherwise:
        return []
    return list(differences(stage.settings, done_otherwise[-1]))


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns

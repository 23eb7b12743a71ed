"""What a recipe is told: the configuration, the input, and where its work stands."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.config.curation.run import CurateConfig
from isoflop.curate.input.installed import Page
from isoflop.curate.input.sources import SourceFile


@dataclass(frozen=True)
class Plan:
    """`files` are read in `tasks` pieces. `pages`, where there are any, become those files first.

    `depends` names the input, the code and the versions: a stage done under others is not this one.
    """

    config: CurateConfig
    files: list[SourceFile]
    pages: list[Page]
    tasks: int
    work: Path
    depends: dict[str, Any]

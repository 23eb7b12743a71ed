"""What a recipe is told: the configuration, the input, and where its work stands."""

from dataclasses import dataclass
from pathlib import Path

from isoflop.config.pipeline import CurateConfig
from isoflop.curate.installed import Page
from isoflop.curate.sources import SourceFile
from isoflop.data.manifest import TOKENIZER


@dataclass(frozen=True)
class Plan:
    """`files` are read in `tasks` pieces. `pages`, where there are any, become those files first."""

    config: CurateConfig
    files: list[SourceFile]
    pages: list[Page]
    tasks: int
    work: Path

    def folder(self, name: str) -> Path:
        """A place between stages; gone when the dataset is whole."""
        return self.work / name

    @property
    def dataset(self) -> Path:
        """The folder that becomes the dataset."""
        return self.work / "dataset"

    @property
    def tokenizer(self) -> Path:
        return self.work / TOKENIZER

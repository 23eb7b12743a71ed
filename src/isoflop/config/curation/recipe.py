"""What every recipe's configuration has. Its class stands in `isoflop/config/recipes/<name>.py`."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from isoflop.config.base import Config, Fault
from isoflop.config.registry import Registry

Engine = Literal["fast", "exact", "reference"]


class PipelineConfig(Config):
    """A recipe and its thresholds."""

    name: str
    """The recipe: a file in `data_pipelines/`."""
    profile: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The set of thresholds: a file in `configs/pipeline/`."""

    def faults(self) -> Iterator[Fault]:
        """Everything wrong between the fields; none here."""
        yield from ()


recipes: Registry[PipelineConfig] = Registry("isoflop.config.recipes")

"""The heuristic filters of FineWeb's recipe, in one of three engines."""

from importlib.util import find_spec

from datatrove.pipeline.base import PipelineStep

from isoflop.config.base import UserError
from isoflop.config.curation.heuristics import (
    C4Config,
    FineWebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
)
from isoflop.config.curation.recipe import Engine
from isoflop.curate.heuristics.c4 import C4Quality
from isoflop.curate.heuristics.fineweb import FineWebQuality
from isoflop.curate.heuristics.quality import GopherQuality
from isoflop.curate.heuristics.reference import C4KeepLines, stock_steps
from isoflop.curate.heuristics.repetition import GopherRepetition

__all__ = [
    "C4KeepLines",
    "C4Quality",
    "FineWebQuality",
    "GopherQuality",
    "GopherRepetition",
    "heuristic_steps",
]


def heuristic_steps(
    repetition: GopherRepetitionConfig | None,
    quality: GopherQualityConfig | None,
    c4: C4Config | None,
    fineweb: FineWebConfig | None,
    engine: Engine = "fast",
) -> list[PipelineStep]:
    """The filters that are not None, in FineWeb's order.

    Raises UserError where `engine` counts words with spaCy and it is not installed.
    """
    asked = [rules for rules in (repetition, quality, c4, fineweb) if rules]
    if engine != "fast" and any(rules.words == "spacy" for rules in asked) and find_spec("spacy") is None:
        hint = "counts words with spaCy, which is not installed; `pip install spacy`, or engine=fast"
        raise UserError(f"engine={engine} {hint}")
    if engine == "reference":
        return stock_steps(repetition, quality, c4, fineweb)
    steps: list[PipelineStep] = []
    if repetition:
        steps.append(GopherRepetition(repetition, engine))
    if quality:
        steps.append(GopherQuality(quality, engine))
    if c4:
        steps.append(C4Quality(c4, engine))
    if fineweb:
        steps.append(FineWebQuality(fineweb, engine))
    return steps

"""The heuristic filters as datatrove has them."""

from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.typeshelper import Languages

from isoflop.config.base import Config
from isoflop.config.curation.heuristics import (
    C4Config,
    FineWebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
)
from isoflop.curate.words import Whitespace


class C4KeepLines(C4QualityFilter):
    """Judges as C4 does, by the lines it would keep, but leaves the text: code needs its indentation."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        text = doc.text
        verdict = super().filter(doc)
        doc.text = text
        return verdict


def stock_steps(
    repetition: GopherRepetitionConfig | None,
    quality: GopherQualityConfig | None,
    c4: C4Config | None,
    fineweb: FineWebConfig | None,
) -> list[PipelineStep]:
    """datatrove's filters for those configurations that are not None, in FineWeb's order."""
    steps: list[PipelineStep] = []
    if repetition:
        steps.append(GopherRepetitionFilter(**_arguments(repetition)))
    if quality:
        steps.append(GopherQualityFilter(**_arguments(quality)))
    if c4:
        block = C4QualityFilter if c4.edit_lines else C4KeepLines
        steps.append(block(**_arguments(c4)))
    if fineweb:
        steps.append(FineWebQualityFilter(**_arguments(fineweb)))
    return steps


def _arguments(rules: Config) -> dict[str, Any]:
    arguments = rules.model_dump(exclude={"edit_lines"})
    words = arguments.pop("words")
    return {**arguments, "language": Whitespace() if words == "whitespace" else Languages.english}

"""Every block that a recipe is built from, ours and datatrove's, imported here once."""

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.formatters import PIIFormatter

from isoflop.curate.dedup.seen import DropSeen
from isoflop.curate.filters.language import KeepLanguages
from isoflop.curate.filters.refinedweb import RefinedWeb, RefinedWebText
from isoflop.curate.handover import WriteTask
from isoflop.curate.heuristics import heuristic_steps
from isoflop.curate.input.extract import EXTRACTORS
from isoflop.curate.parts import (
    decontaminate,
    exact_stages,
    filter_urls,
    kept,
    minhash_stages,
    quality_stages,
    read,
    source_files,
    token_stages,
)
from isoflop.curate.plan import Plan
from isoflop.curate.signals.annotate import Annotate
from isoflop.curate.signals.duplicates import DropDuplicates
from isoflop.curate.signals.keep import ApplyRules, ReadKept
from isoflop.curate.stages import Outcome, Stages

__all__ = [
    "EXTRACTORS",
    "Annotate",
    "ApplyRules",
    "DropDuplicates",
    "DropSeen",
    "KeepLanguages",
    "Outcome",
    "PIIFormatter",
    "PipelineStep",
    "Plan",
    "ReadKept",
    "RefinedWeb",
    "RefinedWebText",
    "Stages",
    "WriteTask",
    "decontaminate",
    "exact_stages",
    "filter_urls",
    "heuristic_steps",
    "kept",
    "minhash_stages",
    "quality_stages",
    "read",
    "source_files",
    "token_stages",
]

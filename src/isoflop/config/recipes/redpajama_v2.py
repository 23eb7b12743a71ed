"""The configuration of RedPajama v2's recipe (Weber et al. 2024)."""

from collections.abc import Iterator
from typing import Literal

from isoflop.config.base import Fault
from isoflop.config.curation.decontaminate import DecontaminateConfig
from isoflop.config.curation.language import LanguageConfig, PiiConfig, language_faults
from isoflop.config.curation.recipe import PipelineConfig, recipes
from isoflop.config.curation.repeated import RepeatedConfig
from isoflop.config.curation.signals import (
    DuplicatesConfig,
    Rules,
    SignalsConfig,
    duplicates_faults,
    rule_faults,
)
from isoflop.config.curation.urls import UrlsConfig


@recipes.register("redpajama_v2")
class RedpajamaV2Pipeline(PipelineConfig):
    """Quality signals written once beside the text, and rules and duplicates over them."""

    name: Literal["redpajama_v2"] = "redpajama_v2"
    urls: UrlsConfig | None = None
    extractor: Literal["resiliparse", "trafilatura"] = "resiliparse"
    """HTML to text."""
    language: LanguageConfig | None
    """What is annotated at all; a rule over the column `language` or its score may come later."""
    signals: SignalsConfig
    rules: Rules
    duplicates: DuplicatesConfig | None
    decontaminate: DecontaminateConfig | None = None
    pii: PiiConfig | None
    repeated: RepeatedConfig | None = None

    def faults(self) -> Iterator[Fault]:
        yield from rule_faults(self.rules, self.signals, "pipeline.rules")
        yield from duplicates_faults(self.duplicates, self.signals, "pipeline.duplicates")
        yield from language_faults(self.language)

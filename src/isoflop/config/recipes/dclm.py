"""The configuration of DCLM-Baseline's recipe (Li et al. 2024)."""

from collections.abc import Iterator
from typing import Literal

from isoflop.config.base import Fault
from isoflop.config.curation.classifier import ClassifierConfig, classifier_faults
from isoflop.config.curation.decontaminate import DecontaminateConfig
from isoflop.config.curation.dedup import BloomConfig, ExactDedupConfig
from isoflop.config.curation.language import LanguageConfig, PiiConfig, language_faults
from isoflop.config.curation.recipe import PipelineConfig, recipes
from isoflop.config.curation.refinedweb import RefinedWebConfig, RefinedWebTextConfig
from isoflop.config.curation.repeated import RepeatedConfig
from isoflop.config.curation.urls import UrlsConfig


@recipes.register("dclm")
class DclmPipeline(PipelineConfig):
    """RefinedWeb's heuristics, n-grams seen before, a quality classifier; null for one leaves it out."""

    name: Literal["dclm"] = "dclm"
    urls: UrlsConfig | None
    extractor: Literal["resiliparse", "trafilatura"] = "resiliparse"
    """HTML to text."""
    text: RefinedWebTextConfig | None
    language: LanguageConfig | None
    refinedweb: RefinedWebConfig | None
    exact: ExactDedupConfig | None = None
    seen: BloomConfig | None
    decontaminate: DecontaminateConfig | None = None
    classifier: ClassifierConfig | None = None
    """DCLM's own model is not shipped: give it as `model`, or sets to train on."""
    pii: PiiConfig | None = None
    repeated: RepeatedConfig | None = None

    def faults(self) -> Iterator[Fault]:
        yield from language_faults(self.language)
        if self.classifier is not None:
            yield from classifier_faults(self.classifier, "pipeline.classifier")

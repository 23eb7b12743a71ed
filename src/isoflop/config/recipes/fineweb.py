"""The configuration of FineWeb's recipe (Penedo et al. 2024)."""

from collections.abc import Iterator
from typing import Literal

from isoflop.config.base import Fault
from isoflop.config.curation.classifier import ClassifierConfig, classifier_faults
from isoflop.config.curation.decontaminate import DecontaminateConfig
from isoflop.config.curation.dedup import ExactDedupConfig, MinhashConfig
from isoflop.config.curation.heuristics import (
    C4Config,
    FineWebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
)
from isoflop.config.curation.language import LanguageConfig, PiiConfig, language_faults
from isoflop.config.curation.recipe import Engine, PipelineConfig, recipes
from isoflop.config.curation.repeated import RepeatedConfig
from isoflop.config.curation.urls import UrlsConfig


@recipes.register("fineweb")
class FineWebPipeline(PipelineConfig):
    """Which filters, with which thresholds; null for a whole filter leaves it out.

    The fields of a filter are datatrove's own argument names, so that a threshold here, in datatrove's
    documentation and in the papers is one and the same.
    """

    name: Literal["fineweb"] = "fineweb"
    urls: UrlsConfig | None
    extractor: Literal["resiliparse", "trafilatura"] = "resiliparse"
    """HTML to text."""
    engine: Engine = "fast"
    """Of the heuristic filters. reference: datatrove's own classes; exact: ours, with equal decisions; fast:
    ours without spaCy, which cuts nearly all words as it does."""
    language: LanguageConfig | None
    gopher_repetition: GopherRepetitionConfig | None
    gopher_quality: GopherQualityConfig | None
    c4: C4Config | None
    fineweb: FineWebConfig | None
    decontaminate: DecontaminateConfig | None = None
    classifier: ClassifierConfig | None = None
    exact: ExactDedupConfig | None = None
    minhash: MinhashConfig | None
    pii: PiiConfig | None
    repeated: RepeatedConfig | None = None

    def faults(self) -> Iterator[Fault]:
        quality = self.gopher_quality
        if quality is not None and quality.min_doc_words > quality.max_doc_words:
            hint = f"is more than pipeline.gopher_quality.max_doc_words={quality.max_doc_words}"
            yield Fault("pipeline.gopher_quality.min_doc_words", quality.min_doc_words, hint)
        yield from language_faults(self.language)
        if self.classifier is not None:
            yield from classifier_faults(self.classifier, "pipeline.classifier")

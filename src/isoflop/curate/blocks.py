"""Every block that a recipe is built from, ours and datatrove's, imported here once."""

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.tokens.merger import DocumentTokenizerMerger
from datatrove.utils.hashing import HashConfig

from isoflop.curate.c4 import C4KeepLines
from isoflop.curate.executor import Stage
from isoflop.curate.extract import EXTRACTORS
from isoflop.curate.installed import CollectInstalled
from isoflop.curate.language import KeepLanguages
from isoflop.curate.readers import ReadSources, ReadTask, write_documents
from isoflop.curate.tokenizer import MakeTokenizer, Tokenize
from isoflop.curate.words import WORDS

__all__ = [
    "EXTRACTORS",
    "WORDS",
    "C4KeepLines",
    "C4QualityFilter",
    "CollectInstalled",
    "DocumentTokenizerMerger",
    "FineWebQualityFilter",
    "GopherQualityFilter",
    "GopherRepetitionFilter",
    "HashConfig",
    "KeepLanguages",
    "MakeTokenizer",
    "MinhashConfig",
    "MinhashDedupBuckets",
    "MinhashDedupCluster",
    "MinhashDedupFilter",
    "MinhashDedupSignature",
    "PIIFormatter",
    "PipelineStep",
    "ReadSources",
    "ReadTask",
    "Stage",
    "Tokenize",
    "write_documents",
]

"""What recipes are put together from: stages that belong together, under one name."""

from collections.abc import Sequence
from pathlib import Path

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.tokens.merger import DocumentTokenizerMerger

from isoflop.config.curation.classifier import ClassifierConfig
from isoflop.config.curation.decontaminate import DecontaminateConfig
from isoflop.config.curation.dedup import ExactDedupConfig, MinhashConfig
from isoflop.config.curation.repeated import RepeatedConfig
from isoflop.config.curation.urls import UrlsConfig
from isoflop.curate.dedup.cluster import ClusterPairs
from isoflop.curate.dedup.exact import DropExact, FindExact, sign_exact
from isoflop.curate.dedup.stages import drop_duplicates, match_signatures, sign_documents
from isoflop.curate.filters.decontaminate import CompileEvaluations, Decontaminate
from isoflop.curate.filters.repeated_tokens import DropRepeatedTokens
from isoflop.curate.filters.urls import CompileUrlLists, UrlFilter
from isoflop.curate.handover import ReadTask, WriteTask
from isoflop.curate.input.installed import CollectInstalled, warc_path
from isoflop.curate.input.readers import ReadSources
from isoflop.curate.input.sources import SourceFile
from isoflop.curate.quality.classifier import MakeClassifier
from isoflop.curate.quality.selection import FindThreshold, KeepQuality, ScoreDocuments
from isoflop.curate.stages import Outcome, Stages
from isoflop.curate.tokens.tokenizer import MakeTokenizer, Tokenize
from isoflop.data.manifest import TOKENIZER

DOCUMENTS = "documents"
TOKENIZE = "tokenize"


def source_files(stages: Stages) -> list[SourceFile]:
    """The user's files; where there are none, a stage that makes the default corpus, and its files."""
    plan = stages.plan
    if not plan.pages:
        return plan.files
    corpus = stages.add("collect", plan.tasks, lambda here: [CollectInstalled(here, plan.pages)])
    return [SourceFile(str(warc_path(corpus, rank)), "warc", 0, 0) for rank in range(plan.tasks)]


def read(stages: Stages, files: Sequence[SourceFile]) -> ReadSources:
    """The step that reads this task's share of `files`."""
    data = stages.plan.config.data
    return ReadSources(files, data.text_key, data.max_document_bytes, data.max_failed_fraction)


def kept(stages: Stages, name: str, documents: Path, *steps: PipelineStep) -> Path:
    """A stage that reads `documents` back and keeps what passes `steps`; without steps, `documents`."""
    if not steps:
        return documents
    folder = stages.add(
        name,
        stages.plan.tasks,
        lambda here: [ReadTask(documents), *steps, WriteTask(here / DOCUMENTS)],
    )
    return folder / DOCUMENTS


def exact_stages(stages: Stages, documents: Path, config: ExactDedupConfig) -> list[PipelineStep]:
    """Find equal documents among those in `documents`; the steps that drop all of them but the first."""
    signed = stages.add(
        "hash",
        stages.plan.tasks,
        lambda here: [ReadTask(documents), *sign_exact(config, here / "hashes")],
    )
    found = stages.add(
        "find", config.hash_ranges, lambda here: [FindExact(signed / "hashes", here / "found", config)]
    )
    return [DropExact(found / "found", signed / "hashes", config)]


def minhash_stages(stages: Stages, documents: Path, shape: MinhashConfig) -> list[PipelineStep]:
    """Find near-duplicates among the documents in `documents`; the steps that drop them.

    The steps must be given the same documents in the same tasks, which they check.
    """
    buckets = shape.num_buckets
    signed = stages.add(
        "sign",
        stages.plan.tasks,
        lambda here: [ReadTask(documents), *sign_documents(shape, here / "signatures")],
    )
    signatures = signed / "signatures"
    matched = stages.add("match", buckets, lambda here: match_signatures(shape, signatures, here / "matches"))
    clustered = stages.add(
        "cluster", 1, lambda here: [ClusterPairs(matched / "matches", here / "clusters", buckets)]
    )
    return [drop_duplicates(shape, signatures, clustered / "clusters")]


def quality_stages(stages: Stages, documents: Path, config: ClassifierConfig) -> Path:
    """The documents that a classifier finds good enough, or the best fraction of all."""
    tasks = stages.plan.tasks
    classifier = stages.add("classifier", 1, lambda here: [MakeClassifier(config, here / "model")]) / "model"
    if config.threshold is not None:
        return kept(stages, "select", documents, ScoreDocuments(config, classifier), KeepQuality(config))
    scored = stages.add(
        "score",
        tasks,
        lambda here: [
            ReadTask(documents),
            ScoreDocuments(config, classifier, here / "scores"),
            WriteTask(here / DOCUMENTS),
        ],
    )
    border = stages.add(
        "threshold",
        1,
        lambda here: [FindThreshold(config, scored / "scores", tasks, here / "threshold.json")],
    )
    return kept(stages, "select", scored / DOCUMENTS, KeepQuality(config, border / "threshold.json"))


def decontaminate(stages: Stages, config: DecontaminateConfig) -> list[PipelineStep]:
    """A stage that reads the evaluations, and the step that drops documents which share n-grams with them."""
    index = stages.add("evaluations", 1, lambda here: [CompileEvaluations(config, here / "index")]) / "index"
    return [Decontaminate(config, index)]


def filter_urls(stages: Stages, config: UrlsConfig) -> list[PipelineStep]:
    """A stage that compiles the lists where that was not done before, and the step that filters by them."""
    stages.add("lists", 1, lambda here: [CompileUrlLists(config)])
    return [UrlFilter(config)]


def token_stages(stages: Stages, documents: Path, repeated: RepeatedConfig | None = None) -> Outcome:
    """From the documents that each task kept in `documents`: tokenizer, token files, one shuffled dataset.

    `repeated` drops documents by their tokens, before they are written.
    """
    plan, config = stages.plan, stages.plan.config
    made = stages.add(
        "tokenizer",
        1,
        lambda here: [MakeTokenizer(config.tokenizer, documents, plan.tasks, here / TOKENIZER)],
        threads=0,
    )
    tokenizer = made / TOKENIZER
    tokens = stages.add(
        TOKENIZE,
        plan.tasks,
        lambda here: [
            ReadTask(documents),
            *([DropRepeatedTokens(repeated, tokenizer)] if repeated else []),
            Tokenize(here / "tokens", tokenizer, config.tokenizer.eos_token, config.seed),
        ],
        note_kept=True,
    )
    merged = stages.add(
        "merge",
        1,
        lambda here: [
            DocumentTokenizerMerger(
                str(tokens / "tokens"),
                str(here / "dataset"),
                "tokens",
                config.data.shard_tokens,
                seed=config.seed,
            )
        ],
    )
    return Outcome(stages.all, merged / "dataset", tokenizer)

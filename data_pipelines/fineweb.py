"""FineWeb's recipe (Penedo et al. 2024) on datatrove: web pages in, deduplicated token files out.

The thresholds stand in `configs/pipeline/`; a filter that is null there is left out. The blocks are
datatrove's own, or ours from `isoflop.curate` where its own needs the network or a clock. To change the
recipe, edit the lists: what a stage does is what its list says, and every filter in it gets its row in
the drop table.
"""

from isoflop.config.pipeline import PipelineConfig
from isoflop.curate.blocks import (
    EXTRACTORS,
    WORDS,
    C4KeepLines,
    C4QualityFilter,
    CollectInstalled,
    DocumentTokenizerMerger,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    HashConfig,
    KeepLanguages,
    MakeTokenizer,
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
    PIIFormatter,
    PipelineStep,
    ReadSources,
    ReadTask,
    Stage,
    Tokenize,
    write_documents,
)
from isoflop.curate.plan import Plan


def recipe(plan: Plan) -> list[Stage]:
    """The stages, in order. Each is an array of independent tasks that may be run again."""
    profile, folder = plan.config.pipeline, plan.folder
    stages: list[Stage] = []
    if plan.pages:  # no sources of the user's own
        stages.append(Stage("collect", plan.tasks, [CollectInstalled(folder("corpus"), plan.pages)]))

    read = [ReadSources(plan.files, plan.config.data.text_key), EXTRACTORS[profile.extractor]()]
    private = [PIIFormatter(**profile.pii.model_dump())] if profile.pii else []
    if profile.minhash is None:
        keep = [*filters(profile), *private, write_documents(folder("kept"))]
        stages.append(Stage("filter", plan.tasks, [*read, *keep]))
    else:
        shape = profile.minhash
        words = WORDS[shape.words]
        minhash = MinhashConfig(
            n_grams=shape.n_grams,
            num_buckets=shape.num_buckets,
            hashes_per_bucket=shape.hashes_per_bucket,
            seed=shape.seed,
            hash_config=HashConfig(hash_fc=shape.hash_fc),
        )
        sign = MinhashDedupSignature(str(folder("signatures")), minhash, language=words)
        match = MinhashDedupBuckets(str(folder("signatures")), str(folder("matches")), config=minhash)
        cluster = MinhashDedupCluster(str(folder("matches")), str(folder("duplicates")), minhash)
        drop = [ReadTask(folder("filtered")), MinhashDedupFilter(str(folder("duplicates")))]
        stages += [
            Stage(
                "filter", plan.tasks, [*read, *filters(profile), write_documents(folder("filtered")), sign]
            ),
            Stage("match", shape.num_buckets, [match]),
            Stage("cluster", 1, [cluster]),
            Stage("deduplicate", plan.tasks, [*drop, *private, write_documents(folder("kept"))]),
        ]

    tokenizer, seed = plan.config.tokenizer, plan.config.seed
    make = MakeTokenizer(tokenizer, folder("kept"), plan.tasks, plan.tokenizer)
    tokenize = Tokenize(folder("tokens"), plan.tokenizer, tokenizer.eos_token, seed)
    merge = DocumentTokenizerMerger(
        str(folder("tokens")), str(plan.dataset), "tokens", plan.config.data.shard_tokens, seed=seed
    )
    return [
        *stages,
        Stage("tokenizer", 1, [make], threads=0),
        Stage("tokenize", plan.tasks, [ReadTask(folder("kept")), tokenize]),
        Stage("merge", 1, [merge]),
    ]


def filters(profile: PipelineConfig) -> list[PipelineStep]:
    """What a document must pass, in FineWeb's order."""
    steps: list[PipelineStep] = []
    if profile.language:
        steps.append(KeepLanguages(profile.language))
    if profile.gopher_repetition:
        rules = profile.gopher_repetition
        steps.append(
            GopherRepetitionFilter(**rules.model_dump(exclude={"words"}), language=WORDS[rules.words])
        )
    if profile.gopher_quality:
        quality = profile.gopher_quality
        steps.append(
            GopherQualityFilter(**quality.model_dump(exclude={"words"}), language=WORDS[quality.words])
        )
    if profile.c4:
        block = C4QualityFilter if profile.c4.edit_lines else C4KeepLines
        thresholds = profile.c4.model_dump(exclude={"words", "edit_lines"})
        steps.append(block(**thresholds, language=WORDS[profile.c4.words]))
    if profile.fineweb:
        own = profile.fineweb
        steps.append(FineWebQualityFilter(**own.model_dump(exclude={"words"}), language=WORDS[own.words]))
    return steps

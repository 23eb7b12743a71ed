"""DCLM-Baseline's recipe (Li et al. 2024, section 4) on datatrove.

resiliparse → RefinedWeb's heuristics (Penedo et al. 2023) → n-grams seen before → quality classifier. The
Bloom filter is a task's own: documents of two tasks do not meet, as those of DCLM's shards do not, so
`data.tasks`, which the number of files bounds, says within how many groups to deduplicate.
"""

from isoflop.config.recipes.dclm import DclmPipeline
from isoflop.curate.blocks import (
    EXTRACTORS,
    DropSeen,
    KeepLanguages,
    Outcome,
    PIIFormatter,
    Plan,
    RefinedWeb,
    RefinedWebText,
    Stages,
    WriteTask,
    decontaminate,
    exact_stages,
    filter_urls,
    kept,
    quality_stages,
    read,
    source_files,
    token_stages,
)


def recipe(plan: Plan) -> Outcome:
    """The stages, in order. Each is an array of independent tasks that may be run again."""
    profile = plan.config.pipeline
    assert isinstance(profile, DclmPipeline)
    stages = Stages(plan)
    files = source_files(stages)
    by_address = filter_urls(stages, profile.urls) if profile.urls else []
    unlike_tests = decontaminate(stages, profile.decontaminate) if profile.decontaminate else []
    filtered = stages.add(
        "filter",
        plan.tasks,
        lambda here: [
            read(stages, files),
            *by_address,
            EXTRACTORS[profile.extractor](),
            *([RefinedWebText(profile.text)] if profile.text else []),
            *([KeepLanguages(profile.language)] if profile.language else []),
            *([RefinedWeb(profile.refinedweb)] if profile.refinedweb else []),
            WriteTask(here / "documents"),
        ],
    )
    documents = filtered / "documents"
    if profile.exact:
        documents = kept(stages, "unique", documents, *exact_stages(stages, documents, profile.exact))
    seen = [DropSeen(profile.seen)] if profile.seen else []
    documents = kept(stages, "deduplicate", documents, *seen, *unlike_tests)
    if profile.classifier:
        documents = quality_stages(stages, documents, profile.classifier)
    private = [PIIFormatter(**profile.pii.model_dump())] if profile.pii else []
    documents = kept(stages, "mask", documents, *private)
    return token_stages(stages, documents, profile.repeated)

"""FineWeb's recipe (Penedo et al. 2024) on datatrove: web pages in, deduplicated token files out.

The thresholds stand in `configs/pipeline/`; a filter that is null there is left out. The blocks are
datatrove's own, or ours from `isoflop.curate` where its own needs the network or a clock, or is slow. To
change the recipe, edit the lists: what a stage does is what its list says, and every filter in it gets its
row in the drop table.
"""

from isoflop.config.recipes.fineweb import FineWebPipeline
from isoflop.curate.blocks import (
    EXTRACTORS,
    KeepLanguages,
    Outcome,
    PIIFormatter,
    Plan,
    Stages,
    WriteTask,
    decontaminate,
    exact_stages,
    filter_urls,
    heuristic_steps,
    kept,
    minhash_stages,
    quality_stages,
    read,
    source_files,
    token_stages,
)


def recipe(plan: Plan) -> Outcome:
    """The stages, in order. Each is an array of independent tasks that may be run again."""
    profile = plan.config.pipeline
    assert isinstance(profile, FineWebPipeline)
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
            *([KeepLanguages(profile.language)] if profile.language else []),
            *heuristic_steps(
                profile.gopher_repetition, profile.gopher_quality, profile.c4, profile.fineweb, profile.engine
            ),
            *unlike_tests,
            WriteTask(here / "documents"),
        ],
    )
    documents = filtered / "documents"
    if profile.classifier:
        documents = quality_stages(stages, documents, profile.classifier)
    if profile.exact:
        documents = kept(stages, "unique", documents, *exact_stages(stages, documents, profile.exact))
    near = minhash_stages(stages, documents, profile.minhash) if profile.minhash else []
    private = [PIIFormatter(**profile.pii.model_dump())] if profile.pii else []
    documents = kept(stages, "deduplicate", documents, *near, *private)
    return token_stages(stages, documents, profile.repeated)

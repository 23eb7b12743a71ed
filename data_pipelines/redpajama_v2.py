"""RedPajama v2's recipe (Weber et al. 2024) on datatrove: annotate once, filter later.

The stage `annotate` writes every document with its quality signals, hashes and signatures as columns of a
parquet file. `judge` and `compare` then read columns, never the text: a rule changed in `configs/pipeline/`
or on the command line makes them anew, in seconds, and with `data.work` given the annotation is found done.
Duplicates are sought after the rules, so that the one that stays is one that the rules keep.
"""

from isoflop.config.recipes.redpajama_v2 import RedpajamaV2Pipeline
from isoflop.curate.blocks import (
    EXTRACTORS,
    Annotate,
    ApplyRules,
    DropDuplicates,
    KeepLanguages,
    Outcome,
    PIIFormatter,
    Plan,
    ReadKept,
    Stages,
    WriteTask,
    decontaminate,
    filter_urls,
    read,
    source_files,
    token_stages,
)


def recipe(plan: Plan) -> Outcome:
    """The stages, in order. Each is an array of independent tasks that may be run again."""
    profile = plan.config.pipeline
    assert isinstance(profile, RedpajamaV2Pipeline)
    stages = Stages(plan)
    files = source_files(stages)
    by_address = filter_urls(stages, profile.urls) if profile.urls else []
    annotated = stages.add(
        "annotate",
        plan.tasks,
        lambda here: [
            read(stages, files),
            *by_address,
            EXTRACTORS[profile.extractor](),
            *([KeepLanguages(profile.language)] if profile.language else []),
            Annotate(here / "columns", profile.signals),
        ],
    )
    columns = annotated / "columns"
    verdicts = stages.add(
        "judge", plan.tasks, lambda here: [ApplyRules(columns, here / "verdicts", profile.rules)]
    )
    duplicates = profile.duplicates
    if duplicates is not None:
        judged = verdicts / "verdicts"
        verdicts = stages.add(
            "compare",
            1,
            lambda here: [DropDuplicates(columns, judged, here / "verdicts", plan.tasks, duplicates)],
        )
    unlike_tests = decontaminate(stages, profile.decontaminate) if profile.decontaminate else []
    private = [PIIFormatter(**profile.pii.model_dump())] if profile.pii else []
    kept = stages.add(
        "keep",
        plan.tasks,
        lambda here: [
            ReadKept(columns, verdicts / "verdicts"),
            *unlike_tests,
            *private,
            WriteTask(here / "documents"),
        ],
    )
    return token_stages(stages, kept / "documents", profile.repeated)

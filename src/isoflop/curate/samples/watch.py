"""Puts observers at the steps of a stage, so that what they drop can be looked at later."""

from collections.abc import Callable, Iterable
from pathlib import Path

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupFilter

from isoflop.config.curation.samples import SamplesConfig
from isoflop.curate.samples.clusters import KeepClusters, NoteClusters
from isoflop.curate.samples.keep import KeepAside, Together
from isoflop.data.aside import Kind

WRITERS: dict[str, Kind] = {"exclusion_writer": "dropped", "failed_writer": "failed"}


def watch(
    steps: Iterable[PipelineStep], folder: Path, config: SamplesConfig, name: Callable[[str], str]
) -> list[PipelineStep]:
    """`steps`, of which those that can tell what they drop now keep some of it aside in `folder`.

    What a step drops goes to its `exclusion_writer`, what it could not read or extract to its
    `failed_writer`; one that has its own already keeps it. Behind a MinHash filter that knows its clusters
    stands one step more, which notes the documents that stay of each. `name` makes the manifest's name of a
    step from datatrove's.
    """
    watched: list[PipelineStep] = []
    for step in steps:
        watched.append(step)
        has_clusters = isinstance(step, MinhashDedupFilter) and step.load_cluster_ids
        for writer, kind in WRITERS.items():
            if getattr(step, writer, step) is not None:
                continue
            aside = KeepAside(folder, name(str(step)), config, kind)
            if has_clusters:
                setattr(step, writer, Together(aside, KeepClusters(folder, config)))
                watched.append(NoteClusters(folder, config))
            else:
                setattr(step, writer, aside)
    return watched

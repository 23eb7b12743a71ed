"""What the tasks kept aside, gathered beside the dataset."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoflop.config.curation.samples import SamplesConfig
from isoflop.curate.samples.clusters import join_clusters
from isoflop.curate.samples.keep import IDS
from isoflop.curate.samples.lowest import Lowest
from isoflop.data.aside import (
    CLUSTERS,
    ENDING,
    KEPT_IDS,
    KINDS,
    id_hash,
    read_records,
    sample_path,
    write_records,
)


def merge_samples(folders: Sequence[Path], dataset: Path, config: SamplesConfig) -> None:
    """`<dataset>/samples/*.jsonl.zst` and `<dataset>/kept_ids.npy` from what tasks kept in each of `folders`.

    The memory it takes does not grow with the number of tasks.
    """
    for kind in KINDS:
        lowest = Lowest(config.failed if kind == "failed" else config.per_reason)
        for sample in _of_tasks(folders, kind):
            lowest.add((sample["step"], sample["reason"]), id_hash(sample["id"]), sample)
        merged = (sample for group in lowest.groups for sample in lowest.records(group))
        write_records(sample_path(dataset, kind), merged)
    write_records(sample_path(dataset, CLUSTERS), join_clusters(_of_tasks(folders, CLUSTERS), config))
    _merge_ids(folders, dataset / KEPT_IDS)


def _of_tasks(folders: Sequence[Path], kind: str) -> Iterator[dict[str, Any]]:
    """The records of a kind, in the order of stages, steps and tasks."""
    for folder in folders:
        for path in sorted((folder / kind).glob(f"*/*{ENDING}")):
            yield from read_records(path)


def _merge_ids(folders: Sequence[Path], path: Path) -> None:
    """All tasks' ids in one array, sorted where it stands on the disk: it may be larger than the memory."""
    files = [file for folder in folders for file in sorted((folder / IDS).glob("*.npy"))]
    parts = [np.load(file, mmap_mode="r") for file in files]
    total = sum(map(len, parts))
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<u8", "fortran_order": False, "shape": (total,)}
        )
        for part in parts:
            part.tofile(file)
    if total:
        ids = np.load(partial, mmap_mode="r+")
        ids.sort()
        ids.flush()
    partial.replace(path)

"""What there is to say about one dataset: its manifest, its files, and what its curation kept aside."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from isoflop.config.errors import UserError, did_you_mean
from isoflop.data.aside import (
    CLUSTERS,
    KEPT_IDS,
    Cluster,
    Kind,
    Sample,
    id_hash,
    read_records,
    sample_path,
)
from isoflop.data.manifest import Manifest, read_manifest
from isoflop.report.dataset.statistics import Lengths, TokenStatistics, lengths, token_statistics


@dataclass(frozen=True)
class Look:
    """Which samples are shown: of each reason `n`, chosen by `seed`; `reason` names one reason or step."""

    n: int = 5
    seed: int = 0
    reason: str | None = None

    def chosen(self, samples: Iterable[Sample]) -> list[Sample]:
        """The same documents of two datasets, where both have them."""
        return sorted(samples, key=lambda sample: id_hash(f"{self.seed}\n{sample['id']}"))[: self.n]

    def of_clusters(self, clusters: Sequence[Cluster]) -> list[Cluster]:
        """`n` of them, the largest first; none where it is another reason that is asked for."""
        if self.reason is not None and "minhash" not in self.reason.lower():
            return []
        drawn = sorted(clusters, key=lambda cluster: id_hash(f"{self.seed}\n{cluster['cluster']}"))
        return sorted(drawn[: self.n], key=lambda cluster: -cluster["size"])


@dataclass(frozen=True)
class Group:
    """Documents that met one fate. `count` is how many did in all, where the manifest says so."""

    step: str
    reason: str
    count: int | None
    samples: list[Sample]


@dataclass(frozen=True)
class Dataset:
    """One dataset. What it lacks is in `notes`."""

    root: Path
    name: str
    manifest: Manifest
    lengths: Lengths
    tokens: TokenStatistics
    kept: list[Sample]
    dropped: list[Sample]
    failed: list[Sample]
    clusters: list[Cluster]
    kept_ids: NDArray[np.uint64] | None
    notes: list[str] = field(default_factory=list)

    @property
    def extra(self) -> dict[str, Any]:
        return self.manifest.model_extra or {}

    @property
    def documents_in(self) -> int | None:
        return self.manifest.stages[0].documents_in if self.manifest.stages else None

    def groups(self, kind: Kind, look: Look) -> list[Group]:
        """The samples of a kind by reason, in the order of the steps, the commonest reason first."""
        counts = {(s.name, reason): n for s in self.manifest.stages for reason, n in s.dropped.items()}
        steps = {stage.name: place for place, stage in enumerate(self.manifest.stages)}
        found: dict[tuple[str, str], list[Sample]] = {}
        for sample in getattr(self, kind):
            if look.reason in (None, sample["reason"], sample["step"]):
                found.setdefault((sample["step"], sample["reason"]), []).append(sample)
        groups = [
            Group(step, reason, counts.get((step, reason)), look.chosen(samples))
            for (step, reason), samples in found.items()
        ]
        return sorted(groups, key=lambda g: (steps.get(g.step, len(steps)), -(g.count or 0), g.reason))


def gather_all(roots: Sequence[Path]) -> list[Dataset]:
    """Read each; known by the names of their folders, where those are not the same."""
    names = [root.resolve().name for root in roots]
    several = len(set(names)) < len(names)
    return [gather(root, str(root) if several else name) for root, name in zip(roots, names, strict=True)]


def gather(root: Path, name: str) -> Dataset:
    """Read the dataset in `root`. Raises UserError where it is none or its token files are not whole."""
    manifest = read_manifest(root)
    notes: list[str] = []
    kept, dropped, failed, clusters = (
        _records(root, kind, notes) for kind in ("kept", "dropped", "failed", CLUSTERS)
    )
    if not any(sample_path(root, kind).is_file() for kind in ("kept", "dropped", "failed", CLUSTERS)):
        notes.append(f"{root} has no samples/: no document was kept aside when it was built")
    return Dataset(
        root=root,
        name=name,
        manifest=manifest,
        lengths=lengths(root, manifest),
        tokens=token_statistics(root, manifest),
        kept=cast(list[Sample], kept),
        dropped=cast(list[Sample], dropped),
        failed=cast(list[Sample], failed),
        clusters=cast(list[Cluster], clusters),
        kept_ids=_kept_ids(root, notes),
        notes=notes,
    )


def check_reason(reason: str | None, datasets: Sequence[Dataset]) -> None:
    """Raises UserError where no step and no reason of `datasets` has that name."""
    stages = [stage for dataset in datasets for stage in dataset.manifest.stages]
    samples = [s for d in datasets for s in (*d.dropped, *d.failed)]
    known = {reason for stage in stages for reason in (stage.name, *stage.dropped)}
    known |= {name for sample in samples for name in (sample["step"], sample["reason"])}
    if reason is not None and reason not in known:
        raise UserError(f"--reason {reason}: nothing was dropped for it{did_you_mean(reason, sorted(known))}")


def _records(root: Path, kind: str, notes: list[str]) -> list[dict[str, Any]]:
    path = sample_path(root, kind)
    if not path.is_file():
        return []
    try:
        return list(read_records(path))
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; `pip install 'isoflop[report]'`") from None
    except (OSError, ValueError) as error:
        notes.append(f"{path} cannot be read to its end ({' '.join(str(error).split())[:120]})")
        return []


def _kept_ids(root: Path, notes: list[str]) -> NDArray[np.uint64] | None:
    path = root / KEPT_IDS
    if not path.is_file():
        return None
    try:
        ids: NDArray[np.uint64] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        notes.append(f"{path} cannot be read: {error}")
        return None
    return ids

"""The report's tables beside the runs': configurations that differ, data, machines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from isoflop.config.errors import as_yaml
from isoflop.data.manifest import Manifest
from isoflop.report.gather import Run


def config_differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(key, each run's value) of the configuration keys whose values are not the same everywhere."""
    flat = [dict(_leaves(run.config)) for run in runs]
    keys = dict.fromkeys(key for leaves in flat for key in leaves)
    rows = [(key, [as_yaml(leaves[key]) if key in leaves else "–" for leaves in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


@dataclass(frozen=True)
class DatasetView:
    """A dataset and the runs that read it. An empty `manifest`: the runs did not record it."""

    path: str
    content_sha256: str
    manifest: Mapping[str, Any]
    runs: list[str]

    @property
    def sources(self) -> list[str]:
        given = self.manifest.get("sources") or []
        return [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in given]

    @property
    def stages(self) -> list[Mapping[str, Any]]:
        return list(self.manifest.get("stages") or [])


def dataset_views(runs: Sequence[Run]) -> list[DatasetView]:
    """Each dataset once, named by its content."""
    views: dict[str, DatasetView] = {}
    for run in runs:
        for entry in run.datasets:
            sha256 = str(entry.get("content_sha256") or entry.get("path"))
            view = DatasetView(str(entry.get("path", "")), sha256, _whole(entry.get("manifest")), [])
            views.setdefault(sha256, view).runs.append(run.label)
    return list(views.values())


def _whole(manifest: Any) -> Mapping[str, Any]:
    """A recorded manifest; empty where it is not one."""
    try:
        return Manifest.model_validate(manifest).model_dump()
    except ValidationError:
        return {}


@dataclass(frozen=True)
class MachineView:
    """Code and machines, and the runs that they made."""

    git: str
    versions: str
    hosts: str
    diff: str
    runs: list[str]


def machine_views(runs: Sequence[Run]) -> list[MachineView]:
    """Runs grouped by what made them."""
    views: dict[str, MachineView] = {}
    for run in runs:
        record = run.provenance
        if not record:
            continue
        sha = str(record.get("git_sha") or "not in git")[:10]
        view = MachineView(
            git=sha + (" with changes" if record.get("git_dirty") else ""),
            versions=" · ".join(
                f"{name} {version}" for name, version in (record.get("versions") or {}).items()
            ),
            hosts=", ".join(map(str, record.get("hosts") or [])),
            diff=str(record.get("diff") or ""),
            runs=[],
        )
        views.setdefault(repr((view.git, view.versions, view.hosts, view.diff)), view).runs.append(run.label)
    return list(views.values())


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value

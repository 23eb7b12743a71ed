"""Which runs are the same experiment: the run id."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from isoflop.config.schema import RunConfig

# Fields that change where a run stands or how it is watched, not what it computes.
NOT_SCIENCE = {"name", "runs_dir", "resume", "cluster", "monitor", "checkpoint"}
DATA_NOT_SCIENCE = {"path", "verify"}


def science(config: RunConfig, data_sha256: Sequence[str]) -> dict[str, Any]:
    """The part of `config` that a result depends on; datasets by their content, not by their place."""
    tree = config.model_dump(mode="json", exclude=NOT_SCIENCE)
    data = {key: value for key, value in tree["data"].items() if key not in DATA_NOT_SCIENCE}
    data["mixture"] = [
        {"sha256": sha256, "weight": entry.weight}
        for sha256, entry in zip(data_sha256, config.data.entries, strict=True)
    ]
    return {**tree, "data": data, "branch_from": branch_identity(config.branch_from)}


def branch_identity(branch_from: str | None) -> str | None:
    """`<run id>@<step>` of `<run folder>@<step>`: a run that has been moved is the same."""
    if branch_from is None:
        return None
    folder, _, step = branch_from.rpartition("@")
    return f"{PurePath(folder).name.rpartition('-')[2]}@{int(step)}"


def run_id(config: RunConfig, data_sha256: Sequence[str]) -> str:
    """First 10 hex digits of the SHA-256 of the science of `config`, as canonical JSON."""
    canonical = json.dumps(science(config, data_sha256), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]

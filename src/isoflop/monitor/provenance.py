"""Where a run comes from: code, versions, host, data."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from isoflop.config.schema import RunConfig
from isoflop.data.manifest import MANIFEST, Manifest, file_sha256

PACKAGES = ("isoflop", "torch", "numpy", "hydra-core", "pydantic", "datatrove", "wandb")
DIFF_BYTES = 1_000_000  # of uncommitted changes that are kept


def provenance(config: RunConfig, manifests: Sequence[Manifest], run_id: str) -> dict[str, Any]:
    """The content of provenance.json."""
    data = [
        {
            "path": entry.path,
            "content_sha256": manifest.content_sha256,
            "manifest_sha256": file_sha256(Path(entry.path) / MANIFEST),
            "manifest": manifest.model_dump(mode="json"),
        }
        for entry, manifest in zip(config.data.entries, manifests, strict=True)
    ]
    return {
        "run_id": run_id,
        **git_state(Path(__file__).parent),
        "versions": {"python": platform.python_version(), **installed(PACKAGES)},
        "hosts": [platform.node()],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "ranks": config.parallel.ranks,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": data,
    }


def git_state(folder: Path) -> dict[str, Any]:
    """Commit and uncommitted changes of the code that runs; None outside a checkout."""
    sha = _git(folder, "rev-parse", "HEAD")
    if sha is None:
        return {"git_sha": None, "git_dirty": None, "diff": None}
    diff = _git(folder, "diff", "HEAD") or ""
    return {"git_sha": sha.strip(), "git_dirty": bool(diff), "diff": diff[:DIFF_BYTES]}


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those of `packages` that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, errors="replace"
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None

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
DIFF_CHARACTERS = 1_000_000  # of uncommitted changes that are kept


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
    """Commit and uncommitted changes of the code in `folder`; None where no checkout holds it.

    `untracked` names the files that git was never told of, which `diff` cannot show: a new optimizer, say.
    """
    sha = _git(folder, "rev-parse", "HEAD")
    is_ours = bool(_git(folder, "ls-files"))  # not where we are installed below somebody else's checkout
    if sha is None or not is_ours:
        return {"git_sha": None, "git_dirty": None, "diff": None, "untracked": None}
    diff = _git(folder, "diff", "--no-ext-diff", "--no-color", "HEAD") or ""
    others = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/") or ""
    changed = {"git_dirty": bool(diff or others), "untracked": others.splitlines()}
    if len(diff) > DIFF_CHARACTERS:
        diff = f"{diff[:DIFF_CHARACTERS]}\n… and {len(diff) - DIFF_CHARACTERS} characters more\n"
    return {"git_sha": sha.strip(), **changed, "diff": diff}


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

"""Where a run comes from: code, versions, hosts, data; and by what it was continued."""

import json
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
from isoflop.monitor.folder import write_json

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
        **code_state(),
        "hosts": [platform.node()],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "ranks": config.parallel.ranks,
        "started": _now(),
        "data": data,
        "resumed": [],
    }


def add_attempt(path: Path, config: RunConfig) -> None:
    """Note in provenance.json that a run is continued: when, on how many ranks, and by what other code."""
    record = json.loads(path.read_text())
    attempt = {"started": _now(), "ranks": config.parallel.ranks, "code": "as before"}
    state, before = code_state(), record
    for earlier in record.setdefault("resumed", []):
        before = earlier["code"] if isinstance(earlier["code"], dict) else before
    if any(before.get(key) != value for key, value in state.items()):
        attempt["code"] = state
    record["resumed"].append(attempt)
    write_json(path, record)


def add_hosts(path: Path, hosts: Sequence[str]) -> None:
    """Note every machine that trains the run; known only once the ranks have met."""
    record = json.loads(path.read_text())
    known = list(dict.fromkeys([*record["hosts"], *hosts]))
    if known != record["hosts"]:
        write_json(path, {**record, "hosts": known})


def code_state() -> dict[str, Any]:
    """Commit, uncommitted changes and versions of the code that runs."""
    versions = {"python": platform.python_version(), **installed(PACKAGES)}
    return {**git_state(Path(__file__).parent), "versions": versions}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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

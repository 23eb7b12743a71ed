"""What a run says of its code, its machine and its data."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from helpers import random_documents, write_dataset

from isoflop.config.load import load_run
from isoflop.config.schema import RunConfig
from isoflop.data.manifest import read_manifest
from isoflop.monitor import provenance as module
from isoflop.monitor.provenance import (
    DIFF_CHARACTERS,
    add_attempt,
    add_hosts,
    code_state,
    git_state,
    installed,
    provenance,
)

NOWHERE = {"git_sha": None, "git_dirty": None, "diff": None, "untracked": None}


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """git as it comes: no user's settings, no repository of a hook that runs us, none above tmp_path."""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the file src/code.py, committed, and runs/ ignored."""
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    (root / "src" / "code.py").write_text("lr = 1\n")
    (root / ".gitignore").write_text("runs/\n.venv/\n")
    git(root.parent, "init", "--quiet", "checkout")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=First")
    return root


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    """Also seen from a folder below, and with ignored files about."""
    (checkout / "runs").mkdir()
    (checkout / "runs" / "metrics.jsonl").write_text("{}\n")
    sha = git(checkout, "rev-parse", "HEAD").strip()
    clean = {"git_sha": sha, "git_dirty": False, "diff": "", "untracked": []}
    assert git_state(checkout) == git_state(checkout / "src") == clean


def test_changes_can_be_made_again_from_the_commit(checkout: Path) -> None:
    """Staged or not, above the folder or in it; the diff applied to the commit gives the code that ran."""
    (checkout / "src" / "code.py").write_text("lr = 2\n")
    (checkout / "README").write_text("staged\n")
    git(checkout, "add", "README")
    state = git_state(checkout / "src")
    assert state["git_dirty"]
    git(checkout, "reset", "--hard", "--quiet")
    assert not (checkout / "README").exists()
    subprocess.run(["git", "-C", checkout, "apply"], input=state["diff"], text=True, check=True)
    assert (checkout / "src" / "code.py").read_text() == "lr = 2\n"
    assert (checkout / "README").read_text() == "staged\n"


def test_a_file_that_git_does_not_know_makes_it_dirty(checkout: Path) -> None:
    """A new optimizer runs though no diff shows it; so it is named, from the checkout's root."""
    (checkout / "new.py").write_text("")
    (checkout / "src" / "newer.py").write_text("")
    state = git_state(checkout / "src")
    assert (state["git_dirty"], state["diff"], state["untracked"]) == (True, "", ["new.py", "src/newer.py"])


def test_a_long_diff_says_that_it_was_cut(checkout: Path) -> None:
    (checkout / "src" / "code.py").write_text("x = 1234567\n" * 100_000)
    diff = git_state(checkout)["diff"]
    whole = git(checkout, "diff", "HEAD")
    assert diff[:DIFF_CHARACTERS] == whole[:DIFF_CHARACTERS]
    assert diff.endswith(f"… and {len(whole) - DIFF_CHARACTERS} characters more\n")


def test_no_checkout_is_no_commit(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a repository; below one that does not hold the code; and where git is not installed."""
    assert git_state(tmp_path) == NOWHERE
    installed_below = checkout / ".venv" / "isoflop"
    installed_below.mkdir(parents=True)
    (installed_below / "code.py").write_text("")
    assert git_state(installed_below) == NOWHERE
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(checkout) == NOWHERE


def test_versions_are_of_what_is_installed() -> None:
    assert installed(("no-such-package", "torch")) == {"torch": version("torch")}


def tiny_run(**data: Any) -> RunConfig:
    model = {"n_layers": 1, "width": 8, "n_heads": 2, "d_ff": 8, "vocab_size": 256}
    groups = {name: {} for name in ("engine", "schedule", "precision", "checkpoint", "monitor", "cluster")}
    parallel = {"data": 2, "tensor": 2}
    train = {"seq_len": 16, "global_batch_tokens": 1024}
    optimizer = {"name": "adamw", "lr": 1e-3}
    return load_run(
        {
            "name": "t",
            "model": model,
            "parallel": parallel,
            "train": train,
            "optimizer": optimizer,
            "data": data,
        }
        | groups
    )


def test_provenance_names_the_data_that_was_read(tmp_path: Path) -> None:
    """Each dataset of a mixture, in order, with its manifest and that file's hash; and it is JSON."""
    roots = [write_dataset(tmp_path / str(i), random_documents(9, seed=i)) for i in range(2)]
    config = tiny_run(mixture=[{"path": str(root), "weight": 1} for root in roots])
    written = json.loads(
        json.dumps(provenance(config, [read_manifest(root) for root in roots], "0123456789"))
    )
    assert [entry["path"] for entry in written["data"]] == list(map(str, roots))
    for entry, root in zip(written["data"], roots, strict=True):
        content = (root / "manifest.json").read_bytes()
        assert entry["manifest_sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["manifest"] == json.loads(content)
    assert written["data"][0]["content_sha256"] != written["data"][1]["content_sha256"]
    assert (written["run_id"], written["ranks"], written["hosts"]) == ("0123456789", 4, [platform.node()])
    assert written["versions"]["torch"] == version("torch")
    assert written["versions"]["python"] == platform.python_version()


def test_what_continues_a_run_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When, on how many ranks, by what code where it is other code; and every host once, in order."""
    config = tiny_run(path=str(write_dataset(tmp_path / "d", random_documents(9, seed=0))))
    path = tmp_path / "provenance.json"
    path.write_text(json.dumps(provenance(config, [read_manifest(tmp_path / "d")], "0123456789")))
    other = {**code_state(), "git_sha": "f" * 40}
    states = iter([code_state(), other, other])
    monkeypatch.setattr(module, "code_state", lambda: next(states))
    for _ in range(3):
        add_attempt(path, config)
    add_hosts(path, ["node-b", platform.node(), "node-b"])
    record = json.loads(path.read_text())
    codes = [attempt["code"] for attempt in record["resumed"]]
    assert codes[0] == codes[2] == "as before"
    assert codes[1]["git_sha"] == "f" * 40
    assert [attempt["ranks"] for attempt in record["resumed"]] == [4, 4, 4]
    assert record["hosts"] == [platform.node(), "node-b"]
    assert record["run_id"] == "0123456789"

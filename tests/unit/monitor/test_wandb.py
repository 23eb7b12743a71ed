"""W&B through the real client: offline, online, resumed, and with nobody at the other end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_server import WandbServer, wandb_server

from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.monitor.folder import RunFolder
from isoflop.monitor.metrics import Row
from isoflop.monitor.sinks import Degrading, RunIntro, WandbSink, build_sinks

wandb = pytest.importorskip("wandb")

OVERRIDES = ["data.path=d", "name=tiny", "monitor.group=study", "monitor.tags=[a]", "monitor.terminal=off"]


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No account, no settings and no key of this machine's user; a fresh client for each test."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setattr(WandbSink, "init_seconds", 2.0)
    monkeypatch.setattr(WandbSink, "finish_seconds", 2.0)
    yield
    wandb.teardown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with wandb_server() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        yield running


def row(step: int) -> Row:
    return {
        "step": step,
        "tokens": step * 16384,
        "flops": step * 1.5e12,
        "loss": 1 / 3 + 1 / step,
        "lr": 1e-3,
    }


def intro(folder: RunFolder, resumed_step: int = 0) -> RunIntro:
    config = load_run(compose("train", OVERRIDES))
    return RunIntro(config, "0123456789", folder.path, 787_296, 394_080, 6e6, 9, resumed_step)


def train(folder: RunFolder, steps: range, status: str = "finished", mode: str = "auto") -> None:
    """What a run does with its sinks."""
    config = load_run(compose("train", [*OVERRIDES, f"monitor.wandb={mode}"]))
    sinks = build_sinks(config, folder, "0123456789", steps[0] - 1, 9)
    for sink in sinks:
        sink.open(intro(folder, steps[0] - 1))
    for step in steps:
        for sink in sinks:
            sink.log(row(step))
    for sink in sinks:
        sink.close(status, {"final_loss": row(steps[-1])["loss"], "status": status})


def logged(history: list[dict[str, float]]) -> list[Row]:
    return [{name: value for name, value in line.items() if not name.startswith("_")} for line in history]


def inspect(folder: RunFolder) -> list[dict[str, Any]]:
    (file,) = folder.wandb.glob("offline-run-*/*.wandb")
    read = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in read.stdout.splitlines()]


def test_without_an_account_the_run_is_kept_offline(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    train(folder, range(1, 4))
    records = inspect(folder)
    (run,) = (record["run"] for record in records if record["type"] == "run")
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    metrics = [record["metric"] for record in records if record["type"] == "metric"]
    assert logged(history) == [row(step) for step in (1, 2, 3)]
    assert [line["_step"] for line in history] == [1, 2, 3]
    assert (run["run_id"], run["display_name"], run["run_group"], run["tags"]) == (
        "0123456789",
        "tiny",
        "study",
        ["a"],
    )
    assert run["config"]["update"]["optimizer"]["lr"] == 3e-3
    assert [metric["name"] for metric in metrics if "name" in metric] == ["step", "tokens", "flops"]
    assert [metric["step_metric"] for metric in metrics if metric.get("glob_name") == "*"] == ["tokens"]


def test_online_the_server_has_the_rows_the_config_and_the_group(server: WandbServer, tmp_path: Path) -> None:
    train(RunFolder(tmp_path / "run").create(), range(1, 4))
    run = server.runs["0123456789"]
    assert list(server.runs) == ["0123456789"]
    assert logged(run.history) == [row(step) for step in (1, 2, 3)]
    assert run.config["optimizer"]["value"]["name"] == "adamw"
    assert run.config["model"]["value"]["width"] == 96
    assert run.attributes["groupName"] == "study"
    assert run.attributes["displayName"] == "tiny"
    assert run.summary["final_loss"] == row(3)["loss"]
    assert run.exit_code == 0


def test_a_resumed_run_goes_on_in_the_same_run_without_a_seam(server: WandbServer, tmp_path: Path) -> None:
    """Killed after step 5, resumed from the checkpoint of step 3: the rows 4 and 5 are not doubled."""
    folder = RunFolder(tmp_path / "run").create()
    train(folder, range(1, 6), status="preempted")
    assert server.runs["0123456789"].exit_code == 1
    wandb.teardown()
    train(folder, range(4, 10))
    assert list(server.runs) == ["0123456789"]
    assert logged(server.runs["0123456789"].history) == [row(step) for step in range(1, 10)]
    assert server.runs["0123456789"].exit_code == 0
    assert folder.read_metrics() == [row(step) for step in range(1, 10)]


def test_a_key_but_no_server_goes_on_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    folder = RunFolder(tmp_path / "run").create()
    train(folder, range(1, 4))
    assert folder.read_metrics() == [row(step) for step in (1, 2, 3)]
    assert len(list(folder.wandb.glob("offline-run-*-0123456789/*.wandb"))) == 1
    warnings = capfd.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert warnings[0].startswith("wandb: ")
    assert warnings[0].endswith("logging offline")


def test_a_server_that_dies_does_not_keep_the_run_from_ending(server: WandbServer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    sink = WandbSink(load_run(compose("train", OVERRIDES)).monitor, folder, "0123456789", quiet=True)
    sink.open(intro(folder))
    sink.log(row(1))
    server.refuse = True
    sink.log(row(2))
    sink.close("finished", {})  # W&B's own default waits for ever


def test_online_without_a_key_never_asks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run").create()
    train(folder, range(1, 2), mode="online")
    assert len(list(folder.wandb.glob("offline-run-*/*.wandb"))) == 1
    assert "no API key" in capfd.readouterr().err


def test_without_the_package_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    folder = RunFolder(tmp_path / "run").create()
    train(folder, range(1, 4))
    assert folder.read_metrics() == [row(step) for step in (1, 2, 3)]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_off_leaves_no_trace(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    train(folder, range(1, 2), mode="off")
    assert not folder.wandb.exists()


def test_a_sink_that_fails_warns_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    class Broken:
        rows = 0

        def open(self, intro: RunIntro) -> None:
            pass

        def log(self, row: Row) -> None:
            self.rows += 1
            raise RuntimeError("no luck\nat all")

        def close(self, status: str, summary: dict[str, object]) -> None:
            raise AssertionError("closed after it was given up")

    broken = Broken()
    sink = Degrading("broken", broken)
    sink.log(row(1))
    sink.log(row(2))
    sink.close("finished", {})
    assert broken.rows == 1
    assert capsys.readouterr().err.splitlines() == [
        "broken: no luck; the run goes on without it, metrics.jsonl has everything"
    ]

"""A run folder's files survive kills, and say what is wrong with them."""

import json
import math
import random
from pathlib import Path

import pytest

from isoflop.config.base import UserError
from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.monitor.folder import RunFolder, metrics_line, write_bytes, write_json
from isoflop.monitor.intro import RunIntro
from isoflop.monitor.metrics import METRICS
from isoflop.monitor.sinks import JsonlSink


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run").create()


@pytest.fixture
def intro(folder: RunFolder) -> RunIntro:
    return RunIntro(load_run(compose("train", ["data.path=d"])), "0123456789", folder.path, 10, 5, 1e6, 9)


def row(step: int, **more: float) -> dict[str, float | int]:
    return {"step": step, "loss": 1 / 3, **more}


def write(folder: RunFolder, intro: RunIntro, steps: range, resumed_step: int = 0) -> None:
    sink = JsonlSink(folder, resumed_step)
    sink.open(intro)
    for step in steps:
        sink.log(row(step))
    sink.close("finished", {})


def test_floats_come_back_bitwise(folder: RunFolder, intro: RunIntro) -> None:
    spread = random.Random(0)
    rows = [row(i, grad_norm=spread.random() * 10 ** spread.randint(-300, 300)) for i in range(1, 500)]
    rows += [
        row(500, grad_norm=5e-324),
        row(501, grad_norm=0.1 + 0.2),
        row(502, grad_norm=1.7976931348623157e308),
    ]
    sink = JsonlSink(folder, 0)
    sink.open(intro)
    for line in rows:
        sink.log(line)
    sink.close("finished", {})
    back = folder.read_metrics()
    assert [line["grad_norm"].hex() for line in back] == [line["grad_norm"].hex() for line in rows]  # type: ignore[union-attr]
    assert all(isinstance(line["step"], int) for line in back)


def test_keys_stand_in_the_order_of_the_table() -> None:
    shuffled = {metric.name: 1.0 for metric in reversed(METRICS)} | {"eval/docs/loss": 2.0}
    assert list(json.loads(metrics_line(shuffled))) == [
        *(metric.name for metric in METRICS),
        "eval/docs/loss",
    ]


def test_a_name_that_the_table_lacks_is_a_mistake_in_the_code() -> None:
    with pytest.raises(KeyError, match="los: not in the table"):
        metrics_line({"step": 1, "los": 2.0})


def test_what_is_not_finite_is_null_in_json_and_nan_when_read(folder: RunFolder, intro: RunIntro) -> None:
    sink = JsonlSink(folder, 0)
    sink.open(intro)
    sink.log(row(1, grad_norm=math.inf, lr=math.nan))
    assert json.loads(folder.metrics.read_text(), parse_constant=pytest.fail)["grad_norm"] is None
    assert math.isnan(folder.read_metrics()[0]["grad_norm"])


@pytest.mark.parametrize("torn", [b"", b"{", b'{"step": 11, "lo', b'{"step": 11, "loss": 1.0}'])
def test_resuming_drops_what_is_replayed_and_a_torn_last_line(
    folder: RunFolder, intro: RunIntro, torn: bytes
) -> None:
    write(folder, intro, range(1, 11))
    whole = folder.metrics.read_bytes()
    folder.metrics.write_bytes(whole + torn)
    assert [line["step"] for line in folder.read_metrics()] == list(range(1, 11))
    folder.truncate_metrics(6)
    assert folder.metrics.read_bytes() == b"".join(whole.splitlines(keepends=True)[:6])
    write(folder, intro, range(7, 11), resumed_step=6)
    assert folder.metrics.read_bytes() == whole


def test_a_line_broken_in_the_middle_is_named(folder: RunFolder, intro: RunIntro) -> None:
    write(folder, intro, range(1, 4))
    lines = folder.metrics.read_bytes().splitlines(keepends=True)
    folder.metrics.write_bytes(lines[0] + b"@@@\n" + lines[2])
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 "):
        folder.read_metrics()


def test_a_full_disk_names_the_file(folder: RunFolder, intro: RunIntro) -> None:
    sink = JsonlSink(folder, 0)
    sink.open(intro)
    sink._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115  every write: no space left on device
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written: no space left"):
        sink.log(row(1))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(folder.summary, {"status": "running"})

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("isoflop.monitor.folder.os.fsync", no_space)
    with pytest.raises(UserError, match=r"summary\.json: cannot be written: no space left"):
        write_json(folder.summary, {"status": "finished"})
    assert json.loads(folder.summary.read_text()) == {"status": "running"}
    assert [file.name for file in folder.path.iterdir() if file.is_file()] == ["summary.json"]


def test_write_bytes_replaces_whole(folder: RunFolder) -> None:
    write_bytes(folder.summary, b"long" * 1000)
    write_bytes(folder.summary, b"short")
    assert folder.summary.read_bytes() == b"short"


def test_events_keep_their_order_through_a_kill(folder: RunFolder) -> None:
    folder.append_event("start", 0)
    with folder.events.open("ab") as file:
        file.write(b'{"time": "2026-')  # killed while writing
    folder.append_event("resume", 3, layout="data 2")
    assert [(e["event"], e["step"]) for e in folder.read_events()] == [("start", 0), ("resume", 3)]
    assert folder.read_events()[1]["layout"] == "data 2"
    assert folder.read_events()[1]["time"].endswith("+00:00")


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="runs_dir"):
        RunFolder(tmp_path / "file" / "run").create()

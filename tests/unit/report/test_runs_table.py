"""The runs table: what laws are fitted to."""

import csv
import json
from pathlib import Path

import pytest
from synthetic_runs import write_run

from isoflop.config.errors import UserError
from isoflop.report.gather import gather
from isoflop.report.runs_table import REQUIRED, write_runs_table


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_run(tmp_path, ["seed=3", "monitor.group=ladder", "optimizer.lr=1e-3"], steps=20)
    write_run(tmp_path, ["seed=4", "optimizer=lion", "schedule=wsd"], steps=300)
    return tmp_path


def ignore(message: str) -> None:
    """For tables whose warnings are not the point."""


def test_csv_has_raw_counts(root: Path) -> None:
    assert write_runs_table(gather([root], ignore), root / "runs.csv", ignore) == 2
    with (root / "runs.csv").open() as file:
        rows = {row["seed"]: row for row in csv.DictReader(file)}
    assert list(rows["3"])[:5] == list(REQUIRED)
    folders = {run.config["seed"]: run.folder for run in gather([root], ignore)}
    for seed, row in rows.items():
        last = folders[int(seed)].read_metrics()[-1]
        summary = json.loads(folders[int(seed)].summary.read_text())
        assert row["run_id"] == summary["run_id"]
        assert int(row["n_params"]) == summary["n_params"]
        assert int(row["n_params_non_embed"]) == summary["n_params_non_embed"]
        assert int(row["tokens"]) == last["tokens"]
        assert float(row["loss"]) == last["loss"]
        assert float(row["flops"]) == last["flops"]
        assert int(row["step"]) == last["step"]
    assert (rows["3"]["lr"], rows["3"]["group"], rows["3"]["schedule"]) == ("0.001", "ladder", "cosine")
    assert (rows["4"]["optimizer"], rows["4"]["group"], rows["4"]["schedule"]) == ("lion", "", "wsd")
    for row in rows.values():  # what the config leaves to the length of the run is filled in
        length = int(row["step"]) * 16384
        assert int(row["warmup_tokens"]) == length // 20
        decay = length // 5 if row["schedule"] == "wsd" else length - length // 20
        assert int(row["decay_tokens"]) == decay
    assert (rows["3"]["batch_tokens"], rows["3"]["seq_len"], rows["3"]["vocab"]) == ("16384", "256", "4096")
    assert rows["3"]["unique_tokens"] == str(20 * 16384)  # once through a part of the data
    assert rows["4"]["unique_tokens"] == "4210331"  # all of it, more than once


def test_the_three_formats_say_the_same(root: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    runs = gather([root], ignore)
    for ending in ("jsonl", "parquet"):
        write_runs_table(runs, root / f"runs.{ending}", ignore)
    lines = [json.loads(line) for line in (root / "runs.jsonl").read_text().splitlines()]
    assert parquet.read_table(root / "runs.parquet").to_pylist() == lines
    assert [line["loss"] for line in lines] == [run.final_loss for run in runs]


def test_an_unfinished_run_says_why_it_does_not_count(root: Path) -> None:
    failed = write_run(root, ["seed=5"], steps=10, status="failed")
    write_runs_table(gather([root], ignore), root / "runs.jsonl", ignore)
    rows = {row["run_id"]: row for row in map(json.loads, (root / "runs.jsonl").read_text().splitlines())}
    run_id = json.loads(failed.summary.read_text())["run_id"]
    assert rows[run_id]["excluded_reason"] == "status is failed"
    assert [row["excluded_reason"] for key, row in rows.items() if key != run_id] == [None, None]


def test_evaluations_get_their_columns(root: Path) -> None:
    folder = gather([root], ignore)[0].folder
    rows = folder.read_metrics()
    rows[9]["eval/docs/bpb"] = 1.5
    rows[19] |= {"eval/docs/bpb": 1.25, "eval/arc/acc": 0.5}
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_runs_table(gather([folder.path], ignore), root / "runs.jsonl", ignore)
    row = json.loads((root / "runs.jsonl").read_text())
    assert (row["bpb/docs"], row["acc/arc"]) == (1.25, 0.5)


def test_a_run_without_its_summary_is_left_out_by_name(root: Path) -> None:
    folder = gather([root], ignore)[0].folder
    folder.summary.unlink()
    warnings: list[str] = []
    assert write_runs_table(gather([root], ignore), root / "runs.csv", warnings.append) == 1
    assert warnings == [f"left out: {folder.path}: has no n_params, n_params_non_embed"]
    with pytest.raises(UserError, match="no run has run_id"):
        write_runs_table(gather([folder.path], ignore), root / "none.csv", ignore)
    assert not (root / "none.csv").exists()


def test_another_ending_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match="ends in none of"):
        write_runs_table(gather([root], ignore), root / "runs.xlsx", ignore)

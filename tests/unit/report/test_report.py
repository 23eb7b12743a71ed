"""The report says what the run folders say."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import ENTROPY_NATS, MANIFEST, write_run, write_study

from isoflop.config.errors import UserError
from isoflop.monitor.folder import RunFolder, metrics_line
from isoflop.report.agreement import Agreement, agreements
from isoflop.report.figures import log_ticks
from isoflop.report.gather import Run, gather
from isoflop.report.ladder import find_ladder
from isoflop.report.page import charts, write_report
from isoflop.report.series import smoothed, thinned

np = pytest.importorskip("numpy")
pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_study(root)
    return root


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    path, notes = write_report([study], None, None)
    assert path == study / "report.html"
    assert notes == []
    return path.read_text()


def embedded(page: str, element: str) -> Any:
    (text,) = re.findall(rf'<script id="{element}" type="application/json">(.*?)</script>', page)
    return json.loads(text, parse_constant=pytest.fail)


def quiet(message: str) -> None:
    """For runs whose warnings are not the point."""


def test_every_number_is_the_run_folders(page: str, study: Path) -> None:
    shown = {run["folder"]: run for run in embedded(page, "isoflop-data")["runs"]}
    folders = [RunFolder(path) for path in study.iterdir() if path.is_dir()]
    assert len(folders) == 11
    assert set(shown) == {str(folder.path) for folder in folders}
    for folder in folders:
        run, rows = shown[str(folder.path)], folder.read_metrics()
        summary = json.loads(folder.summary.read_text())
        assert run["metrics"] == {name: [row[name] for row in rows] for name in rows[0]}
        for name in ("run_id", "status", "n_params", "tokens", "flops", "final_loss"):
            assert run[name] == summary[name]
        speeds = sorted(row["tokens_per_second"] for row in rows[1:])
        middle = (speeds[(len(speeds) - 1) // 2] + speeds[len(speeds) // 2]) / 2
        assert run["tokens_per_second"] == pytest.approx(middle, rel=1e-12)
        assert run["memory_bytes"] == max(row["memory_bytes"] for row in rows)


def test_the_page_needs_nothing_else(page: str) -> None:
    """No element of ours loads anything; what plotly.js itself could load (maps) is not used."""
    ours = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", ours)
    assert "@import" not in ours
    assert "url(" not in ours
    assert page.count("plotly.js v") == 1


def test_the_page_shows_data_and_provenance(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page.split("<main>")[1].split("</main>")[0])
    for expected in (
        f"{MANIFEST['total_tokens']:,}",
        MANIFEST["licence"],
        "docs-bpe-4096",
        "symbol ratio 121",
        "near duplicate 403",
        f"{ENTROPY_NATS:.4f}",
        "3b7f8c90d1",
        "node-17",
        "model.n_layers",
        "torch 2.13.0+cpu",
    ):
        assert expected in text


def test_charts_are_valid_and_have_their_lines(study: Path) -> None:
    from plotly import graph_objects

    runs = gather([study], quiet)
    drawn = charts(runs, agreements(runs), ["#000"] * len(runs))
    assert {"loss-tokens", "loss-flops", "agreement-0", "ladder-params", "ladder-flops", "memory"} <= set(
        drawn
    )
    for figure in drawn.values():
        graph_objects.Figure(figure)  # raises on a property that plotly does not know
    (entropy,) = (t for t in drawn["loss-tokens"]["data"] if "text" in t)
    assert entropy["y"] == [ENTROPY_NATS] * 2
    assert "unigram entropy" in entropy["text"][1]
    (tolerance,) = (t for t in drawn["agreement-0"]["data"] if "text" in t)
    assert tolerance["y"] == [1e-5] * 2
    assert {t["name"] for t in drawn["ladder-params"]["data"]} == {
        "820 k tokens",
        "1.6 M tokens",
        "3.3 M tokens",
    }


def pair_of(root: Path, noise: float, at_step: int, steps: int = 40, *more: str) -> Agreement:
    common = ["name=debug", "train.microbatch_sequences=4", *more]
    write_run(root, common, steps=steps)
    write_run(root, [*common, "parallel=2x2x2"], steps=steps, noise=lambda step: noise * (step == at_step))
    (pair,) = agreements(gather([root], quiet))
    return pair


def edited(pair: Agreement, root: Path, step: int, metric: str, factor: float) -> Agreement:
    """The pair again, after one number of the other run was multiplied."""
    rows = pair.other.folder.read_metrics()
    rows[step - 1][metric] *= factor
    pair.other.folder.metrics.write_bytes(b"".join(map(metrics_line, rows)))
    (again,) = agreements(gather([root], quiet))
    return again


def test_layouts_that_train_the_same_run_agree(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, noise=4e-6, at_step=20)
    assert pair.agrees is True
    assert (pair.reference.layout, pair.other.layout) == ("one rank", "data 2 × tensor 2 × pipeline 2")
    assert pair.loss.max() == pytest.approx(4e-6, rel=1e-6)
    assert pair.steps[pair.loss.argmax()] == 20
    assert "same run: every difference is within 1e-5" in pair.verdict


def test_one_loss_out_of_tolerance_turns_the_verdict(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, noise=4e-5, at_step=20)
    assert pair.agrees is False
    assert pair.first_apart == 20
    assert "same run for 19 steps, then part: at step 20 the loss by 4.0e-5" in pair.verdict
    path, _ = write_report([tmp_path], None, None)
    (told,) = embedded(path.read_text(), "isoflop-data")["agreement"]
    assert told["agrees"] is False
    assert told["max_loss_difference"] == pytest.approx(4e-5, rel=1e-4)


def test_a_gradient_norm_out_of_tolerance_turns_it_too(tmp_path: Path) -> None:
    pair = edited(pair_of(tmp_path, noise=0.0, at_step=0), tmp_path, 7, "grad_norm", 1 + 3e-5)
    assert pair.agrees is False
    assert pair.first_apart == 7


def test_float64_is_held_to_more(tmp_path: Path) -> None:
    assert pair_of(tmp_path, 1e-7, 20, 40, "precision=fp64").agrees is False


def test_bfloat16_and_short_runs_are_left_open(tmp_path: Path) -> None:
    assert pair_of(tmp_path / "low", 1e-3, 20, 40, "precision=bf16").agrees is None
    assert pair_of(tmp_path / "short", 0.0, 0, 9).agrees is None


def test_not_a_number_is_not_agreement(tmp_path: Path) -> None:
    pair = edited(pair_of(tmp_path, noise=0.0, at_step=0), tmp_path, 5, "loss", math.nan)
    assert pair.agrees is False
    assert pair.first_apart == 5


def test_another_seed_is_another_experiment(tmp_path: Path) -> None:
    write_run(tmp_path, ["seed=1"])
    write_run(tmp_path, ["seed=2", "parallel=data2"])
    assert agreements(gather([tmp_path], quiet)) == []


def test_isoflop_budgets_are_found_as_such() -> None:
    def run(size: int, flops: float) -> Run:
        rows = [{"step": 1, "tokens": int(flops / (6 * size)), "flops": flops, "loss": 3.0}]
        return Run(RunFolder("x"), {}, rows, {"status": "finished", "n_params": size})

    ladder = find_ladder(
        [run(size, flops) for size in (10**6, 2 * 10**6, 5 * 10**6) for flops in (1e15, 1.003e15, 4e15)]
    )
    assert ladder is not None
    assert [(label, len(runs)) for label, runs in ladder.groups] == [("1.0e15 FLOPs", 6), ("4.0e15 FLOPs", 3)]
    assert find_ladder([run(10**6, 1e15), run(2 * 10**6, 1e15)]) is None


def test_labels_tell_runs_apart(study: Path) -> None:
    labels = [run.label for run in gather([study], quiet)]
    assert len(set(labels)) == 11
    assert "debug · data 2 × tensor 2 × pipeline 2" in labels
    assert "ladder · 836.4 k params · 1.64 M tokens" in labels


def test_thinning_keeps_ends_and_spikes() -> None:
    values = np.sin(np.arange(50_000) / 3000)
    values[31_234] = 40.0
    values[123] = np.nan
    kept = thinned(values, most=1000)
    assert len(kept) <= 1002
    assert (np.diff(kept) > 0).all()
    assert {0, 31_234, 49_999} <= set(kept.tolist())


def test_smoothing_is_the_mean_of_a_window_in_proportion() -> None:
    along = np.arange(1.0, 401.0)
    noisy = 3 + np.random.default_rng(0).normal(size=400)
    noisy[50] = np.nan
    by_hand = [np.nanmean([v for x, v in zip(along, noisy) if t / 1.08 <= x <= t * 1.08]) for t in along]  # noqa: B905
    np.testing.assert_allclose(smoothed(noisy, along), by_hand, rtol=1e-12)


def test_log_ticks_cover_the_range() -> None:
    assert log_ticks(16_384, 3_276_800)[:4] == [10_000, 20_000, 50_000, 100_000]
    assert log_ticks(1e-9, 1e-3) == [float(f"1e{power}") for power in range(-9, -2)]


def test_a_run_without_its_papers_is_shown_with_notes(tmp_path: Path) -> None:
    folder = write_run(tmp_path, steps=30, status="running")
    folder.provenance.unlink()
    folder.config.write_text("a: [")
    folder.events.unlink()
    path, notes = write_report([folder.path], None, None)
    page = path.read_text()
    assert [note for note in notes if "provenance.json" in note]
    assert [note for note in notes if "config.yaml: cannot be read" in note]
    assert [note for note in notes if "not finished; it ends at step 30" in note]
    assert "No run recorded its data" in page
    assert all(note in page for note in notes)


def test_a_run_of_another_program_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "other-1").create()
    folder.metrics.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.5, "mine": 7}\n')
    folder.config.write_text("parallel: null\ntrain: null\n")
    folder.provenance.write_text('{"data": [{"path": "d", "manifest": {"licence": "MIT"}}]}')
    path, _ = write_report([folder.path], None, None)
    (run,) = embedded(path.read_text(), "isoflop-data")["runs"]
    assert (run["final_loss"], run["n_params"], run["metrics"]["mine"]) == (2.5, None, [None, 7])
    assert "did not record this dataset's manifest" in path.read_text()


def test_a_run_that_has_not_begun_is_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path, steps=30)
    folder.metrics.unlink()
    folder.summary.unlink()
    path, notes = write_report([folder.path], None, None)
    assert [note for note in notes if "no step was logged" in note]
    assert "No step was logged yet" in path.read_text()


def test_a_broken_run_is_left_out_by_name_and_alone_is_an_error(tmp_path: Path) -> None:
    broken = write_run(tmp_path, ["seed=1"])
    write_run(tmp_path, ["seed=2"])
    broken.metrics.write_text("@\n" + broken.metrics.read_text())
    _, notes = write_report([tmp_path], None, None)
    assert len(notes) == 1
    assert f"left out: {broken.metrics}: line 1 " in notes[0]
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1 "):
        write_report([broken.path], None, None)


def test_no_run_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        write_report([tmp_path / "nowhere"], None, None)
    with pytest.raises(UserError, match="holds no run"):
        write_report([tmp_path], None, None)


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path, steps=5)
    shutil.move(folder.path, tmp_path / "x<b>&-1")
    folder = RunFolder(tmp_path / "x<b>&-1")
    folder.append_event("fail", 5, cause="</script><script>alert(1)</script>")
    summary = json.loads(folder.summary.read_text())
    folder.summary.write_text(json.dumps(summary | {"run_id": "</script><b>"}))
    path, _ = write_report([folder.path], tmp_path / "out.html", "a <i> title")
    page = path.read_text()
    assert embedded(page, "isoflop-data")["runs"][0]["run_id"] == "</script><b>"
    assert "<script>alert" not in page
    assert "<title>a &lt;i&gt; title</title>" in page

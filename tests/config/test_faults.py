"""A faulty configuration is answered whole: every fault, in the user's words, exit code 2, no traceback."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import command

from isoflop.config.base import UserError
from isoflop.config.compose import CONFIGS

ROOT = CONFIGS.parent


def test_five_faults_of_five_kinds_at_once() -> None:
    words = "optimizr=lion parallel.tensor=5 model.n_layers=abc train.tokens=1e3 optimizer.lr=-1"
    ended = subprocess.run(
        [sys.executable, "launch/train.py", *words.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == (
        "config: 5 faults\n"
        "  optimizr=lion       unknown key; did you mean `optimizer`?\n"
        "  parallel.tensor=5   does not divide model.n_heads=6, model.n_kv_heads=2 and 2 more; 1, 2 do\n"
        "  model.n_layers=abc  must be a whole number\n"
        "  train.tokens=1e3    is less than one step: train.global_batch_tokens is 16,384\n"
        "  optimizer.lr=-1     must be greater than 0\n"
    )
    assert ended.returncode == 2
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("words", "faults"),
    [
        ("model=debgu", ["model=debgu  no such option; did you mean `debug`?"]),
        ("+model=debug", ["+model=debug  is chosen already; write model=debug"]),
        ("model=null", ["model=null  no such option"]),
        ("~model", ["model.n_layers  is missing", "model.width  is missing", "model.n_heads  is missing"]),
        ("+model.n_layer=2", ["model.n_layer=2  unknown key; did you mean `n_layers`?"]),
        ("++optimizer.beta=2", ["optimizer.beta=2  unknown key; did you mean `betas`?"]),
        ("lr=1", ["lr=1  unknown key; did you mean `optimizer.lr`?"]),
        ("~train.setps", ["~train.setps  unknown key; did you mean `train.steps` or "]),
        (
            "train.setps=5 optimizer.lr=1e",
            ["train.setps=5  unknown key; did you mean `train.steps`", "optimizer.lr=1e  must be a number"],
        ),
        ("optimizer.betas=[0.9,1.5]", ["optimizer.betas.1=1.5  must be less than 1"]),
        ("optimizer.betas=[0.9]", ["optimizer.betas.1  is missing"]),
        ("optimizer.name=loin", ["optimizer.name=loin  unknown name; did you mean `lion`?"]),
        ("train.steps=true", ["train.steps=true  must be a number"]),
        ("train.steps=1.5", ["train.steps=1.5  must be a whole number"]),
        ("train.seq_len=null", ["train.seq_len=null  must be a whole number"]),
        ("train=5", ["train=5  must be a group of keys: steps, tokens, "]),
        ("model.tied=maybe", ["model.tied=maybe  must be true or false"]),
        ("model.norm=rmsnrom", ["model.norm=rmsnrom  must be rmsnorm or layernorm; did you mean `rmsnorm`?"]),
        ("monitor.tags=x", ["monitor.tags=x  must be a list"]),
        ("name=a/b", ["name=a/b  must match pattern"]),
        ("optimizer.lr=inf", ["optimizer.lr=inf  must be a finite number"]),
        (
            "data.path=null data.mixture=[{path:a,weigth:1}]",
            ["data.mixture.0.weigth=1  unknown key; did you mean", "data.mixture.0.weight  is missing"],
        ),
        ("seed=1,2", ["seed=1,2  is several values; add -m to sweep over them, or write [1,2] for a list"]),
        ("data.path=[1", ["data.path=[1  cannot be read; an override is key=value"]),
        ("experiment=ladder", ["experiment=ladder  sweeps over model, train.tokens; add -m to run it"]),
        ("--config-name=trian", ["configs  cannot be composed: Cannot find primary config 'trian'"]),
    ],
)  # fmt: skip
def test_each_fault_has_its_words(words: str, faults: list[str]) -> None:
    ended = command(words)
    assert ended.code == 2
    shown = [re.sub("  +", "  ", line).strip() for line in ended.err.splitlines()[1:]]
    assert [line for fault in faults for line in shown if line.startswith(fault)] == shown[: len(faults)]
    assert ended.err.startswith(f"config: {len(shown)} fault")
    assert "Traceback" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("train.seq_len=255", "train.global_batch_tokens"),
        ("model.n_heads=5", "model.width"),
        ("model.n_kv_heads=4", "model.n_kv_heads"),
        ("model.d_head=15", "model.d_head"),
        ("model.positions=sinusoidal model.width=97 model.d_head=16", "model.width"),
        ("model.positions=learned model.max_seq_len=128", "train.seq_len"),
        ("model.attention=flash", "model.attention"),
        ("parallel.tensor=3", "parallel.tensor"),
        ("parallel.pipeline=8", "parallel.pipeline"),
        ("parallel.pipeline=2 train.microbatch_sequences=64", "parallel.pipeline"),
        ("parallel.pipeline=2 parallel.stages_per_rank=2", "parallel.stages_per_rank"),
        ("parallel.pipeline=2 parallel.pipeline_schedule=interleaved", "parallel.stages_per_rank"),
        ("parallel.pipeline_schedule=interleaved parallel.stages_per_rank=2", "parallel.pipeline_schedule"),
        (
            "parallel.pipeline=3 parallel.pipeline_schedule=interleaved parallel.stages_per_rank=2",
            "parallel.pipeline",
        ),
        ("parallel.data=3", "train.global_batch_tokens"),
        ("parallel.context=3", "train.seq_len"),
        ("parallel.expert=2", "parallel.expert"),
        ("model=moe-debug parallel.expert=2", "parallel.expert"),
        ("model=moe-debug parallel.expert=3 parallel.data=3", "parallel.expert"),
        ("model=moe-debug parallel.expert=4 parallel.data=4 parallel.replicas=2", "parallel.expert"),
        (
            "model=moe-debug model.moe.n_experts=2 model.moe.d_ff=7 model.width=102 parallel.expert=2 "
            "parallel.data=8 train.microbatch_sequences=1",
            "parallel.expert",
        ),
        ("model=moe-debug model.moe.d_ff=97 parallel.tensor=2", "parallel.tensor"),
        ("model.moe={n_experts:4,top_k:5}", "model.moe.top_k"),
        ("model.moe={n_experts:4,top_k:2,every:5}", "model.moe.n_dense_layers"),
        ("train.steps=5 train.tokens=1000000", "train.steps"),
        ("train.tokens=16383", "train.tokens"),
        ("data.path=null", "data.path"),
        ("data.mixture=[{path:a,weight:1}]", "data.path"),
    ],
)
def test_rules_across_fields(words: str, key: str) -> None:
    ended = command(words)
    assert ended.code == 2
    assert key in {line.split()[0].partition("=")[0] for line in ended.err.splitlines()[1:]}


@pytest.mark.parametrize(
    "words",
    [
        "train.tokens=16384",
        "parallel.tensor=2 parallel.pipeline=4",
        "parallel.pipeline=2 parallel.pipeline_schedule=interleaved parallel.stages_per_rank=2",
        "parallel.pipeline=2 train.microbatch_sequences=32",
        "model.positions=learned model.max_seq_len=256",
        "data.path=null data.mixture=[{path:a,weight:1},{path:b,weight:2}]",
        "model.d_head=32",
        "model=moe-debug parallel.data=4 parallel.expert=2",
        "model=moe-debug parallel.data=4 parallel.expert=4 parallel.shard=none",
        "name=2026",
    ],
)
def test_what_the_rules_allow(words: str) -> None:
    ended = command(words)
    assert (ended.code, ended.err) == (0, "")


def test_a_rule_says_nothing_of_a_field_that_is_wrong_itself() -> None:
    """Nothing is said of the heads of a width that is not a number; other rules still are tried."""
    faults = command("model.width=wide model.n_heads=7 train.tokens=5").err.splitlines()[1:]
    assert [line.split()[0] for line in faults] == [
        "model.width=wide",
        "train.tokens=5",
        "model.n_kv_heads=2",
    ]


def test_a_fault_inside_a_file_is_found(tmp_path: Path) -> None:
    configs = _copied_configs(tmp_path)
    size = configs / "model" / "debug.yaml"
    size.write_text(size.read_text() + "n_layer: 3\nnorm_eps: tiny\n")
    faults = command("", configs=configs).err
    assert "model.n_layer=3      unknown key; did you mean `n_layers`?" in faults
    assert "model.norm_eps=tiny  must be a number" in faults


@pytest.mark.parametrize(
    "text", ["n_layers: [", "n_layers: 1\nn_layers: 2\n", "defaults: [nowhere]\n", "n_layers: ${a.b}\n"]
)
def test_a_broken_file_is_named_without_a_traceback(tmp_path: Path, text: str) -> None:
    configs = _copied_configs(tmp_path)
    (configs / "model" / "debug.yaml").write_text(text)
    ended = command("", configs=configs)
    assert ended.code == 2
    assert ended.err.startswith("config: 1 fault\n  configs  cannot be composed: ")
    assert len(ended.err.splitlines()) == 2


def test_a_sweep_names_the_point_before_any_has_run(tmp_path: Path) -> None:
    ended = command(f"-m runs_dir={tmp_path} optimizer.lr=1e-3,-1 train.steps=1,2")
    assert ended.code == 2
    assert ended.out == ""
    assert (
        "optimizer.lr=-1  must be greater than 0 (sweep point optimizer.lr=-1 train.steps=1 and 1 more, of 4)"
        in ended.err
    )
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_names_an_option_that_is_none() -> None:
    assert "model=debgu  no such option; did you mean `debug`?" in command("-m model=debug,debgu").err


def test_an_experiment_can_be_a_sweep(tmp_path: Path) -> None:
    ended = command(f"experiment=ladder -m runs_dir={tmp_path}")
    assert ended.code == 0
    assert len([line for line in ended.out.splitlines() if line.startswith("ladder ")]) == 6
    faulty = command(f"experiment=ladder -m runs_dir={tmp_path} parallel.tensor=2")
    assert "model.n_heads=3" in faulty.err
    assert "(sweep point model=ladder-s train.tokens=196608 and 1 more, of 6)" in faulty.err


def test_a_point_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    def task(composed: dict[str, int], overrides: list[str]) -> None:
        if composed["seed"] == 2:
            raise UserError("datasets/docs: has no manifest.json")
        print("ran", composed["seed"])

    ended = command(f"-m runs_dir={tmp_path} seed=1,2,3", task)
    assert ended.code == 1
    assert [line for line in ended.out.splitlines() if line.startswith("ran")] == ["ran 1", "ran 3"]
    assert ended.err == f"runs_dir={tmp_path} seed=2: datasets/docs: has no manifest.json\n"


def test_only_the_first_rank_speaks_of_what_all_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    ended = command("train.steps=0")
    assert (ended.code, ended.err) == (2, "")


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    def task(composed: dict[str, int], overrides: list[str]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command("", task)


def _copied_configs(folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(CONFIGS, folder / "configs"))

"""The whole way as a person goes it: train, `isoflop export`, `isoflop import`, train on from there."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
import yaml
from helpers import random_documents, write_dataset
from programs import read_rows
from runs_here import train_here
from safetensors.torch import load_file

from isoflop.cli import main
from isoflop.config.load import read_run_config
from isoflop.config.schema import ModelConfig


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def isoflop(*words: object) -> Ended:
    """The program, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["isoflop", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=6))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ("train.steps=2", "checkpoint.every=1", "model.rope_theta=5000", "model.qk_norm=true")
    return train_here(data, tmp_path_factory.mktemp("runs"), *words)


def test_there_and_back(data: Path, trained: Path, tmp_path: Path) -> None:
    """A run exported, imported and begun with has the model, the weights and the tokenizer that it had."""
    hf, imported = tmp_path / "hf", tmp_path / "imported"
    done = isoflop("export", trained, "--out", hf, "--shard-bytes", 50_000)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.splitlines() == [str(hf)]
    assert len(list(hf.glob("model-*.safetensors"))) > 1
    assert (hf / "tokenizer.json").read_bytes() == (data / "tokenizer.json").read_bytes()
    done = isoflop("import", hf, "--into", imported)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.splitlines()[-1] == str(imported)
    assert f"init_from={imported}" in done.stdout
    before = read_run_config(trained / "config.yaml").model
    after = ModelConfig(**yaml.safe_load((imported / "model.yaml").read_text()))
    assert after.model_copy(update={"max_seq_len": before.max_seq_len, "document_mask": True}) == before
    same = ("train.steps=1", "model.rope_theta=5000", "model.qk_norm=true", "optimizer.lr=1e-30")
    begun = [
        train_here(data, tmp_path / name, *same, f"init_from={at}")
        for name, at in (("a", imported), ("b", trained))
    ]
    assert read_rows(begun[0])[0]["loss"] == read_rows(begun[1])[0]["loss"]
    assert isoflop("export", begun[0], "--out", tmp_path / "again", "--shard-bytes", 50_000).returncode == 0
    for file in hf.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_step_and_a_format_are_chosen(trained: Path, tmp_path: Path) -> None:
    words = ("--step", "1", "--dtype", "bfloat16", "--tokenizer", tmp_path)
    done = isoflop("export", trained, "--out", tmp_path / "hf", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: no tokenizer: ")
    assert isoflop("export", trained, "--out", tmp_path / "last").returncode == 0
    first, last = (load_file(tmp_path / name / "model.safetensors") for name in ("hf", "last"))
    assert {str(tensor.dtype) for tensor in first.values()} == {"torch.bfloat16"}
    name = "model.layers.0.mlp.up_proj.weight"
    assert not first[name].equal(last[name].bfloat16())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("export", "nowhere", "--out", "hf"), "nowhere: there is no such folder"),
        (("import", "nowhere", "--into", "x"), "nowhere/config.json: there is no such file"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], named: str) -> None:
    done = isoflop(*words)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert named in line


def test_a_step_that_is_gone_is_named(trained: Path, tmp_path: Path) -> None:
    done = isoflop("export", trained, "--out", tmp_path / "hf", "--step", "7")
    assert done.returncode == 1
    assert "has no complete checkpoint of step 7; of 1, 2 it has" in done.stderr


@pytest.mark.parametrize("verb", ["export", "import"])
def test_help_needs_no_torch(verb: str) -> None:
    program = (
        "import sys, isoflop.cli\n"
        f"sys.argv = ['isoflop', {verb!r}, '--help']\n"
        "try: isoflop.cli.main()\n"
        "except SystemExit as leaving: assert leaving.code == 0\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'transformers', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

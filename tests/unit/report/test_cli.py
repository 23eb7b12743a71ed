"""The `isoflop` program as it is called."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_runs import write_run

from isoflop.config.jsonschema import run_schema


def isoflop(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    program = "from isoflop.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True)


def test_the_last_line_is_the_reports_path(tmp_path: Path) -> None:
    folder = write_run(tmp_path, steps=12)
    done = isoflop("report", folder.path, "--out", tmp_path / "deep" / "page.html", "--title", "Mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(tmp_path / "deep" / "page.html")
    assert "<title>Mine</title>" in (tmp_path / "deep" / "page.html").read_text()


def test_runs_writes_a_table(tmp_path: Path) -> None:
    write_run(tmp_path, steps=12)
    done = isoflop("runs", tmp_path, "--out", tmp_path / "runs.csv")
    assert (done.returncode, done.stdout.splitlines()) == (0, ["1 run", str(tmp_path / "runs.csv")])


@pytest.mark.parametrize("words", [["report", "nowhere"], ["runs", "nowhere", "--out", "runs.csv"]])
def test_a_mistake_is_one_line(words: list[str]) -> None:
    done = isoflop(*words)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "nowhere: there is no such folder; give a run folder, or a folder of them"
    ]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, isoflop.cli\n"
        "sys.argv = ['isoflop', 'report', '--help']\n"
        "try: isoflop.cli.main()\n"
        "except SystemExit as leaving: assert leaving.code == 0\n"
        "heavy = {'torch', 'numpy', 'plotly', 'wandb', 'hydra', 'jinja2', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    folder = write_run(tmp_path, steps=12)
    program = (
        "import sys\nfrom pathlib import Path\nfrom isoflop.report.page import write_report\n"
        f"write_report([Path({str(folder.path)!r})], None, None)\n"
        "assert 'torch' not in sys.modules and 'wandb' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_schema_is_the_configs_own() -> None:
    """`isoflop schema` prints the JSON schema that a composed run validates against, without torch."""
    done = isoflop("schema")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == run_schema()

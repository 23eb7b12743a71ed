"""`--help`, `--cfg job` and an answer to a faulty command line never wait for torch or its like."""

import subprocess
import sys

import pytest
from command_line import program_names

from isoflop.config.compose import CONFIGS

HEAVY = {"torch", "numpy", "wandb", "datatrove", "transformers", "tokenizers", "plotly", "scipy", "pandas"}

# Runs the program as `python launch/<name>.py` would, then tells what it had imported.
WATCHED = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = "launch"
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code
else:
    code = 0
print("imported:", code or 0, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported(name: str, *words: str) -> tuple[int, set[str]]:
    command = [sys.executable, "-c", WATCHED, f"launch/{name}.py", *words]
    ended = subprocess.run(command, cwd=CONFIGS.parent, capture_output=True, text=True, check=True)
    _, code, *modules = ended.stderr.splitlines()[-1].split()
    assert "hydra" in modules, ended.stderr  # the hook does see imports
    return int(code), set(modules)


@pytest.mark.parametrize("name", program_names())
@pytest.mark.parametrize("words", ["--help", "--cfg job", "--info defaults"])
def test_a_question_is_answered_without_heavy_imports(name: str, words: str) -> None:
    code, modules = imported(name, *words.split())
    assert code == 0
    assert not modules & (HEAVY | {"pydantic"})


@pytest.mark.parametrize("words", ["model=debgu", "optimizer.lr=-1 modle=x", "-m optimizer.lr=1,-1"])
def test_a_fault_is_answered_without_heavy_imports(words: str) -> None:
    """Validation needs pydantic and the optimizers' configs, not the optimizers."""
    code, modules = imported("train", *words.split())
    assert code == 2
    assert "pydantic" in modules
    assert not modules & HEAVY

"""Every program of docs/upstream.md still shows the fault that it is there for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from programs import environment

PAGE = Path(__file__).parents[2] / "docs" / "upstream.md"
SECTIONS = PAGE.read_text().split("\n## ")[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition(":")[0])
def test_a_program_still_shows_its_fault(section: str, tmp_path: Path) -> None:
    """Else the dependency has been mended, and what we do about it can go, from the page and the code."""
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    script = tmp_path / "program.py"
    script.write_text(program)
    launcher = [sys.executable]
    if "torchrun" in section:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    done = subprocess.run(
        [*launcher, str(script)], capture_output=True, text=True, env=environment(), timeout=300
    )
    said = (done.stdout + done.stderr).splitlines()
    for line in shown.strip().splitlines():
        assert any(line in one for one in said), said[-20:]

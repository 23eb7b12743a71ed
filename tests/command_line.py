"""A program's command line, run in this process: what it printed and its exit code."""

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import yaml

from isoflop.config.compose import CONFIGS, program
from isoflop.config.load import load_run


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def command(words: str, task: Callable[..., None] | None = None, configs: Path = CONFIGS) -> Ended:
    """`python launch/train.py <words>`; without a `task` it only validates and prints the run's name."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["train.py", *words.split()]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            program("train", task or _validate, configs)
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def _validate(composed: dict[str, Any], overrides: list[str]) -> None:
    print(load_run(composed).name, *overrides)


def program_names() -> list[str]:
    """Every program that has a root in configs/."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def groups_of(name: str) -> list[str]:
    """The groups that a program chooses from."""
    defaults = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["defaults"]
    groups = [group for item in defaults if isinstance(item, dict) for group in item]
    return [group for group in groups if not group.startswith("override ")]


def options_of(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))

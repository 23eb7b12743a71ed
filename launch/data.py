"""Curate: text in, token dataset out. `python launch/data.py --help` lists the keys."""

from typing import Any

from isoflop.config.compose import program


def main(composed: dict[str, Any], overrides: list[str]) -> None:
    import sys
    from pathlib import Path

    from isoflop.config.pipeline import load_pipeline

    config = load_pipeline(composed)
    sys.path.insert(0, str(Path(__file__).parents[1]))  # the recipes stand beside this folder
    from data_pipelines.fineweb import recipe
    from isoflop.curate.build import build

    build(config, recipe)


if __name__ == "__main__":
    program("data", main)

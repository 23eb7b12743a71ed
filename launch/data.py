"""Curate: text in, token dataset out. `python launch/data.py --help` lists the keys."""

from typing import Any

from isoflop.config.compose import program


def main(composed: dict[str, Any], overrides: list[str]) -> None:
    import sys
    from importlib import import_module
    from pathlib import Path

    from isoflop.config.curation.run import load_curation

    config = load_curation(composed)
    sys.path.insert(0, str(Path(__file__).parents[1]))  # the recipes stand beside this folder
    from isoflop.curate.build import build

    build(config, import_module(f"data_pipelines.{config.pipeline.name}").recipe)


if __name__ == "__main__":
    program("data", main)

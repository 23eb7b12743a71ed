"""Train: compose, preflight, hand over. `python launch/train.py --help` lists the groups."""

from typing import Any

from isoflop.config.compose import program


def main(composed: dict[str, Any], overrides: list[str]) -> None:
    from isoflop.engine.launch import train

    train(composed, overrides)


if __name__ == "__main__":
    program("train", main)

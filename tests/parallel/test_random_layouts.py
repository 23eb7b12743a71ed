"""Layouts and models drawn at random, with sizes that do not divide evenly wherever that is allowed."""

import random
from pathlib import Path

import matrix
import pytest
from experiments import Case, Curve, relative_difference, run_cases, tiny
from helpers import random_documents, write_dataset

from isoflop.config.base import ConfigError
from isoflop.engine.capabilities import refusals

DRAWS = range(8)
TOLERANCE = 1e-9  # float64


def drawn(seed: int) -> tuple[Case, Case]:
    """A run in one process and the same run in a layout, both drawn from `seed`; redrawn where refused."""
    draw = random.Random(seed)
    while True:
        picks = tuple(draw.choice(list(options)) for options in matrix.CHOICES.values())
        cell = matrix.Cell(picks, draw.choice(list(matrix.MODELS)), "float64", "fresh")
        if not 2 <= cell.ranks <= matrix.MAX_RANKS:
            continue
        model = _model(draw, cell.model)
        try:
            config = tiny(Path("unread"), *cell.overrides, *model)
        except ConfigError:
            continue
        if list(refusals(config, "cpu")):
            continue
        one = (*matrix.MODELS[cell.model], "precision=fp64", *model)
        return Case(f"one-{seed}", one), Case(f"spread-{seed}", (*cell.overrides, *model))


def _model(draw: random.Random, kind: str) -> tuple[str, ...]:
    """Sizes that leave a rest over most degrees: layers, vocabulary, width over the data axis."""
    d_head = 2 * draw.randint(2, 5)
    chosen = {
        "model.n_layers": draw.randint(4, 7),
        "model.n_heads": 4,
        "model.n_kv_heads": draw.choice((4, 4, 2)),
        "model.d_head": d_head,
        "model.width": draw.randint(17, 45),
        "model.d_ff": 4 * draw.randint(5, 20),
        "model.vocab_size": draw.randint(257, 300),
        "model.tied": draw.choice(("true", "false")),
        "model.qk_norm": draw.choice(("false", "head")),
        "model.z_loss": draw.choice((0.0, 0.001)),
    }
    if kind == "dense":
        chosen["model.norm"] = draw.choice(("rmsnorm", "layernorm"))
    return tuple(f"{key}={value}" for key, value in chosen.items())


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curve | str]:
    folder: Path = tmp_path_factory.mktemp("random")
    data = write_dataset(folder / "data", random_documents(300, seed=1))
    cases = [case for seed in DRAWS for case in drawn(seed)]
    return run_cases(cases, matrix.MAX_RANKS, folder / "results", data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", DRAWS)
def test_a_drawn_layout_is_the_same_run(curves: dict[str, Curve | str], seed: int) -> None:
    alone, spread = curves[f"one-{seed}"], curves[f"spread-{seed}"]
    told = drawn(seed)[1].overrides
    assert isinstance(alone, Curve), alone
    assert isinstance(spread, Curve), (told, spread)
    assert relative_difference(spread.loss, alone.loss) < TOLERANCE, told
    assert relative_difference(spread.grad_norm, alone.grad_norm) < TOLERANCE, told


def test_draws_differ_and_are_uneven() -> None:
    """Different layouts, and widths that the ranks of the data axis do not divide."""
    layouts = {drawn(seed)[1].overrides for seed in DRAWS}
    assert len(layouts) == len(DRAWS)
    words = [word for layout in layouts for word in layout]
    assert any(word.startswith("model.width=") and int(word.partition("=")[2]) % 2 for word in words)
    assert any(word.startswith("model.vocab_size=") and int(word.partition("=")[2]) % 2 for word in words)

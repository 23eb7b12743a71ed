"""A run's id is the science: every field that a result depends on changes it, and nothing else does."""

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from isoflop.config.base import Config
from isoflop.config.compose import compose
from isoflop.config.identity import run_id
from isoflop.config.schema import RunConfig, optimizers

DATA = ["ab" * 32]
# What may differ between two runs of one experiment: cluster, monitor, paths, checkpoint cadence.
SAME_RUN = {"name", "runs_dir", "resume", "cluster", "monitor", "checkpoint", "data.path", "data.verify"}

ONE_VALUE = {"engine.name", "optimizer.name", "cluster.name"}  # Literals of one option


def leaves(config: Config, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


@cache
def run_with(optimizer: str) -> RunConfig:
    composed = compose("train", [f"optimizer={optimizer}", "model.d_head=16", "schedule=wsd"])
    return RunConfig.model_validate(composed)


LEAVES = [
    (optimizer, path)
    for optimizer in optimizers.names()
    for path in leaves(run_with(optimizer))
    if optimizer == "adamw" or path[0] == "optimizer"
]


@pytest.mark.parametrize(("optimizer", "path"), LEAVES, ids=[f"{o}-{'.'.join(p)}" for o, p in LEAVES])
def test_a_field_changes_the_id_if_and_only_if_it_changes_the_science(
    optimizer: str, path: tuple[str, ...]
) -> None:
    config = run_with(optimizer)
    others = list(_others(config, path))
    if ".".join(path) in ONE_VALUE:
        assert not others
        return
    ids = {run_id(other, DATA) for other in others}
    if path[0] in SAME_RUN or ".".join(path) in SAME_RUN:
        assert ids == {run_id(config, DATA)}
    else:
        assert run_id(config, DATA) not in ids
        assert len(ids) == len(others)


def test_the_order_of_keys_is_nothing() -> None:
    composed = compose("train")

    def turned(tree: Any) -> Any:
        return {key: turned(tree[key]) for key in reversed(tree)} if isinstance(tree, dict) else tree

    plain, reversed_ = (RunConfig.model_validate(tree) for tree in (composed, turned(composed)))
    assert list(turned(composed)) != list(composed)
    assert run_id(plain, DATA) == run_id(reversed_, DATA)


def test_a_number_is_the_same_however_it_is_written() -> None:
    short, long = (compose("train", [f"train.tokens={tokens}"]) for tokens in ("1e6", "1000000"))
    assert run_id(RunConfig.model_validate(short), DATA) == run_id(RunConfig.model_validate(long), DATA)


def test_data_is_its_content_and_not_its_place() -> None:
    here, there = (
        RunConfig.model_validate(compose("train", [f"data.path={p}"])) for p in ("datasets/a", "/big/disk/a")
    )
    assert run_id(here, DATA) == run_id(there, DATA)
    assert run_id(here, DATA) != run_id(here, ["cd" * 32])


def test_a_mixture_is_its_contents_and_weights_in_order() -> None:
    def mixed(*entries: tuple[str, float]) -> RunConfig:
        mixture = [{"path": path, "weight": weight} for path, weight in entries]
        return RunConfig.model_validate({**compose("train"), "data": {"mixture": mixture}})

    a, b = "ab" * 32, "cd" * 32
    first = run_id(mixed(("x", 1), ("y", 2)), [a, b])
    assert run_id(mixed(("elsewhere", 1), ("y", 2)), [a, b]) == first
    assert (
        len({first, run_id(mixed(("x", 1), ("y", 3)), [a, b]), run_id(mixed(("y", 2), ("x", 1)), [b, a])})
        == 3
    )


def test_a_single_path_is_a_mixture_of_one() -> None:
    single = RunConfig.model_validate(compose("train"))
    mixed = RunConfig.model_validate({**compose("train"), "data": {"mixture": [{"path": "p", "weight": 1}]}})
    assert run_id(single, DATA) == run_id(mixed, DATA)


def test_an_id_is_ten_hex_digits() -> None:
    assert len(run_id(run_with("adamw"), DATA)) == 10
    int(run_id(run_with("adamw"), DATA), 16)


def _others(config: RunConfig, path: tuple[str, ...]) -> Iterator[RunConfig]:
    """`config` with one field at other valid values."""
    tree = config.model_dump()
    place: Any = config
    for part in path[:-1]:
        place = getattr(place, part)
    field = type(place).model_fields[path[-1]]
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if get_origin(kind) is Literal]
    value = getattr(place, path[-1])
    candidates = [option for kind in kinds for option in get_args(kind)] or list(_near(value))
    for candidate in candidates:
        if candidate == value:
            continue
        changed = _replaced(tree, path, candidate)
        if path == ("data", "mixture"):
            changed["data"]["path"] = None
        with contextlib.suppress(ValidationError):  # of the right kind for another field only
            yield RunConfig.model_validate(changed)


def _near(value: Any) -> list[Any]:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 0.5 if value else 0.25]
    if isinstance(value, str):
        return [value + "x"]
    if isinstance(value, tuple) and value and isinstance(value[0], float):
        return [(value[0] * 0.5, *value[1:]), (*value[:-1], value[-1] * 0.5)]
    if value == ():
        stage = {"tokens": 4, "global_batch_tokens": 2}
        return [("word",), ({"path": "p", "weight": 2.0},), (stage,), (stage, stage)]
    # null stands for a number or a text (a number is also a text), or for a checkpoint of another run
    return [7, "runs/tiny-0123456789@12"]


def _replaced(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    if not path:
        return value
    return {**tree, path[0]: _replaced(tree[path[0]], path[1:], value)}

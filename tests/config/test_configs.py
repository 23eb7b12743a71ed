"""Every file in configs/ composes and validates, says its size, and leaves no key out of reach."""

import re
from collections.abc import Iterator
from functools import cache
from operator import attrgetter
from typing import Any

import pytest
import torch
import yaml
from command_line import groups_of, options_of, program_names

from isoflop.config.base import Config
from isoflop.config.compose import CONFIGS
from isoflop.config.compose import compose as compose_afresh
from isoflop.config.explain import load
from isoflop.config.load import load_run
from isoflop.config.schema import RunConfig, optimizers
from isoflop.model.decoder import Decoder
from isoflop.model.flops import n_params, n_params_non_embed

CHOICES = [
    (name, f"{group}={option}")
    for name in program_names()
    for group in groups_of(name)
    for option in options_of(group)
]
SIZES = options_of("model")
compose = cache(compose_afresh)  # nothing here changes what it is given


# What only a user can give: a profile that asks for it says so, and validates with it.
NEEDED = {"pipeline=fineweb-edu": ("pipeline.classifier.model=quality.bin",)}


def composed(name: str, *overrides: str) -> dict[str, Any]:
    return compose(name, overrides)


@pytest.mark.parametrize("name", program_names())
def test_a_program_composes_without_a_word(name: str) -> None:
    load(name, composed(name))


@pytest.mark.parametrize(("name", "choice"), CHOICES, ids=[" ".join(choice) for choice in CHOICES])
def test_an_option_composes_and_validates(name: str, choice: str) -> None:
    load(name, composed(name, choice, *NEEDED.get(choice, ())))


def test_every_file_is_in_a_group_of_a_program() -> None:
    files = {str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*/**/*.yaml")}
    assert files == {choice.replace("=", "/") for _, choice in CHOICES}


def test_every_file_is_short_and_says_what_it_is() -> None:
    for path in CONFIGS.rglob("*.yaml"):
        lines = path.read_text().splitlines()
        assert len(lines) < 40, path
        assert "# " in lines[0], path


@pytest.mark.parametrize("choice", [choice for name, choice in CHOICES if name == "train"])
def test_every_key_can_be_overridden_without_a_plus(choice: str) -> None:
    """Hydra refuses a key that no file mentions, so every field stands in some file."""
    tree = composed("train", choice)
    assert set(_leaves(RunConfig, tree)) <= set(_keys(tree))


def test_the_names_that_others_type() -> None:
    """Tools outside start runs with these keys; a rename would break them."""
    words = {"runs_dir": "elsewhere", "name": "n", "seed": 7, "train.steps": 3, "checkpoint.every": 4}
    words |= {"parallel.data": 2, "parallel.tensor": 2, "parallel.pipeline": 2}
    words |= {"parallel.context": 1, "parallel.expert": 1, "data.path": "d", "optimizer.lr": 0.5}
    config: Any = load_run(composed("train", *(f"{key}={value}" for key, value in words.items())))
    assert {key: attrgetter(key)(config) for key in words} == words
    assert load_run(composed("train", "train.tokens=1e6")).train.tokens == 1_000_000


@pytest.mark.parametrize("size", SIZES)
def test_a_size_says_its_parameters(size: str) -> None:
    """The first line's counts are those of the module itself and of the closed form."""
    model = load_run(composed("train", f"model={size}")).model
    with torch.device("meta"):
        decoder = Decoder(model)
    counted = sum(parameter.numel() for parameter in decoder.parameters())  # a tied matrix once
    vocabulary = model.vocab_size * model.width * (1 if model.tied else 2)
    what = "tied embedding" if model.tied else "embedding and the head"
    first = (CONFIGS / "model" / f"{size}.yaml").read_text().splitlines()[0]
    assert first == f"# {counted:,} parameters, {vocabulary:,} of them the {what}"
    assert (n_params(model), n_params_non_embed(model)) == (counted, counted - vocabulary)


@pytest.mark.parametrize("size", [size for size in SIZES if re.fullmatch(r"\d+[mb]", size)])
def test_a_size_suits_the_hardware(size: str) -> None:
    """Heads of 64 or 128, a vocabulary in multiples of 128; from 1b on, 8 ranks can share every matrix."""
    model = load_run(composed("train", f"model={size}")).model
    assert model.head_dim in (64, 128)
    assert model.vocab_size % 128 == 0
    if size.endswith("b"):
        assert [n % 8 for n in (model.n_heads, model.kv_heads, model.d_ff, model.vocab_size)] == [0] * 4


def test_the_sizes_are_what_their_names_say() -> None:
    for size in SIZES:
        named = re.fullmatch(r"(\d+)([mb])", size)
        if named:
            nominal = int(named[1]) * {"m": 10**6, "b": 10**9}[named[2]]
            assert n_params(load_run(composed("train", f"model={size}")).model) == pytest.approx(
                nominal, rel=0.03
            )
    assert n_params(load_run(composed("train", "model=debug")).model) < 10**6


def test_the_layouts_of_the_demo_are_one_experiment() -> None:
    """demo-single and demo-2x2x2 differ in their layout and their name, in nothing else."""
    alone, spread = (composed("train", f"experiment=demo-{layout}") for layout in ("single", "2x2x2"))
    assert load_run(spread).parallel.ranks == 8
    assert {key for key in alone if alone[key] != spread[key]} == {"name", "parallel"}


def test_overfit_sees_one_batch() -> None:
    config = load_run(composed("train", "debug=overfit"))
    assert config.data.limit_sequences == config.train.global_batch_tokens // config.train.seq_len


def _leaves(schema: type[Config], composed: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, field in schema.model_fields.items():
        kind: Any = field.annotation
        if name == "optimizer":
            kind = optimizers.find(composed["optimizer"]["name"])
        if isinstance(kind, type) and issubclass(kind, Config):
            yield from _leaves(kind, composed, f"{prefix}{name}.")
        else:
            yield prefix + name


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def test_the_help_lists_what_is_there() -> None:
    from isoflop.config.help import program_help

    for name in program_names():
        text = program_help(name, CONFIGS)
        for group in groups_of(name):
            row = next(line for line in text.splitlines() if line.split()[:1] == [group])
            assert {word.strip("[]") for word in row.split()[1:]} == set(options_of(group))
            default = next(
                item[group]
                for item in yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["defaults"]
                if isinstance(item, dict) and group in item
            )
            assert (f"[{default}]" in row) == (default is not None)

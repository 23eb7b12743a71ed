"""The JSON schema says what the validation says, and every field of it has a description."""

from typing import Any

import jsonschema
import pytest

from isoflop.config.compose import compose
from isoflop.config.jsonschema import run_schema
from isoflop.config.load import dump_yaml, load_run
from isoflop.config.schema import optimizers

SCHEMA = run_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.mark.parametrize(
    "choice", ["optimizer=adamw", "optimizer=lion", "model=405b", "experiment=demo-2x2x2"]
)
def test_a_valid_run_is_valid_by_the_schema(choice: str) -> None:
    import yaml

    composed = compose("train", [choice])
    VALIDATOR.validate(composed)
    VALIDATOR.validate(yaml.safe_load(dump_yaml(load_run(composed))))


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("model", "n_layer", 4),
        ("model", "n_layers", "abc"),
        ("model", "n_layers", 0),
        ("model", "norm", "batchnorm"),
        ("train", "clip_grad_norm", -1.0),
        ("optimizer", "lr", 0.0),
        ("optimizer", "name", "loin"),
        ("optimizer", "beta", 0.9),
        ("optimizer", "betas", [0.9, 1.0]),
        ("schedule", "final_fraction", 1.5),
        ("data", "mixture", [{"path": "a"}]),
        ("monitor", "tags", "x"),
    ],
)
def test_what_validation_refuses_the_schema_refuses(group: str, key: str, value: object) -> None:
    composed = compose("train")
    composed[group][key] = value
    assert not VALIDATOR.is_valid(composed)
    with pytest.raises(Exception, match=f"{group}.{key}"):
        load_run(composed)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_has_every_optimizer() -> None:
    named = [branch["properties"]["name"]["const"] for branch in SCHEMA["properties"]["optimizer"]["anyOf"]]
    assert named == optimizers.names()
    assert {"adamw", "lion"} <= set(named)


def test_every_field_has_a_description() -> None:
    assert [key for key, part in SCHEMA["properties"].items() if not _described(part)] == []
    for title, group in SCHEMA["$defs"].items():
        assert group["description"], title
        assert [key for key, part in group["properties"].items() if not part.get("description")] == [], title


def _described(part: dict[str, Any]) -> bool:
    return bool(
        part.get("description") or "$ref" in part or all("description" in branch for branch in part["anyOf"])
    )

"""The JSON schema of a run's configuration: for editors, for the documentation, for tools outside."""

from typing import Any

from isoflop.config.schema import RunConfig


def run_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a composed run; the optimizer is any of the registered ones."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunConfig.model_json_schema()}

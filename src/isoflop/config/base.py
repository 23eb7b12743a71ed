"""What every configuration object shares: frozen, strict about keys, and honest about its faults."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from isoflop.config.errors import ConfigError, Fault, UserError, did_you_mean

__all__ = [
    "Config",
    "ConfigError",
    "Count",
    "Degree",
    "Fault",
    "Fraction",
    "NonNegative",
    "Positive",
    "Seed",
    "UnitInterval",
    "UserError",
    "Whole",
    "did_you_mean",
]


class Config(BaseModel):
    """A frozen piece of configuration. Unknown keys are faults, and defaults are checked like values."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # name=2026 is a name
        protected_namespaces=(),
        use_attribute_docstrings=True,  # one text for the reader, the JSON schema and the documentation
    )


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # Python's True is 1; a user's `true` is not
    return value


_Number = BeforeValidator(_not_bool)
Whole = Annotated[int, Field(ge=0), _Number]
Count = Annotated[int, Field(ge=1), _Number]
Degree = Count  # the size of a parallel axis
Seed = Annotated[int, Field(ge=0, lt=2**63), _Number]  # what torch's generators take
Fraction = Annotated[float, Field(ge=0.0, le=1.0), _Number]
UnitInterval = Annotated[float, Field(ge=0.0, lt=1.0), _Number]
Positive = Annotated[float, Field(gt=0.0), _Number]
NonNegative = Annotated[float, Field(ge=0.0), _Number]

"""From a composed mapping to a frozen config, or to every fault in it at once."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from isoflop.config.base import Config, ConfigError, Fault, did_you_mean

C = TypeVar("C", bound=Config)
Checks = Callable[[C], Iterable[Fault]]


def validate(raw: Mapping[str, Any], schema: type[C], checks: Checks[C], known_faults: Iterable[Fault] = ()) -> C:
    """`raw` as a `schema`. Raises ConfigError with the faults of fields and, as far as can be told, across them.

    A field that is wrong is set aside (its default takes its place), so that the rules
    that span fields can still be tried on the rest.
    """
    faults = list(known_faults)
    remaining = deepcopy(dict(raw))
    config: C | None = None
    for _ in range(3):  # setting one field aside can bring up another
        try:
            config = schema.model_validate(remaining)
            break
        except ValidationError as error:
            found = list(_faults(error, schema))
            faults += [f for f in found if f.key not in {known.key for known in faults}]
            for fault in found:
                _drop(remaining, fault.key.split("."))
    if config is not None:
        named = {fault.key for fault in faults}
        faults += [fault for fault in checks(config) if fault.key not in named]
    if faults or config is None:
        raise ConfigError(faults)
    return config


def _faults(error: ValidationError, schema: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterable[Fault]:
    for item in error.errors():
        inner = item.get("ctx", {}).get("error")
        where = prefix + tuple(str(part) for part in item["loc"])
        if isinstance(inner, ValidationError):  # a registered component's own fields
            yield from _faults(inner, schema, where)
            continue
        key = ".".join(where)
        given = item["input"] if not isinstance(item["input"], dict | list) else None
        if item["type"] == "extra_forbidden":
            fields = _fields(schema, prefix, error, [str(part) for part in item["loc"][:-1]])
            yield Fault(key, given, f"unknown key{did_you_mean(where[-1], fields)}")
        elif item["type"] == "missing":
            yield Fault(key, None, "is missing; give it a value")
        elif given is None and item["type"].endswith("_type"):
            yield Fault(key, "null", _sentence(item["msg"]))
        else:
            yield Fault(key, given, _sentence(item["msg"]))


def _sentence(message: str) -> str:
    """pydantic's wording, without its subject and its capital."""
    for start in ("Value error, ", "Input should be ", "Input "):
        if message.startswith(start):
            message = ("must be " if start == "Input should be " else "") + message[len(start) :]
    return message[:1].lower() + message[1:]


def _fields(schema: type[BaseModel], prefix: tuple[str, ...], error: ValidationError, path: list[str]) -> list[str]:
    """The field names that stand where an unknown one was found."""
    cls: Any = schema
    if prefix:  # inside a registered component: its title is its class
        from isoflop.config.schema import optimizers

        optimizers.names()
        cls = next((c for c in optimizers.classes() if c.__name__ == error.title), schema)
    for part in path:
        field = cls.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        cls = field.annotation
    return list(cls.model_fields)


def _drop(tree: Any, path: list[str]) -> None:
    for part in path[:-1]:
        if not isinstance(tree, dict) or part not in tree:
            return
        tree = tree[part]
    if isinstance(tree, dict):
        tree.pop(path[-1], None)

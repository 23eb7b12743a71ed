"""From a composed mapping to a frozen config, or to every fault in it at once."""

import re
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from isoflop.config.base import Config, ConfigError, Fault, did_you_mean
from isoflop.config.registry import Registry

C = TypeVar("C", bound=Config)
Check = Callable[[C], Iterable[Fault]]


def validate(raw: Mapping[str, Any], schema: type[C], *checks: Check[C]) -> C:
    """`raw` as a `schema`. Raises ConfigError with every fault, as far as can be told also across fields."""
    try:
        config = schema.model_validate(raw)
    except ValidationError as error:
        reader = _Reader()
        part = reader.group(schema, raw, "")
        faults = reader.faults or [_leaf_fault("", None, item) for item in error.errors()]
        if part is not None:
            faults += _cross_faults(part, checks, {fault.key for fault in faults})
        raise ConfigError(faults) from None
    faults = [fault for check in checks for fault in check(config)]
    if faults:
        raise ConfigError(faults)
    return config


def _cross_faults(part: C, checks: Iterable[Check[C]], named: set[str]) -> Iterable[Fault]:
    """What the rules find in a config whose faulty fields are absent; a rule ends where it reads one."""
    for check in checks:
        try:
            for fault in check(part):
                if fault.key not in named:
                    yield fault
        except AttributeError:  # an absent field: nothing can be said before it is mended
            continue


class _Reader:
    """Reads a mapping field by field. pydantic judges each value; here faults are gathered and worded."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def group(self, schema: type[C], raw: Any, where: str) -> C | None:
        """`raw` as far as it is right: a `schema` that lacks its faulty fields. None: not a mapping."""
        fields = schema.model_fields
        if not isinstance(raw, Mapping):
            self.faults.append(Fault(where, as_given(raw), f"must be a group of keys: {', '.join(fields)}"))
            return None
        for key in raw:
            if key not in fields:
                near = did_you_mean(str(key), list(fields))
                self.faults.append(Fault(_join(where, key), as_given(raw[key]), f"unknown key{near}"))
        values: dict[str, Any] = {}
        for name, field in fields.items():
            before = len(self.faults)
            value = self._field(schema, field, raw, name, where)
            if len(self.faults) == before or isinstance(value, Config):
                values[name] = value
        part = schema.model_construct(**values)
        for name in fields.keys() - values.keys():
            part.__dict__.pop(name, None)
        return part  # type: ignore[return-value]

    def _field(
        self, schema: type[Config], field: FieldInfo, raw: Mapping[str, Any], name: str, where: str
    ) -> Any:
        key = _join(where, name)
        if name not in raw:
            if field.is_required():
                self.faults.append(Fault(key, None, "is missing; give it a value"))
            return field.get_default(call_default_factory=True)
        value = raw[name]
        registry = next((item for item in field.metadata if isinstance(item, Registry)), None)
        if registry is not None:
            return self._component(registry, value, key)
        inner, is_list = _config_class(field.annotation)
        if inner is not None and is_list and isinstance(value, list | tuple):
            return tuple(self.group(inner, item, f"{key}.{i}") for i, item in enumerate(value))
        named = _named_configs(field.annotation)
        if named is not None and isinstance(value, Mapping):
            return {
                name: None if item is None else self.group(named, item, _join(key, name))
                for name, item in value.items()
            }
        if (
            inner is not None
            and not is_list
            and not (value is None and type(None) in get_args(field.annotation))
        ):
            return self.group(inner, value, key)
        try:
            annotated = Annotated[field.annotation, field]  # type: ignore[name-defined]
            return TypeAdapter(annotated, config=schema.model_config).validate_python(value)
        except ValidationError as error:
            found = {fault.key: fault for fault in (_leaf_fault(key, value, item) for item in error.errors())}
            self.faults += found.values()
            return None

    def _component(self, registry: Registry[Any], raw: Any, key: str) -> Config | None:
        """The config of a registered component, which its own `name` chooses."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
            self.faults.append(Fault(key, as_given(raw), "must be a group of keys with a `name`"))
            return None
        try:
            return self.group(registry.find(raw["name"]), raw, key)
        except ValueError as error:
            self.faults.append(Fault(_join(key, "name"), raw["name"], str(error)))
            return None


def _config_class(annotation: Any) -> tuple[type[Config] | None, bool]:
    """The config class that an annotation holds, and whether many: `C`, `C | None`, `tuple[C, ...]`."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [arg for arg in get_args(annotation) if arg is not type(None)]
        return _config_class(kinds[0]) if len(kinds) == 1 else (None, False)
    if get_origin(annotation) in (tuple, list):
        return _config_class(get_args(annotation)[0])[0], True
    is_config = isinstance(annotation, type) and issubclass(annotation, Config)
    return (annotation if is_config else None), False


def _named_configs(annotation: Any) -> Any:
    """The config class of a mapping by name, `dict[str, C]` or `dict[str, C | None]`; None of all else."""
    return _config_class(get_args(annotation)[1])[0] if get_origin(annotation) is dict else None


def _leaf_fault(key: str, value: Any, item: Any) -> Fault:
    """One of pydantic's findings, in our words. Of its location only positions in lists are the user's."""
    where = _join(key, *(part for part in item["loc"] if isinstance(part, int) or key == ""))
    if item["type"] == "missing":
        return Fault(where, None, "is missing; give it a value")
    if item["type"] == "literal_error":
        options = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        near = did_you_mean(str(item["input"]), options)
        hint = near if "did you mean" in near else ""
        return Fault(
            where, as_given(item["input"]), f"must be {item['ctx']['expected'].replace(chr(39), '')}{hint}"
        )
    return Fault(where, as_given(item["input"]), _wording(item["type"], item["msg"]))


WORDING = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
}


def _wording(kind: str, message: str) -> str:
    """What would do: ours where we have a plainer word, else pydantic's without its subject."""
    known = WORDING.get(kind) or WORDING.get(kind.partition("_")[0])
    if known:
        return known
    message = message.removeprefix("Value error, ").replace(" after validation", "")
    message = message.replace("greater than or equal to", "at least").replace(
        "less than or equal to", "at most"
    )
    return re.sub(r"^(Input|String|Tuple|List|Value) should", "must", message)


def as_given(value: Any) -> Any:
    """A value to show beside its key; None would mean that nothing was given."""
    return "null" if value is None else value


def _join(*parts: object) -> str:
    return ".".join(str(part) for part in parts if part != "")

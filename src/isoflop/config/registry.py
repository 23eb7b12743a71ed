"""Names that stand for components: each registers its config beside its code, nothing else is edited."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from isoflop.config.base import Config, did_you_mean

C = TypeVar("C", bound=Config)


class Registry(Generic[C]):
    """Config classes by name, found in `package`: the file `<package>/<name>.py` registers `<name>`.

    As an annotation, `field: Annotated[Base, registry]`, it reads a mapping with a `name` as the class
    of that name, writes it back in full, and describes all of them in the JSON schema.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self._classes: dict[str, type[C]] = {}

    def register(self, name: str) -> Callable[[type[C]], type[C]]:
        """Class decorator: `name` now means this config."""

        def add(cls: type[C]) -> type[C]:
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """Every registered name. Imports each file of the package."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted(self._classes)

    def find(self, name: str) -> type[C]:
        """The class of `name`; ValueError with a hint where there is none."""
        if name not in self._classes and name.isidentifier():
            try:
                importlib.import_module(f"{self.package}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{self.package}.{name}":
                    raise
        if name not in self._classes:
            raise ValueError(f"unknown name{did_you_mean(name, self.names())}")
        return self._classes[name]

    def resolve(self, value: Any) -> C:
        """A mapping with a `name`, or a config already built, to the config of that name."""
        if isinstance(value, Config):
            return value  # type: ignore[return-value]
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ValueError("must be a group of keys with a `name`")
        return self.find(value["name"]).model_validate(value)

    def __get_pydantic_core_schema__(self, source: type[C], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self.resolve,
            core_schema.is_instance_schema(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda config, info: config.model_dump(mode=info.mode), info_arg=True
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(self._classes[name].__pydantic_core_schema__) for name in self.names()]}

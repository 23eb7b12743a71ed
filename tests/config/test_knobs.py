"""Every field of the configuration is read by the code: a knob that does nothing is a defect.

The type checker tells, of every `x.field` in src/ and data_pipelines/, what `x` is. A read inside a
property of a config class (`ranks`, `entries`) counts as a read of the field where the property itself
is read. A recipe or block that spreads a filter's fields into arguments (`**rules.model_dump()`)
reads them all. Validation, in isoflop.config, does not count: a field that is only checked does nothing.

What this cannot see: a read through an untyped receiver or `getattr` (which then looks dead, not alive),
and a read whose value is thrown away (which looks alive).
"""

import ast
import inspect
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from command_line import program_names
from mypy import build
from mypy.modulefinder import BuildSource
from mypy.options import Options
from mypy.plugin import AttributeContext, MethodContext, Plugin
from mypy.types import Instance, Type

import isoflop
from isoflop.config.base import Config
from isoflop.config.compose import compose
from isoflop.config.curation.recipe import recipes
from isoflop.config.curation.run import load_curation
from isoflop.config.schema import optimizers

SRC = Path(isoflop.__file__).parents[1]
RECIPES = SRC.parent / "data_pipelines"
CURATE = SRC / "isoflop" / "curate"
LAUNCH = SRC.parent / "launch"

# Labels, which do nothing but stand in a record; a test below looks for it there.
LABELS = {("PipelineConfig", "profile")}  # of every recipe


class _Reads(Plugin):
    """Hears of every attribute that the checker types: receiver's class, field, file and line."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.heard: set[tuple[str, str, Path, int]] = set()

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        return partial(self._hear, fullname.rpartition(".")[2]) if fullname.startswith("isoflop.") else None

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return partial(self._hear, "model_dump") if fullname.endswith(".model_dump") else None

    def _hear(self, field: str, context: AttributeContext | MethodContext) -> Type:
        if isinstance(context.type, Instance) and not getattr(context, "is_lvalue", False):
            where = Path(context.api.path)  # type: ignore[attr-defined]
            self.heard.add((context.type.type.name, field, where, context.context.line))
        return (
            context.default_attr_type
            if isinstance(context, AttributeContext)
            else context.default_return_type
        )


@cache
def reads() -> frozenset[tuple[str, str]]:
    """Every (class, field or property) that code outside isoflop.config reads, directly or by a property."""
    options = Options()
    options.incremental = False
    options.follow_imports = "skip"  # other packages are Any: their insides are not asked for
    options.ignore_missing_imports = True
    options.check_untyped_defs = True
    options.cache_dir = os.devnull
    options.per_module_options = {"pydantic.*": {"follow_imports": "silent"}}  # for `model_dump`
    heard = _Reads(options)
    files = [*sorted(SRC.glob("isoflop/**/*.py")), *sorted(RECIPES.glob("*.py")), LAUNCH / "data.py"]
    build.build(
        [BuildSource(str(file), _module_name(file), None) for file in files], options, extra_plugins=[heard]
    )
    properties = {file: _properties(file) for file in {where for *_, where, _ in heard.heard}}
    direct: set[tuple[str, str]] = set()
    inside: set[tuple[tuple[str, str], tuple[str, str]]] = set()
    for owner, field, file, line in heard.heard:
        holder = next((name for name, lines in properties[file].items() if line in lines), None)
        if holder is not None:
            inside.add((holder, (owner, field)))
        elif field == "model_dump" and (file.parent == RECIPES or file.is_relative_to(CURATE)):
            direct |= {(owner, name) for name in _fields(owner) - _excluded(file, line)}
        elif not file.is_relative_to(SRC / "isoflop" / "config"):
            direct.add((owner, field))
    while more := {read for holder, read in inside if holder in direct} - direct:
        direct |= more
    return frozenset(direct)


def _properties(file: Path) -> dict[tuple[str, str], range]:
    """The (class, property) of each property in a file, and the lines of its body."""
    return {
        (cls.name, node.name): range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for cls in ast.walk(ast.parse(file.read_text()))
        if isinstance(cls, ast.ClassDef)
        for node in cls.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)
    }


def _fields(owner: str) -> set[str]:
    return {field for cls in config_classes() if cls.__name__ == owner for field in cls.model_fields}


def _excluded(file: Path, line: int) -> set[str]:
    """What the `model_dump(exclude={…})` of a line leaves out."""
    return {
        element.value
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and call.lineno <= line <= (call.end_lineno or line)
        for keyword in call.keywords
        if keyword.arg == "exclude" and isinstance(keyword.value, ast.Set)
        for element in keyword.value.elts
        if isinstance(element, ast.Constant)
    }


def _module_name(path: Path) -> str:
    parts = path.relative_to(SRC if path.is_relative_to(SRC) else RECIPES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def config_classes() -> list[type[Config]]:
    """Every config class that a program's configuration can hold."""
    from isoflop.config.explain import load

    roots: list[type[Config]] = [type(load(name, compose(name))) for name in program_names()]
    roots += [optimizers.find(name) for name in optimizers.names()]
    roots += [recipes.find(name) for name in recipes.names()]
    found: dict[type[Config], None] = {}
    while roots:
        cls = roots.pop()
        if cls not in found:
            found[cls] = None
            roots += [held for field in cls.model_fields.values() for held in _held(field.annotation)]
    return sorted(found, key=lambda cls: cls.__name__)


def _held(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _held(part)


KNOBS = [(cls, field) for cls in config_classes() for field in cls.model_fields]


def is_read(cls: type[Config], field: str) -> bool:
    """Through a receiver of `cls`, or of a base that declares the field."""
    owners = {base.__name__ for base in cls.__mro__ if field in getattr(base, "model_fields", {})}
    return any((owner, field) in reads() for owner in owners)


@pytest.mark.parametrize(("cls", "field"), KNOBS, ids=[f"{cls.__name__}.{field}" for cls, field in KNOBS])
def test_a_field_is_read(cls: type[Config], field: str) -> None:
    owners = {(base.__name__, field) for base in cls.__mro__}
    if owners & LABELS or inspect.isabstract(cls) or _has_one_value(cls, field):
        return
    assert is_read(cls, field), f"nothing outside isoflop.config reads {cls.__name__}.{field}"


def _has_one_value(cls: type[Config], field: str) -> bool:
    """A name with one option (`cluster.name: local`) is no knob yet; the second option must be read."""
    annotation = cls.model_fields[field].annotation
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1


def test_a_label_stands_in_its_record() -> None:
    config = load_curation(compose("data"))
    assert config.science()["pipeline"]["profile"] == config.pipeline.profile


def test_the_search_sees_a_dead_field() -> None:
    """Neither a field that is in no code nor one that is only validated counts as read."""
    assert ("ModelConfig", "n_layer") not in reads()
    assert ("ModelConfig", "n_layers") in reads()
    assert ("PrecisionConfig", "n_layers") not in reads()

"""Every field of the configuration is read by the code that it configures: a knob that does nothing is a defect.

The type checker is asked, for every `x.field` in src/, what `x` is. A read inside a property of a
config class (`ranks`, `entries`) counts as a read of the field where the property itself is read.
Validation, in isoflop.config, does not count: a field that is only checked does nothing.

What this cannot see: a read through an untyped receiver or `getattr` (which then looks dead, not alive),
and a read whose value is thrown away (which looks alive).
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mypy import build
from mypy.modulefinder import BuildSource
from mypy.nodes import ClassDef, Decorator, MemberExpr
from mypy.options import Options
from mypy.traverser import TraverserVisitor
from mypy.types import Instance, ProperType, get_proper_type

import isoflop
from isoflop.config.base import Config
from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.config.schema import RunConfig, optimizers
from isoflop.config.validate import ConfigError
from tests.config.program import program_names

SRC = Path(isoflop.__file__).parents[1]

# Fields that validation holds at one value until their axis is built; the test below holds it to that.
REFUSED = {("ParallelConfig", "context"), ("ParallelConfig", "expert")}


class _Reads(TraverserVisitor):
    """The (class, field) of every attribute that is read in a file, and the property it is read in."""

    def __init__(self, types: dict[Any, Any]) -> None:
        self.types = types
        self.reads: set[tuple[str, str, tuple[str, str] | None]] = set()
        self.classes: list[str] = []
        self.property: tuple[str, str] | None = None

    def visit_class_def(self, node: ClassDef) -> None:
        self.classes.append(node.name)
        super().visit_class_def(node)
        self.classes.pop()

    def visit_decorator(self, node: Decorator) -> None:
        if self.classes and node.var.is_property:
            self.property = (self.classes[-1], node.name)
        super().visit_decorator(node)
        self.property = None

    def visit_member_expr(self, node: MemberExpr) -> None:
        super().visit_member_expr(node)
        for name in _class_names(self.types.get(node.expr)):
            self.reads.add((name, node.name, self.property))


def _class_names(found: Any) -> Iterator[str]:
    """The class that a type is an instance of, its bases too: a subclass reads what it inherits."""
    if found is None:
        return
    kind: ProperType = get_proper_type(found)
    for item in getattr(kind, "items", [kind]):  # a union
        item = get_proper_type(item)
        if isinstance(item, Instance):
            yield from (base.name for base in item.type.mro)


@cache
def reads() -> frozenset[tuple[str, str]]:
    """Every (class, field or property) that code outside isoflop.config reads, directly or by a property."""
    options = Options()
    options.export_types = options.preserve_asts = True
    options.incremental = False
    options.follow_imports = "skip"  # other packages are Any: their insides are not asked for
    options.ignore_missing_imports = True
    options.python_version = (3, 11)
    options.cache_dir = "/dev/null"
    files = sorted(SRC.glob("isoflop/**/*.py"))
    sources = [BuildSource(str(path), _module_name(path), None) for path in files]
    result = build.build(sources, options)
    direct: set[tuple[str, str]] = set()
    inside: set[tuple[tuple[str, str], tuple[str, str]]] = set()
    for name, state in result.graph.items():
        if not name.startswith("isoflop") or state.tree is None:
            continue
        visitor = _Reads(result.types)
        state.tree.accept(visitor)
        for owner, field, prop in visitor.reads:
            if prop is not None:
                inside.add((prop, (owner, field)))
            elif not name.startswith("isoflop.config"):
                direct.add((owner, field))
    while more := {read for prop, read in inside if prop in direct} - direct:
        direct |= more
    return frozenset(direct)


def _module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def config_classes() -> list[type[Config]]:
    """Every config class that a program's configuration can hold."""
    from isoflop.config.explain import load

    roots: list[type[Config]] = [type(load(name, compose(name))) for name in program_names()]
    roots += [optimizers.find(name) for name in optimizers.names()]
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


KNOBS = [(cls.__name__, field) for cls in config_classes() for field in cls.model_fields]


@pytest.mark.parametrize(("owner", "field"), KNOBS, ids=[".".join(knob) for knob in KNOBS])
def test_a_field_is_read(owner: str, field: str) -> None:
    if (owner, field) not in REFUSED:
        assert (owner, field) in reads(), f"nothing outside isoflop.config reads {owner}.{field}"


@pytest.mark.parametrize(("owner", "field"), sorted(REFUSED))
def test_a_field_that_nothing_reads_yet_can_have_one_value(owner: str, field: str) -> None:
    group = next(name for name, part in RunConfig.model_fields.items() if part.annotation.__name__ == owner)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="is not available in this version"):
        load_run(compose("train", [f"{group}.{field}=2"]))


def test_the_search_sees_a_dead_field() -> None:
    """Neither a field that is in no code nor one that is only validated counts as read."""
    assert ("ModelConfig", "n_layer") not in reads()
    assert ("ModelConfig", "n_layers") in reads()
    assert ("PrecisionConfig", "n_layers") not in reads()

"""Who may import whom, read off the source: the layers, the packages held in one room each, and no cycles."""

import ast
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"

# A room sees what stands to its left, and its neighbours (rooms of one set) where they do not see it.
LAYERS: tuple[set[str], ...] = (
    {"config"},
    {"dist"},
    {"model", "optim", "data", "monitor"},
    {"parallel"},
    {"checkpoint", "evaluate", "train", "plan"},
    {"engine"},
    {"scaling", "cluster", "report"},
    {"cli"},
)
MORE = {"curate": {"config", "dist", "data"}}  # beside `data`
TOP = {"launch", "data_pipelines", "ablations", "benchmarks"}

# Packages that only these files may import.
HELD = {
    "hydra": ("isoflop/config/compose.py", "isoflop/config/explain.py", "isoflop/cluster/", "launch/"),
    "omegaconf": ("isoflop/config/compose.py", "isoflop/config/explain.py", "isoflop/cluster/", "launch/"),
    "wandb": ("isoflop/monitor/sinks.py", "isoflop/report/"),
    "datatrove": ("isoflop/curate/", "data_pipelines/", "benchmarks/"),
    "submitit": ("isoflop/cluster/",),
    "deepspeed": ("isoflop/engine/deepspeed.py",),
    "megatron": ("isoflop/engine/megatron.py",),
    "nanotron": ("isoflop/engine/nanotron.py",),
}
TORCHLESS = ("config", "scaling", "plan", "cli")  # these never import torch at all, not even later


@cache
def files() -> tuple[Path, ...]:
    folders = [SRC, *(ROOT / name for name in sorted(TOP))]
    return tuple(path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*.py")))


def place(path: Path) -> str:
    """`isoflop/config/base.py`, `launch/train.py`: as the rules above name it."""
    return str(path.relative_to(SRC if path.is_relative_to(SRC) else ROOT))


def room_of(module: str) -> str | None:
    """`isoflop.model.rope` → `model`; None outside the package."""
    parts = module.split(".")
    return parts[1] if parts[0] == "isoflop" and len(parts) > 1 else None


def module_of(path: Path) -> str:
    return place(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def imports(path: Path, at_import: bool = False) -> frozenset[str]:
    """The modules that a file imports; with `at_import` only those that importing the file imports."""
    tree = ast.parse(path.read_text(), str(path))
    return frozenset(name for node in _nodes(tree, at_import) for name in _imported(node, path))


def _nodes(node: ast.AST, at_import: bool) -> Iterator[ast.AST]:
    """All nodes; with `at_import` without the bodies of functions and of `if TYPE_CHECKING`."""
    yield node
    later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
        isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    )
    if not (at_import and later):
        for child in ast.iter_child_nodes(node):
            yield from _nodes(child, at_import)


def _imported(node: ast.AST, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            package = module_of(path).split(".")[: -node.level + (path.name == "__init__.py") or None]
            base = ".".join([*package, *([node.module] if node.module else [])])
        else:
            base = node.module or ""
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names if _is_module(f"{base}.{alias.name}"))


def _is_module(name: str) -> bool:
    path = SRC / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def allowed_rooms(room: str) -> set[str]:
    if room in MORE:
        return MORE[room] | {room}
    level = next(i for i, layer in enumerate(LAYERS) if room in layer)
    return set().union(*LAYERS[: level + 1]) | (set(MORE) if room == "cli" else set())


@pytest.mark.parametrize("path", [p for p in files() if p.is_relative_to(SRC)], ids=place)
def test_a_room_sees_only_what_stands_before_it(path: Path) -> None:
    room = room_of(module_of(path))
    if room is None:  # isoflop/__init__.py
        assert not [name for name in imports(path) if name.startswith("isoflop")]
        return
    assert room == "curate" or any(room in layer for layer in LAYERS), f"{room} has no place in the design"
    seen = {room_of(name) for name in imports(path)} - {None}
    assert seen <= allowed_rooms(room), f"{place(path)} sees {sorted(seen - allowed_rooms(room))}"


@pytest.mark.parametrize("path", [p for p in files() if p.is_relative_to(SRC)], ids=place)
def test_the_package_never_imports_the_folders_above_it(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & (TOP | {"tests"})


@pytest.mark.parametrize("package", sorted(HELD))
def test_a_package_stays_in_its_room(package: str) -> None:
    users = {place(path) for path in files() if package in {name.partition(".")[0] for name in imports(path)}}
    assert {user for user in users if not user.startswith(HELD[package])} == set()


@pytest.mark.parametrize("room", TORCHLESS)
def test_a_room_does_without_torch(room: str) -> None:
    """Neither itself nor anything that importing it imports."""
    for path in files():
        if room_of(module_of(path)) == room:
            reached = _closure(path)
            users = {place(file) for file in reached if _names_torch(file, at_import=True)}
            assert users == set(), f"{place(path)} reaches torch by {users}"
            assert room == "cli" or not _names_torch(path, at_import=False) or path.name == "schema.py"


def _names_torch(path: Path, at_import: bool) -> bool:
    return "torch" in {name.partition(".")[0] for name in imports(path, at_import)}


def _closure(path: Path) -> set[Path]:
    """The files of ours that importing `path` imports."""
    by_module = {module_of(file): file for file in files()}
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [by_module[name] for name in imports(file, at_import=True) if name in by_module]
    return found


def test_no_file_sees_itself_through_others() -> None:
    """Also not by a late import inside a function, or for the type checker alone."""
    modules = {module_of(path): imports(path) for path in files()}
    assert _cycle({module: names & modules.keys() - {module} for module, names in modules.items()}) == ()


def test_no_room_sees_itself_through_others() -> None:
    rooms: dict[str, set[str]] = {}
    for path in files():
        room = room_of(module_of(path))
        if room is not None:
            seen = {room_of(name) for name in imports(path)} - {None, room}
            rooms.setdefault(room, set()).update(name for name in seen if name is not None)
    assert _cycle(rooms) == ()


def _cycle(graph: Mapping[str, Set[str]]) -> tuple[str, ...]:
    """A cycle of `graph`, or nothing."""
    done: set[str] = set()

    def walk(node: str, trail: tuple[str, ...]) -> tuple[str, ...]:
        if node in trail:
            return (*trail[trail.index(node) :], node)
        for following in sorted(graph.get(node, set())) if node not in done else []:
            if found := walk(following, (*trail, node)):
                return found
        done.add(node)
        return ()

    return next((found for node in sorted(graph) if (found := walk(node, ()))), ())


def test_a_cycle_is_found() -> None:
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ("b", "c", "b")
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == ()


def test_the_reader_of_imports_reads_them() -> None:
    """On a file of known imports, so that the rules above cannot hold for want of sight."""
    file = SRC / "isoflop" / "config" / "compose.py"
    assert {"hydra", "omegaconf", "isoflop.config.errors"} <= imports(file)
    assert "isoflop.config.explain" in imports(file)  # inside a function
    assert "isoflop.config.explain" not in imports(file, at_import=True)

"""The direction of imports, held by reading every file's imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    {"errors", "hashes", "numbers", "private"},
    {"paths"},
    {"registry", "atomic", "arrays", "documents", "image_file", "trust"},
    {"seal"},
    {"catalog"},
    {"core"},
    {"scene"},
    {"backbones", "data", "attacks"},
    {"defenses"},
    {"results"},
    {"engine"},
    {"executors", "trackers"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
UPWARDS = {("advkit.core.attack", "advkit.engine.call")}  # a value that is also a function: Attack.__call__


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("advkit", *parts) if parts[0] in ("attacks", "defenses") else parts).removesuffix(".__init__")


FILES = {_module(path): path for folder in ("advkit", "attacks", "defenses") for path in (ROOT / folder).rglob("*.py")}


class Import(NamedTuple):
    """``source`` imports ``target``, at once (``top``) or when a function is called."""

    source: str
    target: str
    top: bool


def _imports(node: ast.AST, top: bool = True) -> Iterator[tuple[str, bool]]:
    """What a syntax tree imports; not what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "imports are absolute"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield (inner if inner in FILES else child.module or "", top)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from (found for other in child.orelse for found in _imports(other, top))
        else:
            yield from _imports(
                child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            )


@cache
def _tree(source: str) -> ast.Module:
    return ast.parse(FILES[source].read_text(encoding="utf-8"))


ALL = [Import(source, target, top) for source in FILES for target, top in _imports(_tree(source))]


def _layer(module: str) -> str:
    return module.split(".")[1]


def test_every_package_has_its_layer():
    assert {_layer(module) for module in FILES if module != "advkit"} == set(RANK)


def test_imports_go_downwards():
    wrong = [
        f"{i.source} -> {i.target}"
        for i in ALL
        if i.source != "advkit" and i.target.startswith("advkit.") and _layer(i.source) != _layer(i.target)
        if RANK[_layer(i.target)] >= RANK[_layer(i.source)] and (i.top or (i.source, i.target) not in UPWARDS)
    ]
    assert not wrong


def test_the_exceptions_are_still_needed():
    assert {(i.source, i.target) for i in ALL} >= UPWARDS


@pytest.mark.parametrize("folder", ["attacks", "defenses"])
def test_nobody_imports_the_folders_under_their_plain_names(folder: str):
    assert not [i for i in ALL if i.target.split(".")[0] == folder]


def test_no_file_imports_itself_by_a_detour():
    graph = {name: {i.target for i in ALL if i.source == name and i.top and i.target in FILES} for name in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def _reached() -> set[str]:
    """The modules that are imported when a command answers help."""
    found = {name for name in FILES if _layer(f"{name}.") == "cli" and not name.rpartition(".")[2].startswith("_")}
    while more := {i.target for i in ALL if i.top and i.source in found and i.target in FILES} - found:
        found |= more
    return {name for name in found if _layer(f"{name}.") == "cli"}


def test_commands_answer_help_before_anything_heavy_is_imported():
    light = {
        "click",
        "advkit.cli",
        "advkit.errors",
        "advkit.hashes",
        "advkit.atomic",
        "advkit.numbers",
        "advkit.paths",
        "advkit.private",
        "advkit.trust",
        *sys.stdlib_module_names,
    }
    heavy = [
        f"{i.source} -> {i.target}"
        for i in ALL
        if i.source in _reached() and i.top
        if i.target.split(".")[0] not in light and ".".join(i.target.split(".")[:2]) not in light
    ]
    assert not heavy


def test_the_root_of_the_package_imports_only_the_standard_library():
    assert {i.target.split(".")[0] for i in ALL if i.source == "advkit"} <= sys.stdlib_module_names


def test_nothing_prints():
    calls = [(name, node) for name in FILES for node in ast.walk(_tree(name)) if isinstance(node, ast.Call)]
    assert not [name for name, call in calls if ast.unparse(call.func) == "print"]

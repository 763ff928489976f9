"""The public names of ``import advkit``: few, lazy, and all there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import advkit

_TREE = ast.parse(Path(advkit.__file__).read_text(encoding="utf-8"))


def _names_for_type_checkers() -> dict[str, str]:
    """What the ``if TYPE_CHECKING`` block of advkit/__init__.py declares, with its module."""
    block = next(node for node in _TREE.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    found = {
        alias.name: node.module or "" for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return found | {node.target.id: "" for node in block.body if isinstance(node, ast.AnnAssign)}


def test_the_public_names_are_those_that_type_checkers_see():
    assert set(advkit.__all__) == set(_names_for_type_checkers())


def test_no_public_name_is_given_twice():
    assert len(advkit.__all__) == len(set(advkit.__all__))


@pytest.mark.parametrize("name", advkit.__all__)
def test_every_public_name_is_what_its_module_calls_so(name: str):
    module = _names_for_type_checkers()[name]
    expected = __import__(module, fromlist=[name]).__dict__[name] if module else advkit.__version__
    assert getattr(advkit, name) is expected


def test_dir_shows_the_public_names():
    assert set(advkit.__all__) <= set(dir(advkit))


def test_an_unknown_name_is_an_attribute_error_that_says_it():
    with pytest.raises(AttributeError, match="module 'advkit' has no attribute 'atack'"):
        _ = advkit.atack


def test_import_star_brings_the_public_names():
    space: dict[str, object] = {}
    exec("from advkit import *", space)
    assert set(advkit.__all__) <= set(space)


def _modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nsys.stdout.write(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import advkit", "import advkit.cli", "import advkit.catalog, advkit.errors"])
def test_importing_brings_nothing_heavy(code: str):
    assert not _modules_after(code) & {"torch", "numpy", "torchvision", "foolbox", "matplotlib", "scipy", "rich"}


def test_attacking_needs_neither_torchvision_nor_foolbox():
    code = "from advkit import Linf, Untargeted\nfrom advkit.attacks import PGD\nPGD(Linf('8/255'))"
    assert not _modules_after(code) & {"torchvision", "foolbox", "matplotlib"}

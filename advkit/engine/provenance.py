"""What a number depends on besides its inputs: code, versions, hardware."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["circumstances", "code_version"]

_DECIDE = (
    "advkit.core",
    "advkit.attacks",
    "advkit.scene",
    "advkit.defenses",
    "advkit.engine.certify",
    "advkit.engine.controls",
    "advkit.engine.defend",
    "advkit.engine.evaluate",
    "advkit.engine.fitting",
    "advkit.engine.ladder",
    "advkit.engine.own",
    "advkit.engine.passes",
    "advkit.engine.precision",
    "advkit.engine.run",
    "advkit.engine.search",
    "advkit.engine.span",
    "advkit.engine.targets",
    "advkit.engine.transfer",
)
"""The modules and packages that decide what an attack finds."""


def code_version(others: Iterable[type] = ()) -> str:
    """A hash of the code that decides the numbers, comments and docstrings apart, and of what defines ``others``."""
    files = {inspect.getsourcefile(other) for other in others if not other.__module__.startswith("advkit.")}
    digest = hashlib.sha256(_own_code().encode())
    for name in sorted(filter(None, files)):
        digest.update(_meaning(Path(name)).encode())
    return digest.hexdigest()[:12]


@cache
def _own_code() -> str:
    digest = hashlib.sha256()
    for name in _DECIDE:
        place = Path(inspect.getsourcefile(importlib.import_module(name)) or "")
        for path in sorted(place.parent.glob("*.py")) if place.name == "__init__.py" else [place]:
            digest.update(f"{name} {path.name} {_meaning(path)}".encode())
    return digest.hexdigest()


def _meaning(path: Path) -> str:
    """A file's syntax tree without docstrings: what the interpreter makes of it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:]
    return ast.dump(tree)


@cache
def circumstances() -> dict[str, str]:
    """Versions, hardware and the state of git, for the record; none of them is part of a cell's name."""
    found = {
        "advkit": version("advkit"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "git": _git(Path(__file__).parent),
    }
    for package in ("torchvision", "timm", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found["gpu"] = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        found["cuda"] = str(torch.version.cuda)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _git(folder: Path) -> str:
    """The commit of the checkout that advkit runs from, marked where files differ from it; else nothing."""

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        commit = ask("rev-parse", "--short=12", "HEAD")
        return f"{commit}, changed" if ask("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return ""

"""TorchScript archives, looked through before torch loads them: an archive is a program, and torch runs parts of it in loading.

Its code is the source of a small language, read here as Python; every operator that it names must be known to be pure. Its
objects are pickles, of which only the names are read. What torch is given in the end is an archive made anew from exactly what
was looked at, so that nothing hangs on two readers seeing the same in one file.
"""

from __future__ import annotations

import ast
import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import torch

from advkit.backbones.pure_operators import BUILTINS, OTHERS, PURE
from advkit.errors import ModelError, Untrusted, first_line
from advkit.paths import shown

__all__ = ["checked_archive"]

_MOST = 256 * 2**20  # bytes of code and objects, unpacked
_KEPT = re.compile(r"(data\.pkl|constants\.pkl|version|byteorder|\.data/version|(data|constants)/\w+|code/[\w./]+\.py)")
_PROGRAM = re.compile(r"(.*\.pkl|code/.*)")
_RESERVED = frozenset({"torch", "ops", "prim", "aten", "CONSTANTS", "__torch__", "fork", "print", *BUILTINS})
_BASES = frozenset({"Module", "ModuleInterface", "Interface", "NamedTuple", "Enum"})
_NODES = (
    ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return,
    ast.If, ast.While, ast.For, ast.Expr, ast.Pass, ast.Break, ast.Continue, ast.Raise, ast.Assert, ast.Call, ast.keyword,
    ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.IfExp, ast.ListComp,
    ast.DictComp, ast.comprehension, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.expr_context, ast.operator,
    ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_OPCODES = frozenset(
    """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE EMPTY_LIST
    APPEND APPENDS LIST EMPTY_DICT SETITEM SETITEMS DICT EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL REDUCE NEWOBJ BUILD
    BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE
    """.split()  # noqa: SIM905 - a list would be thrice as long
)
_GLOBALS = re.compile(
    r"(__torch__(\.\w+)* \w+|collections OrderedDict|torch device|torch \w+Storage"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)|torch\.jit\._pickle (build_\w+|restore_type_tag))"
)


def checked_archive(path: Path) -> io.BytesIO:
    """The archive with what was looked at and nothing else.

    Raises Untrusted, naming it, for an operator that is not known to be pure; ModelError for a file that is no archive.
    """
    try:
        records = _records(path)
    except Exception as error:  # zipfile and zlib raise whatever they meet in a damaged file
        raise ModelError(f"{path.name} is not a readable TorchScript file ({first_line(error)}).") from error
    sources = {name: _parsed(path, name, content) for name, content in records.items() if name.startswith("code/")}
    methods = {each.name for tree in sources.values() for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
    for tree in sources.values():
        for what in _strangers(tree, methods):
            _refuse(path, what)
    for name, content in records.items():
        if name.endswith(".pkl"):
            _check_objects(path, name, content)
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for name, content in records.items():
            # Written anew from its tree, torch's own reader of the language has nothing to read otherwise.
            text = f"{ast.unparse(sources[name])}\n".encode() if name in sources else content
            archive.writestr(f"checked/{name}", text)
    found.seek(0)
    return found


def _records(path: Path) -> dict[str, bytes]:
    """The parts of the archive that torch needs, by name."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos if info.compress_type != zipfile.ZIP_STORED) > _MOST:
            raise ValueError("it unpacks to more than any network's code takes")
        for info in infos:
            name = str(PurePosixPath(*PurePosixPath(info.filename).parts[1:]))
            if not _KEPT.fullmatch(name):
                continue  # what debuggers and other readers are told
            if name in found or ".." in name:
                raise ValueError(f"it has {shown(name)!r} twice, or outside")
            found[name] = archive.read(info)
    if missing := {"data.pkl", "constants.pkl"} - found.keys():
        raise ValueError(f"it has no {min(missing)}")
    if sum(len(content) for name, content in found.items() if _PROGRAM.fullmatch(name)) > _MOST:
        raise ValueError("its code is longer than any network's")
    return found


def _parsed(path: Path, name: str, content: bytes) -> ast.Module:
    try:
        return ast.parse(content.decode())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(
            f"{path.name} is not a readable TorchScript file ({shown(name)}: {first_line(error)})."
        ) from error


def _refuse(path: Path, what: str) -> None:
    raise Untrusted(
        f"{path.name} is a program that uses {shown(what)}, which is not known to be harmless, so it was not loaded; if you "
        f"trust the file, add --trust-code {shown(path, None)} to the command, or load it in Python by torch.jit.load."
    )


def _strangers(tree: ast.Module, methods: set[str]) -> Iterator[str]:
    """What the code names and is not known to be pure. ``methods`` are those of the archive's own classes."""
    inside = {id(each) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for each in ast.walk(f)}
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            yield f"the statement {type(node).__name__}"
        elif isinstance(node, ast.FunctionDef):
            yield from _of_function(node)
        elif isinstance(node, ast.ClassDef):
            yield from (f"the base {ast.unparse(base)}" for base in node.bases if ast.unparse(base) not in _BASES)
            yield from (f"the decorator {ast.unparse(each)}" for each in node.decorator_list)
        elif isinstance(node, ast.Attribute):
            yield from _of_path(node)
        elif isinstance(node, ast.Call):
            yield from _of_call(node, methods)
            if id(node) not in inside:
                yield "a call outside of functions"
        elif isinstance(node, ast.Name):
            if not node.id.isascii() or (isinstance(node.ctx, ast.Store) and node.id in _RESERVED - BUILTINS):
                yield f"the name {node.id}"
        elif isinstance(node, ast.arg | ast.keyword):
            if node.arg is not None and (not node.arg.isascii() or node.arg in _RESERVED - BUILTINS):
                yield f"the name {node.arg}"
        elif isinstance(node, ast.Constant):
            if not isinstance(node.value, str | int | float | complex | bool | None):
                yield f"a value of the kind {type(node.value).__name__}"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield "a text as a statement"


def _of_function(node: ast.FunctionDef) -> Iterator[str]:
    """Names that are called must be the archive's own functions, wherever they get their value."""
    yield from (f"the decorator {ast.unparse(each)}" for each in node.decorator_list)
    called = {each.func.id for each in ast.walk(node) if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)}
    given = {arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    own: set[str] = set()
    bound: list[str] = []
    for each in ast.walk(node):
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name) and _is_own(each.value):
            own.add(each.targets[0].id)
            bound += [target.id for target in each.targets[1:] if isinstance(target, ast.Name)]
        elif isinstance(each, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.comprehension):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            bound += [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    for name in sorted(called):
        if name in bound or name in given or name not in own | BUILTINS:
            yield f"the function {name}"
    if node.name in _RESERVED or (node.args.vararg or node.args.kwarg):
        yield f"the function {node.name}"


def _is_own(node: ast.expr) -> bool:
    """A function or class that the archive itself defines, by its full name."""
    parts = _dotted(node).split(".")
    return len(parts) > 1 and parts[0] == "__torch__"


def _of_path(node: ast.Attribute) -> Iterator[str]:
    """torch.NAME, ops.NAMESPACE.NAME, and classes that are written in C++."""
    if not node.attr.isascii():
        yield f"the name {node.attr}"
    path = _dotted(node)
    root, _, name = path.partition(".")
    if root == "torch" and not _is_pure(name):
        yield f"the operator {path}"
    if root == "ops" and name not in OTHERS and name not in {other.partition(".")[0] for other in OTHERS}:
        yield f"the operator {path.removeprefix('ops.')}"
    if path == "__torch__.torch.classes":
        yield "a class that is not written in TorchScript"
    if root in ("prim", "aten", "fork", "print"):
        yield f"the operator {path}"


def _of_call(node: ast.Call, methods: set[str]) -> Iterator[str]:
    """What is called: a builtin, a method, or a function of the archive (for which see ``_of_function``)."""
    if any(isinstance(each, ast.Starred) for each in node.args) or any(each.arg is None for each in node.keywords):
        yield "arguments with a star"
    match node.func:
        case ast.Name(id="getattr" | "hasattr"):
            named = node.args[1] if len(node.args) > 1 else None
            if not isinstance(named, ast.Constant) or not isinstance(named.value, str):
                yield "an attribute that is not named"
        case ast.Name() | ast.Attribute(value=ast.Name(id="torch")):
            pass
        case ast.Attribute() if _dotted(node.func).startswith(("__torch__.", "ops.")):
            pass
        case ast.Attribute(attr=name):
            # A method of a tensor is an operator; one of the archive's own that has the name of an operator could be either.
            if not (_is_pure(name) or (name in methods and name not in _operators())):
                yield f"the operator {name}"
        case _:
            yield f"a call of {ast.unparse(node.func)[:40]}"


def _is_pure(name: str) -> bool:
    return name in PURE or (name.endswith("_") and name[:-1] in PURE)


def _dotted(node: ast.expr) -> str:
    """``a.b.c`` of names alone; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


@cache
def _operators() -> frozenset[str]:
    """The names of all operators that torch has now, in any namespace."""
    return frozenset(schema.name.rpartition("::")[2] for schema in torch._C._jit_get_all_schemas())


def _check_objects(path: Path, name: str, content: bytes) -> None:
    """Only what torch itself writes is in a pickle. It is not unpickled."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name not in _OPCODES:
                _refuse(path, f"the instruction {opcode.name} of pickle, in {name},")
            text = argument if isinstance(argument, str) else ""
            if (opcode.name == "GLOBAL" and not _GLOBALS.fullmatch(text)) or "torch.classes" in text:
                _refuse(path, text.replace(" ", "."))
    except Untrusted:
        raise
    except Exception as error:  # pickletools raises whatever a damaged file makes of it
        raise ModelError(f"{path.name} is not a readable TorchScript file ({name}: {first_line(error)}).") from error

"""Odd numbers, paths, names and settings as options of the commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import click

from fuzzing.case import Box, Case, Wanted
from fuzzing.commands import Option, options

__all__ = ["names", "numbers", "paths", "settings"]

_REFUSED, _EITHER = Wanted("refused"), Wanted("either")
_LONG = "9" * 10_000

_NUMBERS = ("inf", "nan", "-inf", "-1", "0", "1e400", "1e-400", "1" + "0" * 20, _LONG, "abc", "", " ", "\0", "1\0", "1_0",
            "٣", "0x10", "1e3", "2.5", "--1", "1,2", "½", "1" * 400)  # fmt: skip
_NONSENSE = {"abc", "", " ", "\0", "1\0", "0x10", "--1", "1,2", "½", "nan", "1e400", _LONG}
_MAY_BE_NEGATIVE = {"--offset", "--start", "--end", "--focal", "--lam"}
_MAY_BE_ZERO = {"--seed", "--cell-mm", "--port", "--pictures", "--warmup", "--shift", "--validation", "--held-out", "--margin", "--expected",
                "--offset", "--weight-decay", "--momentum", "--ema", "--label-smoothing", "--lam", "--tv-weight", "--nps-weight",
                "--weight", "--end", "--gamma", "--clip-norm", "--checkpoint-every", "--speed", "--start", "--patience",
                "--eps"}  # fmt: skip
_RADII = ("inf", "nan", "-1", "1e400", "1e-400", "10" * 10, _LONG, "abc", "", "\0", "8/0", "8/255/3", "px", "%", "8pp", "1/1e400",
          "0/255", "-8/255", "8/255,,", ",", "8/255,nan", "1e5000", "٨/255")  # fmt: skip
_NUMERIC_TEXTS = {"RADIUS", "NUMBERS", "SHARE", "NUMBER|all"}


def _shown(value: str) -> str:
    return repr(value) if len(value) < 60 else f"{value[:12]!r} and so on, {len(value):,} characters"


def _is_number(option: Option) -> bool:
    return isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))


def _wanted(option: Option, text: str) -> Wanted:
    whole = isinstance(option.type, click.types.IntParamType)
    if text in _NONSENSE or (whole and text in ("inf", "-inf", "2.5", "1e3", "1e-400")):
        return _REFUSED
    if text in ("inf", "-inf"):
        return _REFUSED
    if text == "-1" and option.name not in _MAY_BE_NEGATIVE:
        return _REFUSED
    if text == "0" and option.name not in _MAY_BE_ZERO:
        return _REFUSED
    return _EITHER


def numbers() -> Iterator[Case]:
    """Odd numbers wherever a number is taken."""
    for option in options():
        if _is_number(option):
            for text in _NUMBERS:
                wanted = _wanted(option, text)
                if option.command.runs or wanted is _REFUSED:
                    yield Case(
                        "numbers", option.place, _shown(text), wanted, option.build(text), needs=option.command.needs
                    )
        elif option.shown in _NUMERIC_TEXTS or option.name == "--eps":
            for text in _RADII:
                fine = _EITHER if text in ("٨/255", "1e-400", "10" * 10, "inf", ",", "8/255,,", "0/255") else _REFUSED
                if (
                    text == "inf" and option.shown != "NUMBER|all" and option.command.name != "figure"
                ):  # up to the largest
                    fine = _REFUSED
                yield Case("numbers", option.place, _shown(text), fine, option.build(text), needs=option.command.needs)


def _missing(box: Box) -> object:
    return box.at / "missing" / "file"


def _folder(box: Box) -> object:
    (box.at / "a folder").mkdir()
    return box.at / "a folder"


def _file(box: Box) -> object:
    return box.write("a file", "no such thing\n")


def _below_file(box: Box) -> object:
    return box.write("a file", "no folder\n") / "below"


def _fifo(box: Box) -> object:
    os.mkfifo(box.at / "fifo")
    return box.at / "fifo"


def _dangling(box: Box) -> object:
    (box.at / "link").symlink_to(box.at / "nothing" / "here")
    return box.at / "link"


def _loop(box: Box) -> object:
    (box.at / "loop").symlink_to(box.at / "loop")
    return box.at / "loop"


def _unreadable(box: Box) -> object:
    path = box.write("closed", "nothing")
    path.chmod(0)
    return path


def _npy_named(box: Box) -> object:
    return box.write("folder.npz/inner.txt", "a folder with a file's name").parent


_READ: dict[str, Callable[[Box], object]] = {
    "missing": _missing, "a folder": _folder, "a text file": _file, "below a file": _below_file, "a FIFO": _fifo,
    "a dangling link": _dangling, "a link to itself": _loop, "/dev/zero": lambda box: box.device("zero"),
    "/dev/null": lambda box: box.device("null"), "/": lambda _: "/", "over-long": lambda _: "x" * 5000,
    "over-long, deep": lambda _: "x/" * 3000, "NUL": lambda _: "a\0b", "empty": lambda _: "", "not UTF-8": lambda _: "caf\udce9",
    "no read permission": _unreadable, "a folder named .npz": _npy_named, "..": lambda _: "..", "a newline": lambda _: "a\nb",
    "~nobody": lambda _: "~nobody-at-all/x",
}  # fmt: skip
_WRITE = {
    name: _READ[name]
    for name in ("below a file", "a FIFO", "a link to itself", "over-long", "over-long, deep", "NUL", "empty")
}
_WRITE |= {"a folder": _folder, "/proc": lambda _: "/proc/no/such", "/dev/null/x": lambda _: "/dev/null/x"}
_OUT = ("--out", "--save", "--figure", "--gif", "--save-study")
_READS_TEXT = ("--data", "--weights", "--model", "--held-out", "--start")
_MAY_BE_READ = {
    "a folder",
    "a text file",
    "/dev/null",
    "empty",
    "..",
    "no read permission",
    "missing",
    "a dangling link",
}


def paths() -> Iterator[Case]:
    """Odd paths wherever a path is taken, to be read or to be written."""
    for option in options():
        if option.name in _OUT or (option.command.name, option.name) in (("init", "file"), ("results merge", "into")):
            for given, value in _WRITE.items():
                strict = given not in ("a folder", "a FIFO", "empty")
                wanted = _REFUSED if strict or (given == "empty" and option.name == "--save") else _EITHER
                yield Case("paths", option.place, given, wanted, option.build(value), needs=option.command.needs)
        elif isinstance(option.type, click.Path) or option.name in _READS_TEXT:
            for given, value in _READ.items():
                wanted = _path_wanted(option, given)
                if option.command.runs or wanted is _REFUSED:
                    yield Case("paths", option.place, given, wanted, option.build(value), needs=option.command.needs)


def _path_wanted(option: Option, given: str) -> Wanted:
    if option.command.name == "init" or (given == "no read permission" and os.geteuid() == 0):
        return _EITHER
    if option.command.name == "serve" and given in _MAY_BE_READ | {
        "a folder named .npz",
        "/",
        "a newline",
        "not UTF-8",
        "~nobody",
    }:
        return _EITHER  # it waits for a store to come
    if option.name == "--weights" and option.command.name in ("train", "check", "drive", "photo", "sticker"):
        return _EITHER if given == "empty" else _REFUSED
    return _REFUSED


_ODD_NAMES = ("nothing", "", " ", "ünïcödé", "../x", "a" * 50_000, "\0", "\n", "os:system", "os:system:touch pwned", "x.py:f", "no.such.module:f",
              "os", "none+jpeg", ":", "+", ",", "@", "a=b", "-1", "1e400", "None", "nan", "%s%n", "{}", "${HOME}", "\u202e",
              "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "__class__", "*", "[", "\\", "'")  # fmt: skip
_FREE_NAMES = {"--only", "--variant", "--on-set", "--ray-address", "--track", "--host", "--filter", "key"}


def names() -> Iterator[Case]:
    """Odd names wherever a name is taken, with near misses."""
    for option in options():
        if (
            _is_number(option)
            or isinstance(option.type, click.Path)
            or option.shown in _NUMERIC_TEXTS
            or option.name == "--eps"
        ):
            continue
        if option.shown == "KEY=VALUE":
            continue
        for text in _ODD_NAMES:
            if option.command.name == "init" and option.name in ("--data", "--model"):
                continue  # paths: a study may name what comes later
            free = option.name in _FREE_NAMES or text in ("-1", "nan", "*", ",", "", " ", "+", "@", "None", "a=b")
            code = text.startswith("os") or text == "x.py:f"
            wanted = (
                _EITHER
                if free
                or code
                or (option.name == "--trust-code" and ":" in text)
                or option.name in ("--baseline", "--sort")
                else _REFUSED
            )
            if option.command.runs or wanted is _REFUSED:
                yield Case("names", option.place, _shown(text), wanted, option.build(text), needs=option.command.needs)


_SETTINGS = ("", "=", "=1", "a", "a=", "steps", "steps=", "steps=abc", "steps=2.5", "steps=1e400", "steps=-1", "steps=" + _LONG,
             "steps=nan", "nothing=1", "threat=8/255", "__class__=1", "classes=-1", "classes=" + "1" + "0" * 20, "size=0",
             "size=1000000", "size=abc", "split=nothing", "path=/dev/zero", "width=0", "width=abc", "model=filter", "\0=1", "a=\0",
             "seed=abc", "eps=inf", "direction=nothing", "loss=nothing", "targets=-1")  # fmt: skip


def settings() -> Iterator[Case]:
    """Odd settings, KEY=VALUE."""
    for option in options():
        if option.shown != "KEY=VALUE":
            continue
        for text in _SETTINGS:
            wanted = (
                _EITHER
                if option.name in ("--filter", "--model-set", "--data-set", "--denoiser-set") or text.startswith("loss")
                else _REFUSED
            )
            yield Case("settings", option.place, _shown(text), wanted, option.build(text), needs=option.command.needs)
